"""The parts of an agent's networks: heads and torsos of actor and critic, and encoders."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from neoteny.agents import Continual
from neoteny.plasticity.survey import survey

#: What makes the name of a target network out of that of the network it follows.
TARGET = re.compile(r"_target(?=\.|$)")

PARTS = ("actor-head", "critic-head", "actor-torso", "critic-torso", "encoder")


def tensors(agent: Continual) -> dict[str, Tensor]:
    """The parameters and buffers of an agent's policy by name, target networks included; a shared one once."""
    return {**dict(agent.policy.named_parameters()), **dict(agent.policy.named_buffers())}


def followed(name: str, names: Iterable[str]) -> str:
    """The weight that the weight ``name`` of a target network follows; ``name`` itself, if it follows none."""
    twin = TARGET.sub("", name)
    return twin if twin in names else name


def head_layers(agent: Continual) -> set[str]:
    """The names of the output layers, as methods with ``heads: exempt`` see them."""
    found = {
        name: survey(agent.policy, optimizer, "exempt", None, agent._heads_of(optimizer)).heads
        for name, optimizer in agent.optimizers().items()
    }
    return {name for heads in found.values() for name in heads}


def encoders(agent: Continual) -> list[str]:
    """The names of stable-baselines3's features extractors, whoever uses them."""
    return [name for name, module in agent.policy.named_modules() if isinstance(module, BaseFeaturesExtractor)]


def parts(agent: Continual) -> dict[str, list[str]]:
    """The names of :func:`tensors` by the part they are in; parts that an agent lacks are missing.

    Heads are :meth:`Continual.heads`, and parameters of the policy itself, such as ``log_std``. Roles are
    :meth:`Continual.role`. All else outside of encoders is torso, recurrent layers included. A target network's weights
    are in the part of those that they follow. A part without a parameter is no part.
    """
    heads, everything = head_layers(agent), tensors(agent)
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in everything:
        twin = followed(name, everything)
        module = twin.rpartition(".")[0]
        if any(f"{module}.".startswith(f"{encoder}.") for encoder in encoders(agent)):
            part = "encoder"
        else:
            part = f"{agent.role(twin)}-{'head' if module in heads or not module else 'torso'}"
        found[part].append(name)
    trained = {name for name, _ in agent.policy.named_parameters()}
    return {part: names for part, names in found.items() if trained & {*names}}
