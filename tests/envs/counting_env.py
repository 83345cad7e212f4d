"""A tiny environment whose every number is known beforehand, and short ways to make sequences of it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from neoteny.envs import Task, TaskSequence

GO, TERMINATE, TRUNCATE, BOTH = range(4)


class Counting(gym.Env[np.ndarray, int]):
    """Observes (a number drawn at the reset, the episode, the step); the action says how the step ends.

    The reward is step + action / 10.
    """

    observation_space = gym.spaces.Box(0, 1000, (3,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def __init__(self) -> None:
        self.episode = -1

    def observe(self) -> np.ndarray:
        return np.array([self.drawn, self.episode, self.count], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.drawn = self.np_random.integers(1000)
        self.episode += 1
        self.count = 0
        return self.observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        ends = (action in (TERMINATE, BOTH), action in (TRUNCATE, BOTH))
        return self.observe(), self.count + action / 10, *ends, {}


class Nested(Counting):
    """Observes a dictionary, in float64."""

    observation_space = gym.spaces.Dict(  # type: ignore[assignment]
        b=gym.spaces.Box(0, 9, (2,), np.float64), a=gym.spaces.Box(-1, 1, (), np.float64)
    )

    def observe(self) -> Any:
        return {"b": np.array([self.episode, self.count], float), "a": np.array(0.25)}


ID = "Counting-v0"
for _id, _env in ((ID, Counting), ("Nested-v0", Nested)):
    if _id not in gym.registry:
        gym.register(_id, _env, disable_env_checker=True)


def sequence(*tasks: Task | str, steps: int = 100, **kwargs: Any) -> TaskSequence:
    """A sequence of tasks, or of environment ids that get ``steps`` each."""
    made = tuple(task if isinstance(task, Task) else Task(task, steps) for task in tasks)
    return TaskSequence(made, **kwargs)
