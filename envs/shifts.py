"""Shifts: what a task changes in what flows between the agent and its environment.

A shift is a small frozen dataclass; :meth:`Shift.bind` draws whatever it needs from the generator it is given and
returns the functions that transform whole vectors of observations, actions and rewards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from configs import ConfigError, build, choose

Array = np.ndarray[Any, Any]


def identity(values: Array) -> Array:
    return values


@dataclass(frozen=True)
class Transform:
    """What a bound shift does; the leading axis of every array is the environment."""

    observation: Callable[[Array], Array] = identity
    action: Callable[[Array], Array] = identity
    reward: Callable[[Array], Array] = identity


class Shift:
    """The base of all shifts. ``name`` is what YAML calls it."""

    name: ClassVar[str]
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def bind(self, observation_space: spaces.Space[Any], rng: np.random.Generator) -> Transform:
        """The transform for one visit to a task; all randomness comes from ``rng``.

        Raises:
            ConfigError: the shift does not fit the space.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class PermuteObservation(Shift):
    """The positions of an observation in a random order, the same for the whole task.

    An image of shape (height, width, channels) has its cells permuted, each cell keeping its channels together; a
    vector has its entries permuted. Every permuted observation lies in the space of the unpermuted ones.
    """

    name: ClassVar[str] = "permute-observation"

    def bind(self, observation_space: spaces.Space[Any], rng: np.random.Generator) -> Transform:
        if not isinstance(observation_space, spaces.Box) or not observation_space.shape:
            raise ConfigError(f"{self.name}: a Box observation is needed, the task has {observation_space}")
        shape = observation_space.shape
        channels = shape[-1] if len(shape) > 1 else 1
        low, high = (b.reshape(-1, channels) for b in (observation_space.low, observation_space.high))
        if (low != low[0]).any() or (high != high[0]).any():
            raise ConfigError(
                f"{self.name}: positions can only be exchanged where all have the same bounds; "
                f"the task has {observation_space}"
            )
        order = rng.permutation(len(low))

        def permute(observations: Array) -> Array:
            cells = observations.reshape(len(observations), -1, channels)
            return cells[:, order].reshape(observations.shape)

        return Transform(observation=permute)


SHIFTS: dict[str, type[Shift]] = {shift.name: shift for shift in (PermuteObservation,)}


def parse_shift(value: object) -> Shift:
    """A shift from YAML: its name, or a mapping of ``shift: name`` and its options."""
    if isinstance(value, Shift):
        return value
    options = {"shift": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    if "shift" not in options:
        raise ConfigError(f"a shift is a name or a mapping with the key 'shift', got {value!r}")
    name = str(options.pop("shift"))
    return build(choose("shift", name, SHIFTS), options, name)
