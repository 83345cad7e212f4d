"""What comes out of an environment, and whether it is the same again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from counting_env import ID

from neoteny.envs import ContinualVectorEnv, PermuteObservation, Task

#: Environments that draw their layouts, in both backends, and the counting one.
RANDOM = [
    Task("MiniGrid-DoorKey-5x5-v0", 24, backend="envpool"),
    Task("MiniGrid-DoorKey-5x5-v0", 24, backend="gymnasium"),
    Task("MiniGrid-Empty-Random-6x6-v0", 24, shifts=(PermuteObservation(),)),
    Task(ID, 24),
]
each_random = pytest.mark.parametrize("task", RANDOM, ids=lambda task: f"{task.env}-{task.backend}")


def same(ours: Any, theirs: Any) -> None:
    """Equal through and through: tuples of arrays and of info."""
    if isinstance(ours, (tuple, list)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            same(ours[key], theirs[key])
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        same(list(ours), list(theirs))
    else:
        np.testing.assert_array_equal(ours, theirs)


def trajectory(vector: ContinualVectorEnv, steps: int, seed: int = 0) -> list[Any]:
    """All that comes out of the environment under one seeded choice of actions."""
    rng = np.random.default_rng(seed)
    out: list[Any] = [vector.reset()[0].copy()]
    for _ in range(steps):
        out.append(vector.step(rng.integers(3, size=vector.num_envs)))
    return out
