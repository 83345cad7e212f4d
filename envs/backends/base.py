"""The interface of backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from neoteny.envs.shifts import Array
from neoteny.envs.tasks import Task

Step = tuple[Array, Array, Array, Array]


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
        """Observations, rewards, terminated, truncated. When an episode ends, the observation is its last one."""

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

    def close(self) -> None: ...


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
