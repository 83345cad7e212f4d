"""The estimators of a visit's returns and rewards, against policies whose mean return is known."""

import math

import numpy as np
import pytest

from neoteny.runners.measures.curves import Curve, Rate


def cut_up(
    success: float, steps: int, segment: int, limit: int = 250, short: int = 25, copies: int = 8, seed: int = 0
) -> Curve:
    """Copies that begin together, in each segment anew, and succeed (return 1) or fail (return 0, at the limit)."""
    rng = np.random.default_rng(seed)
    curve = Curve()
    for begin in range(0, steps, segment):
        end, oldest = min(begin + segment, steps), 0
        for _ in range(copies):
            now = begin
            while now < end:
                won = rng.random() < success
                length = short if won else limit
                if now + length > end:
                    oldest = max(oldest, end - now)
                    break
                now += length
                curve.add(now, length, float(won))
        curve.cut(end, oldest)
    return curve


@pytest.mark.parametrize("success", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_constant_policy_has_its_mean_return_throughout(success):
    found = cut_up(success, steps=5000, segment=5000, copies=400).summary()
    assert found["mean"] == pytest.approx(success, abs=0.02)
    assert found["begin"] == pytest.approx(success, abs=0.04)
    assert found["final"] == pytest.approx(success, abs=0.06)


@pytest.mark.parametrize("copies", [1, 8, 64])
@pytest.mark.parametrize("segment", [20_000, 2000, 600, 300, 251, 250])
def test_where_a_policy_is_cut_does_not_change_its_returns(segment, copies):
    """Half of the episodes are successes, ten times as short as failures. The mean over those that end is not 0.5."""
    runs = [cut_up(0.5, 20_000 // min(copies, 8), segment, copies=copies, seed=seed).summary() for seed in range(40)]
    for name, bias in (("mean", 0.03), ("begin", 0.03), ("final", 0.06)):  # of few episodes, towards long ones
        values = np.array([run[name] for run in runs])
        assert values.mean() == pytest.approx(0.5, abs=bias + 3 * values.std() / 40**0.5)
    assert segment > 600 or np.mean([run["of_ended"] for run in runs]) > 0.54


@pytest.mark.parametrize("copies", [1, 8, 64])
@pytest.mark.parametrize("segment", [249, 120, 26])
def test_where_failures_are_always_cut_there_is_no_mean_return(segment, copies):
    """All that ends is a success: a mean of 1 would be wrong, whatever is left out."""
    found = cut_up(0.5, 5000, segment, copies=copies).summary()
    assert found.pop("of_ended") == 1.0
    assert all(math.isnan(value) for value in found.values())


def test_standard_errors_are_how_far_means_are_off():
    runs = [cut_up(0.3, 20_000, 5000, seed=seed).summary() for seed in range(100)]
    for part in ("begin", "final"):
        off = np.std([run[part] for run in runs])
        assert np.mean([run[f"{part}_error"] for run in runs]) == pytest.approx(off, rel=0.25)


def test_the_mean_is_over_time_and_the_end_its_last_tenth():
    """Success comes in the middle: by then there were 4 episodes of 250 steps, and 40 of 25 from there on."""
    curve = Curve(
        [(at, 250, 0.0) for at in range(0, 10_000, 250)] + [(at, 25, 1.0) for at in range(10_000, 20_000, 25)]
    )
    curve.cut(20_000)
    found = curve.summary()
    assert found["mean"] == pytest.approx(0.5, abs=0.05)
    assert (found["begin"], found["final"]) == (0.0, 1.0)
    assert found["of_ended"] == pytest.approx(400 / 440)


def by_hand(*ended: tuple[int, int, float], cuts: dict[int, int], bins: int) -> Curve:
    curve = Curve(ended, list(cuts), list(cuts.values()))
    curve.BINS, curve.EPISODES = bins, 1
    return curve


def test_episodes_count_where_they_began():
    """One of 10 steps that ends at 15 began in the first half; the one that ends at 20 began too late to count."""
    curve = by_hand((0, 5, 1.0), (5, 10, 0.0), (18, 2, 1.0), cuts={20: 0}, bins=2)
    assert [column.tolist() for column in curve.counted()] == [[0, 5 / 11], [1.0, 0.0]]
    assert curve.curve().tolist() == [0.5, 0.5]


def test_what_began_before_a_cut_in_the_middle_does_not_count():
    """Of the episodes that began at 4 and 5, those of length 3 would have been cut."""
    curve = by_hand((0, 3, 0.0), (3, 2, 1.0), (5, 1, 1.0), (6, 3, 0.0), cuts={6: 0, 12: 0}, bins=2)
    assert curve.counted()[1].tolist() == [0.0, 1.0, 0.0]
    assert curve.curve().tolist() == [0.5, 0.0]


def test_an_episode_that_was_cut_tells_how_long_they_are():
    """It ran for 4 steps, so one that begins 4 steps before a cut may not be seen to end."""
    assert by_hand((0, 3, 0.0), (2, 3, 1.0), cuts={6: 2}, bins=1).counted()[1].tolist() == [0.0, 1.0]
    assert by_hand((0, 3, 0.0), (2, 3, 1.0), cuts={6: 4}, bins=1).counted()[1].tolist() == [0.0]


def test_few_episodes_have_no_standard_error():
    curve = Curve([(at, 1, float(at % 2)) for at in range(40)], [40], [0])
    assert curve.summary()["final_error"] != curve.summary()["final_error"]  # of 4
    curve = Curve([(at, 1, float(at % 2)) for at in range(50)], [50], [0])
    assert curve.summary()["final_error"] == pytest.approx(np.std([1, 0, 1, 0, 1], ddof=1) / 5**0.5)


def test_where_only_the_beginning_is_known_there_is_no_end():
    """Only the episodes that begin with the visit count."""
    found = Curve([(0, 256, float(copy % 2)) for copy in range(16)], [256], [0]).summary()
    assert (found["mean"], found["begin"]) == (0.5, 0.5)
    assert math.isnan(found["final"])
    assert math.isnan(found["final_error"])


def test_nothing_is_not_a_number():
    assert all(math.isnan(value) for value in Curve(cuts=[100], ages=[99]).summary().values())


def test_the_rate_is_reward_by_step_and_its_end_the_last_tenth():
    rate = Rate()
    for stretch in range(20):
        rate.add(50, 100.0 if stretch >= 18 else 25.0)
    found = rate.summary()
    assert (found["mean"], found["begin"], found["final"]) == pytest.approx((0.65, 0.5, 2.0))
    assert math.isnan(found["final_error"])  # of 2 stretches
    assert all(math.isnan(value) for value in Rate().summary().values())


def test_the_rate_has_a_standard_error_where_there_are_enough_stretches():
    rng = np.random.default_rng(0)
    rate = Rate([(10, 10 * value) for value in rng.normal(1.0, 0.5, 1000)])
    found = rate.summary()
    assert found["final_error"] == pytest.approx(0.05, rel=0.2)
    assert found["begin_error"] == pytest.approx(0.05, rel=0.2)
