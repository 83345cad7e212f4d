"""The estimator of a visit's returns, against policies whose mean return is known."""

import math

import numpy as np
import pytest

from neoteny.runners.measures.returns import Returns


def lockstep(success: float, steps: int, limit: int, copies: int, seed: int = 0) -> Returns:
    """Copies that begin together and succeed (return 1, a tenth of the limit) or fail (return 0, at the limit)."""
    rng = np.random.default_rng(seed)
    returns = Returns()
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
        returns.add(*ending)
    returns.cut(steps)
    return returns


@pytest.mark.parametrize("success", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_constant_policy_has_its_mean_return_throughout(success):
    returns = lockstep(success, steps=5000, limit=250, copies=400)
    summary = returns.summary()
    assert summary["return_mean"] == pytest.approx(success, abs=0.04)
    assert summary["return_final"] == pytest.approx(success, abs=0.06)


def test_episodes_count_where_they_began():
    """Two bins of 10 steps are enough to see it: an episode of 10 steps that ends at 15 began in the first."""
    returns = Returns()
    returns.BINS = 2
    returns.add(5, 5, 1.0)
    returns.add(15, 10, 0.0)
    returns.add(20, 2, 1.0)
    returns.cut(20)
    assert returns.curve().tolist() == [0.5]


def test_empty_bins_repeat_the_one_before():
    returns = Returns()
    returns.BINS = 4
    returns.add(1, 1, 0.25)
    returns.add(9, 1, 0.75)
    returns.cut(12)
    assert returns.curve().tolist() == [0.25, 0.25, 0.75]


def test_what_began_before_a_cut_in_the_middle_does_not_count():
    """Of the episodes of the second quarter, cut at its end, only successes were seen to end."""
    returns = Returns()
    returns.BINS = 4
    for end, length, value in ((3, 3, 0.0), (5, 2, 1.0), (9, 3, 0.0)):
        returns.add(end, length, value)
    returns.cut(6)
    returns.cut(12)
    assert returns.curve().tolist() == [0.0, 0.0]


def test_nothing_is_not_a_number():
    assert all(math.isnan(value) for value in Returns(cuts=[100]).summary().values())
    only_long = Returns([(0, 100, 1.0)], [100])
    assert all(math.isnan(value) for value in only_long.summary().values())
