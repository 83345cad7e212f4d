"""What a shift is, what it is bound to, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError

Array = np.ndarray[Any, Any]


def identity(values: Array) -> Array:
    return values


def describe(space: Any) -> str:
    """A space in a few words."""
    if not isinstance(space, spaces.Box):
        return str(space)
    low, high = space.low.min(), space.high.max()
    return f"Box({'×'.join(map(str, space.shape)) or 'scalar'} {space.dtype}, {low:g} to {high:g})"


@dataclasses.dataclass
class Clock:
    """How long a visit has lasted: ``steps`` environment steps, summed over the parallel environments."""

    steps: int = 0

    def level(self, ramp: int) -> float:
        """How far a shift that grows over ``ramp`` steps has grown, from 0 to 1. Without a ramp it is there at once."""
        return min(1.0, self.steps / ramp) if ramp else 1.0


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a shift is bound.

    Attributes:
        observation_space: of one environment, as the shifts before this one have left it.
        action_space: of one environment.
        num_envs: how many environments run in parallel.
        rng: the visit's generator, for what defines the task: a permutation, an offset, a parameter that is drawn.
            The shifts of a task draw from it in their order.
        noise: the segment's generator, for chance at every step.
        clock: the visit's.
        parameter: reads a parameter of the environment by its name, raising ``ConfigError`` if there is none of that
            name, or if the backend cannot reach into its environments.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    num_envs: int
    rng: np.random.Generator
    noise: np.random.Generator
    clock: Clock
    parameter: Callable[[str], float]


@dataclasses.dataclass(frozen=True)
class Transform:
    """What a bound shift does; the leading axis of every array is the environment.

    None of the functions writes into what it is given.

    Attributes:
        observation: from what the environments show to what the agent sees.
        action: from what the agent chooses to what the environments do.
        reward: from what the environments give to what the agent gets.
        observation_space: that of one shifted observation, where it is another than before; it holds at every step of
            a ramp.
        parameters: what the environments' parameters should be now, by name.
        restart: is told in which environments an episode has just begun, by a mask of shape ``(num_envs,)``.
    """

    observation: Callable[[Array], Array] = identity
    action: Callable[[Array], Array] = identity
    reward: Callable[[Array], Array] = identity
    observation_space: spaces.Space[Any] | None = None
    parameters: Callable[[], dict[str, float]] | None = None
    restart: Callable[[Array], None] | None = None


class Shift:
    """The base of all shifts, which are frozen dataclasses.

    Attributes:
        name: what YAML calls it.
        needs_parameters: it needs a backend that can change the parameters of its environments.
    """

    name: ClassVar[str]
    needs_parameters: ClassVar[bool] = False
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def bind(self, site: Site) -> Transform:
        """The transform for one segment of a visit. The visit's segments bind with equal ``site.rng``.

        Raises:
            ConfigError: the shift does not fit the spaces, the backend or the environment.
        """
        raise NotImplementedError


def need_parameter(site: Site, setting: str, name: str) -> float:
    """The environment's own value of a parameter.

    Raises:
        ConfigError: it has none of that name, or the backend cannot tell; the message begins with ``setting``.
    """
    try:
        return site.parameter(name)
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error
