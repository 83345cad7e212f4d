"""Procgen in EnvPool: a level is a task, whoever plays it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neoteny import configs
from neoteny.envs import ConfigError, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.backends import make_backend

pytest.importorskip("envpool")
try:
    make_backend(Task("StarpilotEasy-v0", 1), 1, 0).close()
except ConfigError as error:
    if "system package" not in str(error):
        raise
    pytest.skip(str(error), allow_module_level=True)

LEVELS = [name for name in configs.names("envs") if name.startswith("procgen-levels-")]


@pytest.mark.parametrize("name", LEVELS)
def test_each_task_is_one_level_for_all_environments_and_runs(name: str) -> None:
    sequence = TaskSequence.load(name)
    envs = [ContinualVectorEnv(sequence, 3, seed=seed) for seed in (0, 1)]
    assert envs[0].single_observation_space.shape == (3, 64, 64)
    firsts = []
    for index in range(10):
        starts = [env.start(index) for env in envs]
        assert all((picture == starts[0][0]).all() for start in starts for picture in start)
        firsts.append(starts[0][0].copy())
    for env in envs:
        env.close()
    assert len({picture.tobytes() for picture in firsts}) == 10


def test_cora_draws_from_many_levels() -> None:
    env = ContinualVectorEnv(TaskSequence.load("procgen-seq"), 16, seed=0)
    starts = env.start(0)
    assert len({picture.tobytes() for picture in starts}) > 8
    env.close()


def test_episodes_begin_at_the_beginning_of_the_level() -> None:
    """Also after the end of one, which EnvPool resets when it is told to."""
    backend = make_backend(Task("StarpilotHard-v0", 1, kwargs={"num_levels": 1, "start_level": 20}), 4, 0)
    first = backend.reset()[0].copy()
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(200):
        observations, _, terminated, truncated, *_ = backend.step(rng.integers(15, size=4))
        ended = terminated | truncated
        if ended.any():
            assert all((last != first).any() for last in observations[ended])
            backend.reset_where(ended, observations)
            assert all((fresh == first).all() for fresh in observations[ended])
            ends += int(ended.sum())
    assert ends > 4
    backend.close()


def test_a_time_limit_truncates() -> None:
    """Who stands still in Climber is cut after 1000 steps; there is no other end."""
    backend = make_backend(Task("ClimberEasy-v0", 1, kwargs={"num_levels": 1, "start_level": 0}), 1, 0)
    backend.reset()
    ends: list[Any] = []
    for step in range(1, 1001):
        _, _, terminated, truncated, *_ = backend.step(np.array([4]))
        if (terminated | truncated).any():
            ends.append((step, bool(terminated[0]), bool(truncated[0])))
            break
    assert ends == [(1000, False, True)]
    backend.close()
