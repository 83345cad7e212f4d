"""Observations as agents take them, whatever the environment gives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from counting_env import GO, TERMINATE
from gymnasium import spaces

from neoteny.envs import Task
from neoteny.envs.backends import make_backend
from neoteny.envs.backends.base import tidy

envpool = pytest.importorskip("envpool")

PYTHON = ("gymnasium", "async")


def make(env: str, backend: str = "auto", num_envs: int = 1, seed: int = 0, threads: int = 1, **kwargs: Any) -> Any:
    return make_backend(Task(env, 1, kwargs=kwargs, backend=backend), num_envs, seed, threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", PYTHON)
def test_dictionary_becomes_one_vector(backend: str) -> None:
    pool = make("Nested-v0", backend, 2)
    assert pool.observation_space == spaces.Box(np.float32([0, 0, -1]), np.float32([9, 9, 1]))
    assert pool.reset().dtype == np.float32
    observations, *_ = pool.step(np.array([GO, TERMINATE]))
    assert (observations.tolist(), observations.dtype) == ([[0, 1, 0.25], [0, 1, 0.25]], np.float32)
    pool.reset_where(np.array([False, True]), observations)
    assert observations.tolist() == [[0, 1, 0.25], [1, 0, 0.25]]
    pool.close()


def test_envpools_dictionary_becomes_one_vector() -> None:
    pool = make("WalkerStand-v1", "envpool", 2, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = envpool.make("WalkerStand-v1", env_type="gymnasium", num_envs=2, seed=3)
    assert pool.observation_space == spaces.Box(-np.inf, np.inf, (24,))
    assert pool.action_space == spaces.Box(-1, 1, (6,))
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 6))
    for ours, theirs in ((pool.reset(), raw.reset()[0]), (pool.step(actions)[0], raw.step(actions)[0])):
        parts = [theirs["orientations"], theirs["height"][:, None], theirs["velocity"]]
        np.testing.assert_array_equal(ours, np.concatenate(parts, 1).astype(np.float32))
        assert ours.dtype == np.float32


def test_float64_becomes_float32() -> None:
    pool = make("Pendulum-v1", "gymnasium", 2)
    assert pool.reset().dtype == pool.step(np.zeros((2, 1)))[0].dtype == np.float32
    pool = make("Ant-v5", "envpool", 2)
    assert pool.observation_space == spaces.Box(-np.inf, np.inf, (105,), np.float32)
    first = pool.reset()
    assert first.dtype == pool.step(np.zeros((2, 8), np.float32))[0].dtype == np.float32
    pool.reset_where(np.array([True, False]), first)
    assert first.dtype == np.float32


LIMITS, DOUBLES = np.finfo(np.float32), np.finfo(np.float64)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (LIMITS.tiny, LIMITS.max, np.float32, (-np.inf, np.inf)),  # LunarLander
        (DOUBLES.tiny, DOUBLES.max, np.float64, (-np.inf, np.inf)),  # DeepMind Control
        (LIMITS.min, LIMITS.max, np.float32, (-np.inf, np.inf)),  # CartPole's velocities
        (-np.inf, np.inf, np.float64, (-np.inf, np.inf)),
        (0, LIMITS.max, np.float32, (0, np.inf)),
        (LIMITS.min, 3, np.float32, (-np.inf, 3)),
        (-1.5, 2.5, np.float64, (-1.5, 2.5)),
    ],
)
def test_bounds_that_are_limits_of_the_number_type_become_infinite(
    low: float, high: float, dtype: Any, expected: tuple[float, float]
) -> None:
    assert tidy(spaces.Box(low, high, (2,), dtype)) == spaces.Box(*expected, (2,), np.float32)


def test_lunarlander_has_no_bounds() -> None:
    assert make("LunarLander-v3").observation_space == spaces.Box(-np.inf, np.inf, (8,), np.float32)


def test_what_is_not_real_is_left_alone() -> None:
    for space in (spaces.Box(0, 255, (2,), np.uint8), spaces.Discrete(3)):
        assert tidy(space) is space
