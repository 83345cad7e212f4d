"""The estimators of a visit's returns and rewards, against policies whose mean return is known."""

import math

import numpy as np
import pytest

from neoteny.runners.measures.curves import Curve, Rate


def lockstep(success: float, steps: int, limit: int, copies: int, seed: int = 0) -> Curve:
    """Copies that begin together and succeed (return 1, a tenth of the limit) or fail (return 0, at the limit)."""
    rng = np.random.default_rng(seed)
    curve = Curve()
    endings = []
    for _ in range(copies):
        now = 0
        while True:
            won = rng.random() < success
            now += limit // 10 if won else limit
            if now > steps:
                break
            endings.append((now, limit // 10 if won else limit, float(won)))
    for ending in sorted(endings):
        curve.add(*ending)
    curve.cut(steps)
    return curve


@pytest.mark.parametrize("success", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_constant_policy_has_its_mean_return_throughout(success):
    mean, final = lockstep(success, steps=5000, limit=250, copies=400).summary()
    assert mean == pytest.approx(success, abs=0.04)
    assert final == pytest.approx(success, abs=0.06)


def test_episodes_count_where_they_began():
    """Two bins of 10 steps are enough to see it: an episode of 10 steps that ends at 15 began in the first."""
    curve = Curve()
    curve.BINS = 2
    curve.add(5, 5, 1.0)
    curve.add(15, 10, 0.0)
    curve.add(20, 2, 1.0)
    curve.cut(20)
    assert curve.curve().tolist() == [0.5]


def test_empty_bins_repeat_the_one_before():
    curve = Curve()
    curve.BINS = 4
    curve.add(1, 1, 0.25)
    curve.add(9, 1, 0.75)
    curve.cut(12)
    assert curve.curve().tolist() == [0.25, 0.25, 0.75]


def test_what_began_before_a_cut_in_the_middle_does_not_count():
    """Of the episodes of the second quarter, cut at its end, only successes were seen to end."""
    curve = Curve()
    curve.BINS = 4
    for end, length, value in ((3, 3, 0.0), (5, 2, 1.0), (9, 3, 0.0)):
        curve.add(end, length, value)
    curve.cut(6)
    curve.cut(12)
    assert curve.curve().tolist() == [0.0, 0.0]


def test_nothing_is_not_a_number():
    assert all(math.isnan(value) for value in Curve(cuts=[100]).summary())
    only_long = Curve([(0, 100, 1.0)], [100])
    assert all(math.isnan(value) for value in only_long.summary())


def test_the_rate_is_reward_by_step_and_its_end_the_last_tenth():
    rate = Rate()
    for stretch in range(20):
        rate.add(50, 100.0 if stretch >= 18 else 25.0)
    assert rate.summary() == pytest.approx((0.65, 2.0))
    assert all(math.isnan(value) for value in Rate().summary())
