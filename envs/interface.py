"""The layer between agent and backend during a visit to a task: its shifts, and the mapping to the shared spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError
from neoteny.envs.backends import Backend
from neoteny.envs.shifts import Array, Clock, Site, Transform, describe, identity
from neoteny.envs.spaces import SharedSpaces, mask_width
from neoteny.envs.tasks import Task


class Interface:
    """The shifts of a task, bound to its environments.

    Observations pass through the shifts in order, then are mapped to the shared space. Actions are mapped from the
    shared space, pass through the shifts in reverse order, and then select among the actions the task offers. Discrete
    ones are counted from 0, whatever the environment's first number is.

    Args:
        task: the task with the shifts.
        backend: the environments.
        num_envs: the number of environments.
        rng: the visit's generator, for everything that defines the task.
        noise: the segment's generator, for randomness at each step.
        run_seed: the seed of the run.
        visit: the index of the visit.

    Attributes:
        clock: advanced by the code that steps the environments.
        observation_space: after the shifts, before the mapping to the shared space.
        action_space: the space of the actions the task offers.

    Raises:
        ConfigError: a shift does not fit the spaces or the backend, or an offered action does not exist.
    """

    def __init__(
        self,
        task: Task,
        backend: Backend,
        num_envs: int,
        rng: np.random.Generator,
        noise: np.random.Generator,
        run_seed: int = 0,
        visit: int = 0,
    ):
        self._task = task
        self._backend = backend
        self.clock = Clock()
        self.observation_space, self._first_observation = from_zero(backend.observation_space)
        every, self._first_action = from_zero(backend.action_space)
        self.action_space, self._offered = _offer(task, every)
        self._transforms: list[Transform] = []
        for shift in task.shifts:
            seen, acts = self.observation_space, self.action_space
            site = Site(seen, acts, num_envs, rng, noise, self.clock, backend.parameter, run_seed, visit)
            transform = shift.bind(site)
            self.observation_space = transform.observation_space or self.observation_space
            self._transforms.append(transform)
        self._fit_observation: Callable[[Array], Array] = identity
        self._fit_action: Callable[[Array], Array] = identity
        self._shared_action: spaces.Space[Any] = self.action_space
        self._changing = [t.parameters for t in self._transforms if t.parameters]
        self._parameters: dict[str, float] = {}

    def fit(self, shared: SharedSpaces, task_id: int) -> None:
        """From now on, map observations and actions to and from the shared spaces."""
        self._fit_observation = shared.observe(self.observation_space, task_id)
        self._fit_action = shared.act(self.action_space, self._task.noop)
        self._shared_action = shared.action

    def observe(self, observations: Array) -> Array:
        if self._first_observation is not None:
            observations = np.subtract(observations, self._first_observation, dtype=np.int64)
        for transform in self._transforms:
            observations = transform.observation(observations)
        return self._fit_observation(observations)

    def act(self, actions: Array) -> Array:
        actions = self._fit_action(actions)
        for transform in reversed(self._transforms):
            actions = transform.action(actions)
        if self._offered is not None:
            actions = self._offered[actions]
        return actions if self._first_action is None else actions + self._first_action

    def masks(self, num_envs: int) -> Array:
        """The actions that the task has and the environments allow, (num_envs, actions of the shared space).

        Raises:
            ConfigError: the environments' masks do not fit their actions, or a shift does not map them.
        """
        own = self._backend.action_masks()
        every = np.ones((num_envs, mask_width(self.action_space)), bool)
        masks = every if own is None else self._own_masks(own)
        return np.pad(masks, ((0, 0), (0, mask_width(self._shared_action) - masks.shape[1])))

    def _own_masks(self, masks: Array) -> Array:
        """The environments' masks, as masks of the actions that the agent is offered."""
        width = mask_width(self._backend.action_space)
        if masks.shape[1:] != (width,):
            given = " x ".join(map(str, masks.shape[1:]))
            raise ConfigError(f"{self._task.env}: action_masks() has to give {width} entries, got {given}")
        if self._offered is not None:
            masks = masks[:, self._offered]
        for shift, transform in zip(self._task.shifts, self._transforms, strict=True):
            if transform.mask:
                masks = transform.mask(masks)
            elif transform.action is not identity:
                raise ConfigError(
                    f"{shift.name}: it maps actions, and {self._task.env} has action_masks(); say how masks map, "
                    f"Transform(mask=...)"
                )
        return masks

    def reward(self, rewards: Array) -> Array:
        for transform in self._transforms:
            rewards = transform.reward(rewards)
        return rewards

    def restart(self, mask: Array) -> None:
        """Notify the shifts that episodes begin where ``mask`` is true."""
        for transform in self._transforms:
            if transform.restart:
                transform.restart(mask)

    def adjust(self) -> None:
        """Set the environments' dynamics to their current values."""
        if self._changing:
            wanted = {name: value for parameters in self._changing for name, value in parameters().items()}
            if wanted != self._parameters:
                self._backend.set_parameters(wanted)
                self._parameters = wanted


def from_zero(space: spaces.Space[Any]) -> tuple[spaces.Space[Any], Any]:
    """The space with its numbers counted from 0, as agents have them, and its first number; None if that is 0."""
    start = getattr(space, "start", 0)
    if not np.any(start):
        return space, None
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n)), start
    assert isinstance(space, spaces.MultiDiscrete)
    return spaces.MultiDiscrete(space.nvec), start


def _offer(task: Task, space: spaces.Space[Any]) -> tuple[spaces.Space[Any], Array | None]:
    """The space of the actions the task offers, and the corresponding actions of the environment."""
    if not task.actions:
        return space, None
    if not isinstance(space, spaces.Discrete):
        raise ConfigError(
            f"actions: some of several actions can only be offered of Discrete ones, {task.env} has {describe(space)}"
        )
    if beyond := [action for action in task.actions if action >= space.n]:
        raise ConfigError(f"actions: {task.env} has the actions 0 to {space.n - 1}, got {beyond[0]}")
    return spaces.Discrete(len(task.actions)), np.array(task.actions)
