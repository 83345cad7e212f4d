"""Rotated observations: lengths and angles are kept, and every rotation is as likely as any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from shift_site import CELLS, PIXELS, real, site

from neoteny.envs import ConfigError, ContinualVectorEnv, TaskSequence
from neoteny.envs.shifts import RotateObservation

stats = pytest.importorskip("scipy.stats")


def matrix(size: int, seed: int, dtype: Any = np.float64) -> np.ndarray:
    """The matrix of a rotation, read off what becomes of the unit vectors."""
    space = spaces.Box(-np.inf, np.inf, (size,), dtype)
    return RotateObservation(scales=1).bind(site(space, seed=seed)).observation(np.eye(size, dtype=dtype))


def test_lengths_and_angles_are_kept() -> None:
    observations = np.random.default_rng(0).normal(size=(50, 5)) * [2, 0.1, 30, 1, 5]
    scales = (2.0, 0.1, 30.0, 1.0, -5.0)
    space = spaces.Box(-np.inf, np.inf, (5,), np.float64)
    bound = RotateObservation(scales=scales).bind(site(space))
    seen, scaled = bound.observation(observations), observations / scales
    assert (seen.shape, seen.dtype) == (observations.shape, np.float64)
    np.testing.assert_allclose(seen @ seen.T, scaled @ scaled.T, atol=1e-12)
    assert (abs(seen - scaled) > 0.01).mean() > 0.9
    assert bound.observation_space == space


def test_float32_stays_float32() -> None:
    q = matrix(4, seed=3, dtype=np.float32)
    assert q.dtype == np.float32
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=1e-6)
    bound = RotateObservation(scales=2).bind(site(real([-1, 0, 3, 0], [1, 2, 3, np.inf]), seed=3))
    np.testing.assert_allclose(bound.observation(np.eye(4, dtype=np.float32)), q / 2, rtol=1e-6)
    space = bound.observation_space
    assert isinstance(space, spaces.Box)
    assert (np.isinf(space.low).all(), np.isinf(space.high).all(), space.dtype) == (True, True, np.float32)


def test_every_rotation_is_as_likely_as_any_other() -> None:
    """Against scipy's distribution: an entry of such a matrix of size 4 is 2·Beta(3/2, 3/2) − 1 (Q alone of QR has a
    first entry that is never positive)."""
    drawn = np.stack([matrix(4, seed) for seed in range(1000)])
    for entry in drawn.reshape(1000, 16).T:
        assert stats.kstest((entry + 1) / 2, stats.beta(1.5, 1.5).cdf).pvalue > 1e-4
    other = stats.ortho_group(4, seed=0).rvs(1000)
    assert stats.ks_2samp(np.trace(drawn, axis1=1, axis2=2), np.trace(other, axis1=1, axis2=2)).pvalue > 1e-3
    assert (np.linalg.det(drawn) > 0).mean() == pytest.approx(0.5, abs=0.06)


def test_a_visit_draws_once_and_the_next_anew() -> None:
    np.testing.assert_array_equal(matrix(6, seed=1), matrix(6, seed=1))
    assert (matrix(6, seed=1) != matrix(6, seed=2)).all()


@pytest.mark.parametrize(
    "space",
    [PIXELS, CELLS, spaces.Discrete(5), spaces.MultiBinary(3), spaces.Box(0, 9, (3,), int), spaces.Box(0, 1, (2, 3))],
    ids=str,
)
def test_refused_where_there_is_no_vector_of_real_numbers(space: spaces.Space[Any]) -> None:
    with pytest.raises(ConfigError, match=r"^rotate-observation: a vector of real numbers is needed, the task has "):
        RotateObservation(scales=1).bind(site(space))


def test_scales_of_another_length_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^rotate-observation\.scales: one number.*of shape \(3,\), is needed; got 2$"
    ):
        RotateObservation(scales=(1, 2)).bind(site())


def test_cartpole_rotate_is_the_same_cartpole_in_every_task_and_for_every_run() -> None:
    """What CartPole itself shows comes back by the inverse of the rotation, which depends on the visit only."""
    pytest.importorskip("envpool")
    sequence = TaskSequence.load("cartpole-rotate")
    assert [sequence.length, {visit.task.steps for visit in sequence.visits}] == [12, {10_000}]
    (shift,) = sequence.tasks[0].shifts
    plain = ContinualVectorEnv(without_shifts(sequence), 3, seed=1)
    rotations = []
    for run_seed in (1, 2):
        env = ContinualVectorEnv(sequence, 3, seed=run_seed)
        for index in (0, 7):
            where = site(spaces.Box(-np.inf, np.inf, (4,)), rng=sequence.visit(index).rng(sequence.seed))
            rotations.append(shift.bind(where).observation(np.eye(4, dtype=np.float32)))
            seen = env.start(index) @ np.linalg.inv(rotations[-1])
            if run_seed == 1:
                np.testing.assert_allclose(seen, plain.start(index), atol=1e-6)
        env.close()
    plain.close()
    np.testing.assert_array_equal(rotations[:2], rotations[2:])
    assert (rotations[0] != rotations[1]).all()


def without_shifts(sequence: TaskSequence) -> TaskSequence:
    return replace(sequence, tasks=tuple(replace(task, shifts=()) for task in sequence.tasks))
