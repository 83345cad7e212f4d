"""Missions beside the picture, whatever backend runs the environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from neoteny.configs import ConfigError
from neoteny.envs.backends.base import Backend, Step
from neoteny.envs.shifts import Array
from neoteny.envs.suites.minigrid import SPACE
from neoteny.envs.suites.missions import LENGTH, VOCABULARY, encode
from neoteny.envs.tasks import Task

CELLS = int(np.prod(SPACE.shape))

#: The entries of the cells, then the ids of the mission's words. The bounds say which is which.
WITH_MISSION = spaces.Box(
    low=0,
    high=np.concatenate([SPACE.high.ravel(), np.full(LENGTH, len(VOCABULARY), np.uint8)]),
    dtype=np.uint8,
)

#: How many episodes' missions are compared to find out whether they differ.
EPISODES = 16


class MissionBackend:
    """The environments of ``backend``, with the mission in the observation: a vector in :data:`WITH_MISSION`.

    Args:
        backend: runs MiniGrid environments.
        task: its ``mission`` is ``shown``; or ``blank``, and the ids are all 0.

    Raises:
        ConfigError: the environments have no mission.
    """

    def __init__(self, backend: Backend, task: Task):
        if backend.missions() is None:
            backend.close()
            raise ConfigError(f"mission: only MiniGrid's and BabyAI's environments have one, {task.env} has none")
        self._backend = backend
        self._task = task
        self.observation_space: spaces.Space[Any] = WITH_MISSION
        self.action_space = backend.action_space

    def _observe(self, cells: Array) -> Array:
        observations = np.zeros((len(cells), *WITH_MISSION.shape), np.uint8)
        observations[:, :CELLS] = cells.reshape(-1, CELLS)
        if self._task.mission == "shown":
            observations[:, CELLS:] = [encode(mission, self._task.env) for mission in self._backend.missions() or ()]
        return observations

    def missions(self) -> list[str] | None:
        return self._backend.missions()

    def reset(self) -> Array:
        return self._observe(self._backend.reset())

    def step(self, actions: Array) -> Step:
        step = self._backend.step(actions)
        return step._replace(observations=self._observe(step.observations))

    def reset_where(self, mask: Array, observations: Array) -> None:
        cells = observations[:, :CELLS].reshape(-1, *SPACE.shape)
        self._backend.reset_where(mask, cells)
        observations[mask] = self._observe(cells)[mask]

    def action_masks(self) -> Array | None:
        return self._backend.action_masks()

    def render(self) -> Sequence[Array]:
        return self._backend.render()

    def parameter(self, name: str) -> float:
        return self._backend.parameter(name)

    def set_parameters(self, values: Mapping[str, float]) -> None:
        self._backend.set_parameters(values)

    def close(self) -> None:
        self._backend.close()


def overlooked(task: Task, backend: Backend) -> str:
    """A complaint, if the missions of a task differ between episodes and the task does not say what is to be done.

    Args:
        task: the task.
        backend: its environments, which are reset up to :data:`EPISODES` times.
    """
    if task.mission is not None or backend.missions() is None:
        return ""
    found: set[str] = set()
    for _ in range(EPISODES):
        backend.reset()
        found.update(backend.missions() or ())
        if len(found) > 1:
            first, second = sorted(found)[:2]
            return (
                f"{task.env}: missions differ between episodes ({first!r}, {second!r}) and the agent does not see "
                "them; set the task's mission to shown, or to hidden if it can be done without"
            )
    return ""
