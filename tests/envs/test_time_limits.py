"""After how many steps an episode is cut, as a run says it, against environments that are stepped."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from neoteny.envs import Task
from neoteny.envs.backends import make_backend, time_limit


class Endless(gym.Env[Any, Any]):
    """Nothing happens."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float32), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, False, False, {}


gym.register("Endless-v0", Endless)
gym.register("Endless-v1", Endless, max_episode_steps=30)


@pytest.mark.parametrize(
    "task",
    [Task("Pendulum-v1", 1), Task("Pendulum-v1", 1, backend="gymnasium"), Task("Endless-v1", 1),
     Task("MiniGrid-Empty-5x5-v0", 1), Task("Pendulum-v1", 1, kwargs={"max_episode_steps": 20}, backend="envpool")],
    ids=lambda task: f"{task.env} {task.backend}",
)  # fmt: skip
def test_a_limit_is_the_one_that_cuts(task: Task) -> None:
    backend = make_backend(task, 1, 0)
    backend.reset()
    idle = np.zeros((1, *(backend.action_space.shape or ())), backend.action_space.dtype)
    steps = 1
    while not backend.step(idle).truncated[0]:
        steps += 1
        assert steps < 1000
    assert time_limit(task) == steps


def test_where_a_limit_is_not_known_nothing_is_said() -> None:
    assert time_limit(Task("Endless-v0", 1)) is None
    assert time_limit(Task("MiniGrid-Empty-5x5-v0", 1, backend="gymnasium")) is None


@pytest.mark.parametrize(("skip", "limit"), [(4, 27_000), (8, 13_500)])
def test_ataris_limit_is_in_steps_of_several_frames(skip: int, limit: int) -> None:
    assert time_limit(Task("Breakout-v5", 1, kwargs={"frame_skip": skip})) == limit
