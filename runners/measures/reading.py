"""What an agent's networks say in a batch of the states that it has met, without changing anything of it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn
from torch.distributions import Distribution

from neoteny.agents.supervised import Examples, Learner


@dataclass
class Batch:
    """States that an agent has met, and what it did there.

    Attributes:
        observations: as its networks get them: (states, …), or a dict of such.
        actions: (states, …), as its networks get them.
        actor: what else the actor is told: states of an LSTM, action masks.
        critic: what else the critic is told.
    """

    observations: Any
    actions: Tensor
    actor: dict[str, Any] = field(default_factory=dict)
    critic: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


@dataclass
class Outputs:
    """What the networks say in a batch. What an agent does not have is None.

    Attributes:
        policy: the distributions of the actions; several, where actions have independent parts.
        squashed: whether tanh follows a sample of ``policy``.
        actions: of an actor that says an action, (states, dimensions).
        preferences: for each of some discrete actions, logits or values, (states, actions).
        value: V(s), or Q(s, a) of the action taken, (states).
        loss: of a network that learns from examples, of each of them, (states).
        score: whose gradients are the actor's per-sample gradients, (states): log π(a|s) of the action taken; where the
            algorithm does not use it, the sum of the entries of the mean action.
    """

    policy: Sequence[Distribution] | None = None
    squashed: bool = False
    actions: Tensor | None = None
    preferences: Tensor | None = None
    value: Tensor | None = None
    score: Tensor | None = None
    loss: Tensor | None = None


@functools.singledispatch
def outputs(policy: Any, batch: Batch) -> Outputs:
    """What ``policy``, one of stable-baselines3 or sb3-contrib, says in ``batch``. Register other kinds by their class.

    Raises:
        NotImplementedError: it is of a kind that is not known.
    """
    raise NotImplementedError(f"a {type(policy).__name__} is none of the policies that can be read")


@outputs.register(BasePolicy)
def _unknown(policy: Any, batch: Batch) -> Outputs:
    raise NotImplementedError(f"a {type(policy).__name__} is none of the policies that can be read")


@outputs.register(nn.Module)
def _of_examples(network: nn.Module, batch: Batch) -> Outputs:
    return Outputs(loss=Examples(batch.observations, batch.actions).losses(network(batch.observations)))


@outputs.register(ActorCriticPolicy)
@outputs.register(MaskableActorCriticPolicy)
@outputs.register(RecurrentActorCriticPolicy)
def _actor_critic(policy: Any, batch: Batch) -> Outputs:
    distribution = policy.get_distribution(batch.observations, **batch.actor)
    if isinstance(distribution, tuple):  # beside states of an LSTM
        distribution = distribution[0]
    discrete = isinstance(policy.action_space, spaces.Discrete)
    actions = batch.actions.long().flatten() if discrete else batch.actions
    parts = _parts(distribution)
    return Outputs(
        parts,
        squashed=policy.squash_output,
        preferences=parts[0].logits if discrete else None,  # type: ignore[attr-defined]
        value=policy.predict_values(batch.observations, **batch.critic).flatten(),
        score=distribution.log_prob(actions),
    )


def _parts(distribution: Any) -> list[Distribution]:
    """Torch's distributions behind one of stable-baselines3's."""
    found = distribution.distributions if hasattr(distribution, "distributions") else distribution.distribution
    return list(found) if isinstance(found, (list, tuple)) else [found]


@outputs.register
def _values(policy: DQNPolicy, batch: Batch) -> Outputs:
    return _greedy(policy.q_net(batch.observations), batch)


@outputs.register
def _quantiles(policy: QRDQNPolicy, batch: Batch) -> Outputs:
    return _greedy(policy.quantile_net(batch.observations).mean(1), batch)


def _greedy(values: Tensor, batch: Batch) -> Outputs:
    taken = batch.actions.long().reshape(-1, 1)
    return Outputs(preferences=values, value=values.gather(1, taken)[:, 0])


@outputs.register(SACPolicy)
@outputs.register(TQCPolicy)
@outputs.register(CrossQPolicy)
def _soft(policy: Any, batch: Batch) -> Outputs:
    mean, log_std, more = policy.actor.get_action_dist_params(batch.observations)
    distribution = policy.actor.action_dist.proba_distribution(mean, log_std, **more)
    return Outputs(_parts(distribution), squashed=True, value=_critics(policy, batch), score=mean.sum(1))


@outputs.register
def _deterministic(policy: TD3Policy, batch: Batch) -> Outputs:
    actions = policy.actor(batch.observations)
    return Outputs(actions=actions, value=_critics(policy, batch), score=actions.sum(1))


def _critics(policy: Any, batch: Batch) -> Tensor:
    """The mean over all critics, and over quantiles."""
    found = policy.critic(batch.observations, batch.actions)
    values = torch.cat([each.flatten(1) for each in found], 1) if isinstance(found, (tuple, list)) else found.flatten(1)
    return values.mean(1)


@contextmanager
def evaluating(policy: Any) -> Iterator[None]:
    """Within it the networks are in evaluation mode. After it modes and distributions are as before."""
    modules = list(policy.modules())
    modes = [module.training for module in modules]
    held = [part for module in modules if (part := vars(module).get("action_dist")) is not None]
    drawn = [copy.copy(vars(part)) for part in held]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for part, values in zip(held, drawn, strict=True):
            vars(part).clear()
            vars(part).update(values)


def draw(agent: Any, size: int, rng: np.random.Generator) -> Batch | None:
    """States at random from the last rollout, before it is learned from, or from the replay buffer; or examples.

    Args:
        agent: whose buffer is read, or the examples of whose task.
        size: how many, or as many as there are.
        rng: draws them.

    Returns:
        The batch; None if there is no buffer, or nothing in it.
    """
    if isinstance(agent, Learner):
        if agent.examples is None:
            return None
        places = rng.choice(len(agent.examples), min(size, len(agent.examples)), replace=False, shuffle=False)
        chosen = torch.as_tensor(places, device=agent.device)
        return Batch(agent.examples.inputs[chosen], agent.examples.targets[chosen])
    buffer: Any = getattr(agent, "rollout_buffer", None) or getattr(agent, "replay_buffer", None)
    if buffer is None:
        return None
    rows = buffer.buffer_size if buffer.full else buffer.pos
    count = rows * buffer.n_envs
    if not count or getattr(buffer, "generator_ready", False):
        return None
    chosen = rng.choice(count, min(size, count), replace=False, shuffle=False)
    return at(agent, chosen // buffer.n_envs, chosen % buffer.n_envs)


def at(agent: Any, rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any], after: bool = False) -> Batch:
    """The states at these steps of these environments in the agent's buffer.

    Args:
        agent: whose buffer is read.
        rows, columns: the steps and the environments, (states) each.
        after: the states that followed, of a replay buffer.
    """
    device = agent.device
    if getattr(agent, "rollout_buffer", None) is None:
        buffer = agent.replay_buffer
        seen = buffer.observations
        if after and buffer.optimize_memory_usage:
            rows = (rows + 1) % buffer.buffer_size
        elif after:
            seen = buffer.next_observations
        found = buffer._normalize_obs(_take(seen, rows, columns), agent._vec_normalize_env)
        return Batch(obs_as_tensor(found, device), torch.as_tensor(buffer.actions[rows, columns], device=device))
    buffer = agent.rollout_buffer
    found = obs_as_tensor(_take(buffer.observations, rows, columns), device)
    batch = Batch(found, torch.as_tensor(buffer.actions[rows, columns].astype(np.float32), device=device))
    if hasattr(buffer, "action_masks"):
        batch.actor["action_masks"] = buffer.action_masks[rows, columns]
    if hasattr(buffer, "hidden_states_pi"):
        starts = torch.as_tensor(buffer.episode_starts[rows, columns], device=device)
        for of, role in ((batch.actor, "pi"), (batch.critic, "vf")):
            states = (getattr(buffer, f"{kind}_states_{role}")[rows, :, columns] for kind in ("hidden", "cell"))
            of["lstm_states"] = tuple(torch.as_tensor(s, device=device).transpose(0, 1).contiguous() for s in states)
            of["episode_starts"] = starts
    return batch


def _take(seen: Any, rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any]) -> Any:
    if isinstance(seen, dict):
        return {key: array[rows, columns] for key, array in seen.items()}
    return seen[rows, columns]
