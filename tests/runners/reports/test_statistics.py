import json
import math

import numpy as np
import pytest
import rliable_numbers
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from neoteny.runners.reports import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

NUMBERS = json.loads(rliable_numbers.FILE.read_text())
matrices = arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3))


@pytest.mark.parametrize("case", rliable_numbers.CASES)
def test_equal_to_rliable_on_the_same_draws(case):
    x, y = rliable_numbers.scores(case)
    draws, there = rliable_numbers.DRAWS, {name: np.array(value) for name, value in NUMBERS[case].items()}
    profile = performance_profile(x, rliable_numbers.THRESHOLDS, draws)
    np.testing.assert_allclose(stratified_interval(x, draws=draws), there["iqm"][:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(probability_of_improvement(x, y, draws), there["improvement"][:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(profile, there["profile"], rtol=0, atol=1e-12)


@given(matrices)
def test_interquartile_mean_is_scipys(scores):
    assert interquartile_mean(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None), abs=1e-9)


@given(matrices, st.integers(1, 9), st.integers(0, 2**32))
def test_probability_of_improvement_is_the_mann_whitney_u(x, others, seed):
    y = np.random.default_rng(seed).choice(x.reshape(-1), (others, x.shape[1]))  # with ties
    u = [scipy.stats.mannwhitneyu(*pair).statistic for pair in zip(x.T, y.T, strict=True)]
    value, low, high = probability_of_improvement(x, y, draws=50)
    assert value == pytest.approx(np.mean(u) / (len(x) * others))
    assert probability_of_improvement(y, x, draws=1)[0] == pytest.approx(1 - value)
    if len(x) > 1 and others > 1:
        assert 0 <= low <= high <= 1


def test_probability_of_improvement_by_hand():
    x, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0], [0.0, 9.0]])
    assert probability_of_improvement(x, y)[0] == pytest.approx(((1 + 0 + 1 + 1) / 4 + (0.5 + 0 + 0.5 + 0) / 4) / 2)


def test_missing_scores_are_left_out():
    """Of two killed runs one has no score, and one those of the first task."""
    scores = np.random.default_rng(0).normal(size=(6, 3))
    killed = np.vstack([scores, [[2.0, np.nan, np.nan], [np.nan] * 3]])
    known = np.append(scores, 2.0)
    assert interquartile_mean(killed) == pytest.approx(scipy.stats.trim_mean(known, 0.25))
    assert performance_profile(killed, [0.1])[0][0] == pytest.approx(np.mean(known > 0.1))
    others = scores[:5] + 0.2
    u = [scipy.stats.mannwhitneyu(x[~np.isnan(x)], y).statistic for x, y in zip(killed.T, others.T, strict=True)]
    assert probability_of_improvement(killed, others)[0] == pytest.approx(np.mean(np.array(u) / [35, 30, 30]))
    for whole in (False, True):
        for value, low, high in (
            stratified_interval(killed, whole_runs=whole),
            probability_of_improvement(killed, others, whole_runs=whole),
            np.ravel(performance_profile(killed, [0.1], whole_runs=whole)),
        ):
            assert low < value < high


def test_a_row_of_missing_scores_changes_nothing():
    scores = np.random.default_rng(0).normal(size=(6, 3))
    padded = np.insert(scores, 2, np.nan, axis=0)
    assert stratified_interval(padded) == pytest.approx(stratified_interval(scores))
    assert probability_of_improvement(padded, scores) == pytest.approx(probability_of_improvement(scores, scores))


def test_a_task_that_one_side_lacks_is_left_out():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    y[:, 1] = np.nan
    assert probability_of_improvement(x, y)[0] == probability_of_improvement(x[:, [0, 2]], y[:, [0, 2]])[0]
    assert all(map(math.isnan, probability_of_improvement(x, np.full((5, 3), np.nan))))


def test_one_run_has_no_interval():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    one = np.vstack([x[:1], np.full((2, 3), np.nan)])
    for value, *interval in (
        stratified_interval(one),
        probability_of_improvement(one, y),
        probability_of_improvement(y, one),
        np.ravel(performance_profile(one, [0.0])),
    ):
        assert math.isfinite(value)
        assert all(map(math.isnan, interval))


def test_no_scores_have_no_statistics():
    nothing = np.full((3, 2), np.nan)
    assert all(map(math.isnan, stratified_interval(nothing)))
    assert np.isnan(performance_profile(nothing, [0.0])).all()


def test_whole_runs_are_as_uncertain_as_one_task_that_all_repeat():
    """Twelve copies of a task say no more than one, which only ``whole_runs`` knows."""
    task = np.random.default_rng(0).normal(size=(10, 1))
    copies = np.repeat(task, 12, 1)
    mean = lambda scores: scores.mean((-2, -1))  # noqa: E731
    assert stratified_interval(copies, mean, whole_runs=True) == pytest.approx(stratified_interval(task, mean))
    _, low, high = stratified_interval(task, mean)
    _, closer, lower = stratified_interval(copies, mean)
    assert (lower - closer) / (high - low) == pytest.approx(12**-0.5, rel=0.1)


def test_a_profile_falls_and_lies_in_its_band():
    scores = np.random.default_rng(0).normal(size=(8, 5))
    profile, low, high = performance_profile(scores, np.linspace(-4, 4, 41))
    assert (profile[0], profile[-1]) == (1, 0)
    assert (np.diff(profile) <= 0).all()
    assert (low <= profile).all()
    assert (profile <= high).all()


def test_same_seed_same_interval_and_the_global_generator_is_left():
    scores = np.random.default_rng(0).normal(size=(8, 5))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert stratified_interval(scores, seed=3) == stratified_interval(scores, seed=3) != stratified_interval(scores)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("scores", [[1.0, 2.0], np.empty((0, 3)), np.empty((3, 0))])
def test_scores_of_another_shape_are_refused(scores):
    with pytest.raises(ValueError, match=r"\(runs, tasks\) are needed"):
        stratified_interval(scores)


def test_sides_have_the_same_tasks():
    with pytest.raises(ValueError, match="scores of 3 tasks are needed"):
        probability_of_improvement(np.ones((2, 3)), np.ones((2, 4)))
