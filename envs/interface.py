"""What stands between an agent and a backend during one visit to a task: its shifts, and the fit to shared spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError
from neoteny.envs.backends import Backend
from neoteny.envs.shifts import Array, Clock, Site, Transform, describe, identity
from neoteny.envs.spaces import SharedSpaces
from neoteny.envs.tasks import Task


class Interface:
    """The shifts of a task, bound to its environments.

    Observations go through the shifts in their order, then to the shared space; actions come from the shared space
    through the shifts in reverse, then to the actions that the task offers.

    Args:
        task: whose shifts these are.
        backend: the environments.
        num_envs: how many there are.
        rng: the visit's generator, for what defines the task.
        noise: the segment's generator, for what happens by chance in each step.

    Attributes:
        clock: set by whoever steps the environments.
        observation_space: after the shifts, before the fit.
        action_space: of the actions that the task offers.

    Raises:
        ConfigError: a shift does not fit the spaces or the backend, or an offered action does not exist.
    """

    def __init__(
        self, task: Task, backend: Backend, num_envs: int, rng: np.random.Generator, noise: np.random.Generator
    ):
        self._task = task
        self._backend = backend
        self.clock = Clock()
        self.observation_space = backend.observation_space
        self.action_space, self._offered = _offer(task, backend.action_space)
        self._transforms: list[Transform] = []
        for shift in task.shifts:
            site = Site(self.observation_space, self.action_space, num_envs, rng, noise, self.clock, backend.parameter)
            transform = shift.bind(site)
            self.observation_space = transform.observation_space or self.observation_space
            self._transforms.append(transform)
        self._fit_observation: Callable[[Array], Array] = identity
        self._fit_action: Callable[[Array], Array] = identity
        self._changing = [t.parameters for t in self._transforms if t.parameters]
        self._parameters: dict[str, float] = {}

    def fit(self, shared: SharedSpaces, task_id: int) -> None:
        """From now on, observations and actions are those of the shared spaces."""
        self._fit_observation = shared.observe(self.observation_space, task_id)
        self._fit_action = shared.act(self.action_space, self._task.noop)

    def observe(self, observations: Array) -> Array:
        for transform in self._transforms:
            observations = transform.observation(observations)
        return self._fit_observation(observations)

    def act(self, actions: Array) -> Array:
        actions = self._fit_action(actions)
        for transform in reversed(self._transforms):
            actions = transform.action(actions)
        return actions if self._offered is None else self._offered[actions]

    def reward(self, rewards: Array) -> Array:
        for transform in self._transforms:
            rewards = transform.reward(rewards)
        return rewards

    def restart(self, mask: Array) -> None:
        """Episodes begin where ``mask`` is true."""
        for transform in self._transforms:
            if transform.restart:
                transform.restart(mask)

    def adjust(self) -> None:
        """Bring the environments' dynamics to where they should be now."""
        if self._changing:
            wanted = {name: value for parameters in self._changing for name, value in parameters().items()}
            if wanted != self._parameters:
                self._backend.set_parameters(wanted)
                self._parameters = wanted


def _offer(task: Task, space: spaces.Space[Any]) -> tuple[spaces.Space[Any], Array | None]:
    """The space of the actions that the task offers, and which of the environment's they are."""
    if not task.actions:
        return space, None
    if not isinstance(space, spaces.Discrete):
        raise ConfigError(
            f"actions: some of several actions can only be offered of Discrete ones, {task.env} has {describe(space)}"
        )
    if beyond := [action for action in task.actions if action >= space.n]:
        raise ConfigError(f"actions: {task.env} has the actions 0 to {space.n - 1}, got {beyond[0]}")
    return spaces.Discrete(len(task.actions)), np.array(task.actions)
