"""The EnvPool backend: environments in C++, stepped by a thread pool."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
from gymnasium import spaces

from neoteny.envs.backends.base import Sealed, Step, tidy
from neoteny.envs.shifts import Array
from neoteny.envs.suites import minigrid
from neoteny.envs.tasks import Task


@cache
def envpool_ids() -> frozenset[str]:
    """The ids of EnvPool's environments; empty if EnvPool is not installed."""
    try:
        import envpool
    except ImportError:
        return frozenset()
    return frozenset(envpool.list_all_envs())


def pool_limit(task: Task) -> Any:
    """The time limit of EnvPool's environment, in steps."""
    import envpool

    return envpool.make_spec(task.env, **task.kwargs).config.max_episode_steps


class EnvPoolBackend(Sealed):
    """Trajectories do not depend on the number of threads. Dict observations become one flat vector."""

    unchangeable = "EnvPool cannot change an environment's dynamics; choose backend: auto"
    unseen = "EnvPool does not render; choose backend: gymnasium"

    def __init__(self, task: Task, num_envs: int, seed: int, threads: int):
        import envpool

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # from Gymnasium, about spaces that tidy() fixes
            self._pool = envpool.make(
                task.env, env_type="gymnasium", num_envs=num_envs, seed=seed, num_threads=threads, **task.kwargs
            )
            space, actions = self._pool.observation_space, self._pool.action_space
        self._grid = "MiniGrid" in task.env or "BabyAI" in task.env
        if self._grid:
            self._missions = [""] * num_envs
            space = minigrid.cells(space["image"])
        elif isinstance(space, spaces.Dict):
            width = sum(math.prod(part.shape or ()) for part in space.values())
            space = spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.observation_space = tidy(space)
        self.action_space = tidy(actions)
        (self._action, wanted) = [*self._pool.spec.action_array_spec.items()][-1]
        self._action_dtype = wanted.dtype
        self._everyone = np.arange(num_envs, dtype=np.int32)

    def _observe(self, observation: Any) -> Array:
        if self._grid:
            return observation["image"]
        if isinstance(observation, dict):
            parts = [part.reshape(len(part), -1) for part in observation.values()]
            return np.concatenate(parts, axis=1, dtype=np.float32)
        return observation.astype(self.observation_space.dtype, copy=False)

    def _reset(self, rows: Array) -> Array:
        """New episodes in the environments ``rows``. A mission is read here: it lasts for the episode."""
        observation, _ = self._pool.reset(rows)
        if self._grid:
            for row, text in zip(rows, observation["mission"], strict=True):
                self._missions[row] = text.tobytes().split(b"\0", 1)[0].decode()
        return self._observe(observation)

    def reset(self) -> Array:
        return self._reset(self._everyone)

    def step(self, actions: Array) -> Step:
        # Without the ids EnvPool makes a copy of all its settings, which takes as long as a step of CartPole.
        everyone = {"env_id": self._everyone, "players.env_id": self._everyone}
        action = {self._action: actions.astype(self._action_dtype, order="C", copy=False)}
        observations, rewards, terminated, truncated, _ = self._pool.step(action | everyone)
        if self._grid:  # for a goal reached in the last allowed step, EnvPool sets only truncated
            terminated |= truncated & (rewards != 0)
        return Step(self._observe(observations), rewards, terminated, truncated)

    def reset_where(self, mask: Array, observations: Array) -> None:
        observations[mask] = self._reset(np.flatnonzero(mask).astype(np.int32))

    def missions(self) -> list[str] | None:
        return self._missions if self._grid else None

    def close(self) -> None:
        self._pool.close()
