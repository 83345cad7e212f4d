"""What a backend is: a vector of equal environments that are reset by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from neoteny.envs.shifts import Array
from neoteny.envs.tasks import Task

Step = tuple[Array, Array, Array, Array]


class Backend(Protocol):
    """A vector of equal environments that are reset by hand.

    It never resets by itself: EnvPool, left alone, would spend the step after an ending on the reset and ignore that
    step's action, and a learner would see a transition that never happened.

    Observations of floats are float32. Bounds that an environment does not know are infinite.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]

    def __init__(self, task: Task, num_envs: int, seed: int, threads: int): ...

    def reset(self) -> Array:
        """The first observations of new episodes in all environments."""

    def step(self, actions: Array) -> Step:
        """Observations, rewards, terminated, truncated. The observation of an ended episode is its last one."""

    def reset_where(self, mask: Array, observations: Array) -> None:
        """Begin new episodes where ``mask`` is true, writing their first observations into ``observations``."""

    def parameter(self, name: str) -> float:
        """A parameter of the environments' dynamics, as it is now.

        Raises:
            ConfigError: there is none of this name, or this backend cannot reach it.
        """

    def set_parameters(self, values: Mapping[str, float]) -> None:
        """Change the dynamics of all environments."""

    def close(self) -> None: ...


def tidy(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A Box of floats as float32, with infinite bounds where the environment gave the limits of its number type."""
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        return space
    limits = np.finfo(np.float32)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    least = np.finfo(space.dtype).tiny  # what C++ calls the minimum of a type: its least positive number
    unknown = (high >= limits.max) & ((low == least) | (low <= limits.min))
    low = np.where(unknown | (low <= limits.min), -np.inf, low).astype(np.float32)
    high = np.where(high >= limits.max, np.inf, high).astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)
