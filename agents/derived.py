"""The settings of an algorithm that has no dataclass of them: what its constructor takes."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any, ClassVar, Union, get_args, get_type_hints

from pydantic.dataclasses import dataclass
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy

from neoteny.agents.config import STRICT, AgentConfig
from neoteny.agents.continual import Continual
from neoteny.agents.networks import ActorCritic, QPolicy, SoftActorCritic
from neoteny.agents.optimizers import OptimizerSetting
from neoteny.agents.recurrent_ppo import RecurrentActorCritic
from neoteny.agents.saving import TRANSIENT, Saved
from neoteny.agents.switch import AtSwitch, ReplayAtSwitch
from neoteny.configs import ConfigError

#: Ours for stable-baselines3's and sb3-contrib's: the same networks, with an encoder that fits the observations.
POLICIES: dict[type, type] = {
    ActorCriticPolicy: ActorCritic,
    DQNPolicy: QPolicy,
    SACPolicy: SoftActorCritic,
    RecurrentActorCriticPolicy: RecurrentActorCritic,
}

#: What a setting may be.
PLAIN = (bool, int, float, str)

#: What the run sets, and what does not bear on what is learned.
NOT_SETTINGS = {*TRANSIENT, "policy", "policy_kwargs", "seed", "verbose", "stats_window_size"}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DerivedConfig(AgentConfig):
    """Settings of an algorithm, named as its constructor names them. Its own optimizer is the default."""

    optimizer: OptimizerSetting | None = None

    def arguments(self) -> dict[str, Any]:
        found = super().arguments()
        taken = _constructor(type(self).algorithm)  # type: ignore[attr-defined]
        return {name: value for name, value in found.items() if name in taken or name in ("policy", "at_switch")}


def config_of(algorithm: type[Continual]) -> type[AgentConfig]:
    """The dataclass of an algorithm's settings: its ``Config`` or, if it has none, one made from its constructor.

    Raises:
        ConfigError: it neither collects rollouts nor has a replay buffer, so that nobody knows when it learns.
    """
    found: type[AgentConfig] = getattr(algorithm, "Config", None) or _derive(algorithm)
    return found


@functools.cache
def _derive(algorithm: type[Continual]) -> type[AgentConfig]:
    if not issubclass(algorithm, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
        raise ConfigError(
            f"agent.algorithm: {algorithm.__name__} is neither on-policy nor off-policy; "
            f"give it a Config, a subclass of AgentConfig with rollout_length"
        )
    general = get_type_hints(AgentConfig, include_extras=True)
    switch = algorithm.SwitchPolicy or (ReplayAtSwitch if issubclass(algorithm, OffPolicyAlgorithm) else AtSwitch)
    types: dict[str, Any] = {"policy": ClassVar[Any], "algorithm": ClassVar[type], "at_switch": switch}
    defaults: dict[str, Any] = {"policy": _policy(algorithm), "algorithm": algorithm, "at_switch": switch()}
    for name, parameter in _constructor(algorithm).items():
        if name not in NOT_SETTINGS and (kind := _plain(parameter)) is not None:
            types[name], defaults[name] = general.get(name, kind), parameter.default
    listed = re.findall(r":param (\w+): (.*?)(?=\n\s*:|\n\s*\n|$)", inspect.getdoc(_stock(algorithm)) or "", re.DOTALL)
    documented = [
        f"    {name}: {' '.join(text.split())}" for name, text in listed if name in types.keys() - NOT_SETTINGS
    ]
    documented.append("    at_switch: what happens when the task switches.")
    text = "\n".join([f"Settings of {algorithm.__name__}.", "", "Attributes:", *documented])
    made = type(
        f"{algorithm.__name__}Config", (DerivedConfig,), {"__doc__": text, "__annotations__": types, **defaults}
    )
    return dataclass(made, frozen=True, config=STRICT, kw_only=True)  # type: ignore[return-value]


def _constructor(algorithm: type) -> dict[str, inspect.Parameter]:
    """What the constructor takes, by name: the algorithm's own, and those that it hands arguments on to."""
    found: dict[str, inspect.Parameter] = {}
    for cls in algorithm.__mro__:
        if "__init__" not in vars(cls) or cls is Continual:
            continue
        taken = inspect.signature(cls.__init__, eval_str=False).parameters  # type: ignore[misc]
        found = dict(taken) | found
        if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            break
    return {name: p for name, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _stock(algorithm: type) -> type:
    """The algorithm behind the mixin."""
    return next(cls for cls in algorithm.__mro__ if not issubclass(cls, Saved))


def _plain(parameter: inspect.Parameter) -> Any:
    """The part of a parameter's type that YAML can say; None if there is none, or no default."""
    kinds = [kind for kind in (get_args(parameter.annotation) or (parameter.annotation,)) if kind in PLAIN]
    if type(parameter.default) in PLAIN and not kinds:
        kinds = [type(parameter.default)]
    if not kinds or not (parameter.default is None or type(parameter.default) in PLAIN):
        return None
    return Union[tuple(kinds + ([type(None)] if parameter.default is None else []))]  # noqa: UP007


def _policy(algorithm: type[BaseAlgorithm]) -> Any:
    """The policy for observations that are vectors, ours if there is one; by its alias where it is the algorithm's."""
    aliases = algorithm.policy_aliases
    alias = next((name for name in aliases if name.startswith("Mlp")), next(iter(aliases)))
    return POLICIES.get(aliases[alias], alias)
