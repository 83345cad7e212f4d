"""The interface of backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError
from neoteny.envs.shifts import Array
from neoteny.envs.tasks import Task


class Step(NamedTuple):
    """A step of ``num_envs`` environments. When an episode ends, the observation is its last one.

    Attributes:
        observations: (num_envs, ...).
        rewards: those meant for the agent, (num_envs); in Atari often clipped.
        terminated: (num_envs), bool.
        truncated: (num_envs), bool.
        own_rewards: those that the game counts, (num_envs); None if they are :attr:`rewards`.
        games_over: where not just the episode (a life) but the game is over, (num_envs); None if wherever an episode
            is.
        success: where the task is solved in this step, (num_envs); None if the environment does not say it.
    """

    observations: Array
    rewards: Array
    terminated: Array
    truncated: Array
    own_rewards: Array | None = None
    games_over: Array | None = None
    success: Array | None = None


class Backend(Protocol):
    """A vector of identical environments without autoreset.

    The caller resets. With EnvPool's autoreset, the step after the end of an episode would be the reset and ignore its
    action, so the agent would see a transition that never happened.

    Float observations are float32. Unknown bounds are infinite.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, task: Task, num_envs: int, seed: int, threads: int): ...

    def reset(self) -> Array:
        """Start new episodes in all environments. Returns their first observations."""

    def step(self, actions: Array) -> Step:
        """Step all environments. What happened in :meth:`reset_where` since the step before counts as part of it."""

    def reset_where(self, mask: Array, observations: Array) -> None:
        """Start new episodes where ``mask`` is true, and write their first observations into ``observations``."""

    def missions(self) -> list[str] | None:
        """The text that each environment shows beside its last observation; None if it is no MiniGrid."""

    def action_masks(self) -> Array | None:
        """Which actions each environment allows next, (num_envs, actions), if the environments say that themselves."""

    def parameter(self, name: str) -> float:
        """The current value of a parameter of the environments' dynamics.

        Raises:
            ConfigError: there is no such parameter, or this backend cannot access it.
        """

    def set_parameters(self, values: Mapping[str, float]) -> None:
        """Change the dynamics of all environments."""

    def render(self) -> Sequence[Array]:
        """A frame of each environment, if the task's ``kwargs`` have a ``render_mode``."""

    def close(self) -> None: ...


class Sealed:
    """The part of a backend that is the same where the environments cannot be looked into.

    Attributes:
        unchangeable: why their dynamics cannot be changed, and what to do.
        unseen: why there are no frames of them, and what to do.
    """

    unchangeable: ClassVar[str]
    unseen: ClassVar[str]

    def missions(self) -> list[str] | None:
        return None

    def action_masks(self) -> Array | None:
        return None

    def parameter(self, name: str) -> float:
        raise ConfigError(f"{name}: {self.unchangeable}")

    def set_parameters(self, values: Mapping[str, float]) -> None:
        self.parameter(next(iter(values)))

    def render(self) -> Sequence[Array]:
        raise ConfigError(f"render_mode: {self.unseen}")


def tidy(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A float Box as float32, with infinite bounds where the environment uses the limits of its dtype."""
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return space
    limits = np.finfo(np.float32)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    least = np.finfo(space.dtype).tiny  # C++'s minimum of a float type: its smallest positive number
    unknown = (high >= limits.max) & ((low == least) | (low <= limits.min))
    low = np.where(unknown | (low <= limits.min), -np.inf, low).astype(np.float32)
    high = np.where(high >= limits.max, np.inf, high).astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)
