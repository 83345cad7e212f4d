"""The base class of shifts, what they are bound to, and the resulting transforms."""

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


def brief(value: Any) -> str:
    """A number, or several, in at most four digits each."""
    return f"{value:.4g}" if np.ndim(value) == 0 else "[" + ", ".join(map(brief, value)) + "]"


def describe(space: Any) -> str:
    """A short description of a space."""
    if not isinstance(space, spaces.Box):
        return str(space)
    low, high = space.low.min(), space.high.max()
    return f"Box({'×'.join(map(str, space.shape)) or 'scalar'} {space.dtype}, {low:g} to {high:g})"


@dataclasses.dataclass
class Clock:
    """The environment steps of a visit so far, summed over the parallel environments."""

    steps: int = 0

    def level(self, ramp: int) -> float:
        """The level, from 0 to 1, of a shift that grows over ``ramp`` steps. Without a ramp it is 1."""
        return min(1.0, self.steps / ramp) if ramp else 1.0


@dataclasses.dataclass(frozen=True)
class Site:
    """What a shift is bound to.

    Attributes:
        observation_space: of one environment, after the shifts before this one.
        action_space: of one environment.
        num_envs: number of parallel environments.
        rng: the visit's generator, for what defines the task: a permutation, an offset, a random parameter. The shifts
            of a task draw from it in their order.
        noise: the segment's generator, for randomness at each step.
        clock: the visit's clock.
        parameter: reads a parameter of the environment by name. Raises ``ConfigError`` if there is no such parameter,
            or if the backend cannot access it.
        run_seed: the seed of the run. What a shift draws from ``rng`` does not depend on it.
        visit: the index of the visit in the sequence.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    num_envs: int
    rng: np.random.Generator
    noise: np.random.Generator
    clock: Clock
    parameter: Callable[[str], float]
    run_seed: int = 0
    visit: int = 0


@dataclasses.dataclass(frozen=True)
class Transform:
    """The functions of a bound shift. The leading axis of every array is the environment.

    No function modifies its argument.

    Attributes:
        observation: maps the environments' observations to the agent's.
        action: maps the agent's actions to the environments'.
        reward: maps the environments' rewards to the agent's.
        observation_space: the space of one shifted observation, if it changes; valid at every step of a ramp.
        parameters: the current values of the environments' parameters, by name.
        mask: maps the masks of actions that the environments allow, (num_envs, actions), to masks of the agent's
            actions. Needed with ``action`` if an environment has masks.
        restart: called with a mask of shape ``(num_envs,)`` of the environments in which an episode has just started.
    """

    observation: Callable[[Array], Array] = identity
    action: Callable[[Array], Array] = identity
    reward: Callable[[Array], Array] = identity
    observation_space: spaces.Space[Any] | None = None
    parameters: Callable[[], dict[str, float]] | None = None
    mask: Callable[[Array], Array] | None = None
    restart: Callable[[Array], None] | None = None


class Shift:
    """The base of all shifts, which are frozen dataclasses.

    Attributes:
        name: its name in YAML.
        needs_parameters: whether it needs a backend that can change the environments' parameters.
    """

    name: ClassVar[str]
    needs_parameters: ClassVar[bool] = False
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def in_words(self, rng: np.random.Generator | None) -> tuple[str, bool]:
        """What the shift does in a visit, in a word or two for names of tasks, and whether that says all of it.

        Of a shift that draws something which the words do not say, the visits to a task are numbered. By default its
        name, as if it did.

        Args:
            rng: the visit's generator, as :meth:`bind` gets it; None if it is not known.
        """
        return self.name, False

    def bind(self, site: Site) -> Transform:
        """The transform for one segment of a visit. All segments of a visit bind with the same state of ``site.rng``.

        Raises:
            ConfigError: the shift does not fit the spaces, the backend or the environment.
        """
        raise NotImplementedError


def need_parameter(site: Site, setting: str, name: str) -> float:
    """The environment's own value of a parameter.

    Raises:
        ConfigError: there is no such parameter, or the backend cannot read it. The message begins with ``setting``.
    """
    try:
        return site.parameter(name)
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error
