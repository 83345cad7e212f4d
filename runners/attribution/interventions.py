"""Interventions: each makes one thing of an agent fresh, and leaves all else as it is.

What is fresh comes from an agent that was newly made with the same settings, so that any network and any initialization
works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from neoteny.agents import Continual
from neoteny.plasticity.resets.units import forget_
from neoteny.runners.attribution.parts import PARTS, parts, tensors
from neoteny.runners.attribution.spectra import fresh_vectors, rescaled


class NotThereError(ValueError):
    """The agent lacks what an intervention would make fresh. The message says what."""


class Intervention(NamedTuple):
    """What is done to an agent before it learns a task.

    Attributes:
        about: what is fresh, in a few words.
        act: changes the first agent, given a newly made one.
    """

    about: str
    act: Callable[[Continual, Continual], None]


def nothing(agent: Continual, fresh: Continual) -> None:
    """Leave the agent as it is."""


def make_fresh(*names: str) -> Callable[[Continual, Continual], None]:
    """The intervention that makes these :data:`~neoteny.runners.attribution.parts.PARTS` fresh."""

    def act(agent: Continual, fresh: Continual) -> None:
        there = parts(agent)
        if absent := [name for name in names if name not in there]:
            raise NotThereError(f"it has no {absent[0]} with weights of its own")
        new = tensors(fresh)
        replace_(agent, {name: new[name] for part in names for name in there[part]})
        follow_(agent, fresh, [name for part in names for name in there[part]])

    return act


@torch.no_grad()
def replace_(agent: Continual, values: dict[str, torch.Tensor]) -> None:
    """Write new values into weights of the policy, by name, and clear the state that optimizers have of them.

    Moments and step counts become 0, and with TRAC the new weights are the reference, as in a new agent.
    """
    mine = tensors(agent)
    for name, value in values.items():
        mine[name].copy_(value)
        for optimizer in agent.optimizers().values():
            forget_(optimizer, mine[name])


def follow_(agent: Continual, fresh: Continual, names: Collection[str]) -> None:
    """Give methods the fresh agent's state of the layers that ``names`` are in: initial weights, singular vectors, …"""
    modules = sorted({re.escape(name.rpartition(".")[0]) for name in names} - {""})
    if not modules:
        return
    of_them = re.compile(rf"(^|[.'])({'|'.join(modules)})($|[.'])")
    for key, method in agent.methods.items():
        state, new = method.state_dict(), fresh.methods[key].state_dict()
        taken = {k: new[k] for k in state.keys() & new.keys() if of_them.search(k) and state[k].shape == new[k].shape}
        method.load_state_dict(state | taken)


def optimizer(agent: Continual, fresh: Continual) -> None:
    """Clear the state of all optimizers."""
    if not agent.optimizers():
        raise NotThereError("it learns without an optimizer")
    agent.reset_optimizer()


def replay(agent: Continual, fresh: Continual) -> None:
    """Empty the replay buffer; learning waits for ``learning_starts`` new steps, with random actions."""
    if not isinstance(agent, OffPolicyAlgorithm):
        raise NotThereError("it has no replay buffer")
    agent.clear_replay()


def normalization(agent: Continual, fresh: Continual) -> None:
    """Reset the running statistics of observations and rewards."""
    if agent.get_vec_normalize_env() is None:
        raise NotThereError("it normalizes nothing")
    agent.reset_normalization()


def coefficients(agent: Continual, fresh: Continual) -> None:
    """Take the fresh agent's trained variables outside of networks, as SAC's entropy coefficient.

    The optimizer's state of them is cleared.
    """
    modules, variables = agent._get_torch_save_params()
    loose = {name: getattr(agent, name) for name in variables if isinstance(getattr(agent, name), torch.Tensor)}
    trained = {name: tensor for name, tensor in loose.items() if tensor.requires_grad}
    if not trained:
        raise NotThereError("it trains nothing outside of its networks")
    optimizers = [o for name in modules if isinstance(o := getattr(agent, name, None), torch.optim.Optimizer)]
    for name, tensor in trained.items():
        tensor.data.copy_(getattr(fresh, name))
        for each in optimizers:
            forget_(each, tensor)


def of_spectra(change: Callable[[Continual, Continual], dict[str, torch.Tensor]]) -> Callable[..., None]:
    """The intervention that writes what ``change`` makes of the hidden layers. Methods look at the new weights."""

    def act(agent: Continual, fresh: Continual) -> None:
        values = change(agent, fresh)
        if not values:
            raise NotThereError("it has no hidden layer")
        replace_(agent, values)
        for method in agent.methods.values():
            method.weights_replaced()

    return act


#: By name, in the order of tables. What ``everything`` learns with is a fresh agent, see :func:`learn_after`.
INTERVENTIONS: dict[str, Intervention] = {
    "nothing": Intervention("the agent as it is", nothing),
    **{part: Intervention(part.replace("-", "'s "), make_fresh(part)) for part in PARTS[:2]},
    "heads": Intervention("both heads", make_fresh("actor-head", "critic-head")),
    **{part: Intervention(part.replace("-", "'s "), make_fresh(part)) for part in PARTS[2:4]},
    "torsos": Intervention("both torsos", make_fresh("actor-torso", "critic-torso")),
    "encoder": Intervention("encoder", make_fresh("encoder")),
    "optimizer": Intervention("optimizers' state", optimizer),
    "replay": Intervention("replay buffer, empty", replay),
    "normalization": Intervention("running statistics", normalization),
    "coefficients": Intervention("entropy coefficient", coefficients),
    "rescale": Intervention("hidden layers' σ₁; vectors and ratios are old", of_spectra(rescaled)),
    "spectrum": Intervention("hidden layers' singular vectors; values are old", of_spectra(fresh_vectors)),
    "everything": Intervention("a fresh agent", nothing),
}
