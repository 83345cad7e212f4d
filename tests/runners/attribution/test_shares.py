"""Shares of a gap and their intervals: against scipy, by hand, and how often they are right."""

import math

import numpy as np
import pytest
from scipy import stats
from thinning import one_in

from neoteny.runners.attribution.reading import in_plain_words, named, read
from neoteny.runners.attribution.shares import attribute, estimate, stretch, student


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 49, 200])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.975, 0.025])
def test_students_quantile_is_scipys(p, freedom):
    assert student(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-4, abs=1e-6)


def test_intervals_of_few_are_stretched():
    assert stretch(3) == pytest.approx(math.sqrt(1.5) * stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975), rel=1e-4)
    assert stretch(10_000) == pytest.approx(1, abs=1e-3)
    assert stretch(2) > stretch(3) > stretch(5)


@pytest.mark.parametrize("count", one_in(4, [3, 2, 5, 8]))
def test_the_interval_of_a_mean_holds_it_in_95_of_100(count):
    rng = np.random.default_rng(count)
    inside = [estimate(lambda x: x, 3 + rng.normal(size=count)) for _ in range(400)]
    assert 0.91 < np.mean([each.low <= 3 <= each.high for each in inside]) < 0.98


@pytest.mark.full
def test_the_interval_of_a_share_holds_it_in_95_of_100():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        shared = rng.normal(size=5)  # what the environments' seed does to every intervention
        areas = {name: at + shared + rng.normal(size=5) for name, at in (("nothing", 10), ("everything", 30))}
        found = attribute({**areas, "heads": 15 + shared + rng.normal(size=5)}).shares["heads"]
        inside.append(found.low <= 0.25 <= found.high)
    assert 0.91 < np.mean(inside) < 0.99


def test_shares_by_hand():
    areas = {
        "nothing": np.array([10.0, 12.0, 11.0, 9.0]),
        "heads": np.array([15.0, 17.0, 16.0, 14.0]),  # 5 more in each seed
        "torsos": np.array([10.0, 12.0, 11.0, 9.0]),
        "everything": np.array([30.0, 32.0, 31.0, 29.0]),  # 20 more in each seed
    }
    found = attribute(areas)
    assert found.gap == (20, 20, 20)  # paired by seed, it is the same in all
    assert found.shares == {"heads": (0.25, 0.25, 0.25), "torsos": (0, 0, 0)}
    assert found.areas["nothing"].middle == 10.5
    unpaired = attribute({**areas, "heads": areas["heads"][::-1]}).shares["heads"]
    assert unpaired.middle == 0.25
    assert unpaired.low < 0.25 < unpaired.high


def test_without_a_gap_there_are_no_shares():
    noise = np.random.default_rng(0).normal(size=(3, 5))
    found = attribute({"nothing": 20 + noise[0], "heads": 90 + noise[1], "everything": 20 + noise[2]})
    assert found.gap.sign == 0
    assert found.shares == {}
    assert "no gap to explain" in in_plain_words("return", found)[0]
    assert named(found) == []


@pytest.mark.parametrize("equal", [9.37, 0.0, -1e9])
def test_one_and_the_same_everywhere_is_no_gap(equal):
    found = attribute({name: np.full(3, equal) for name in ("nothing", "optimizer", "everything")})
    assert found.gap == (0, 0, 0)
    assert found.shares == {}


def test_what_is_not_there_is_left_out_by_seed():
    areas = {"nothing": np.array([0.0, 1, 2, 3]), "everything": np.array([10.0, np.nan, 12, 13])}
    found = attribute({**areas, "optimizer": np.full(4, np.nan), "heads": np.array([5.0, 6, np.nan, 8])})
    assert found.gap.middle == 10
    assert found.shares["heads"].middle == 0.5  # seeds 0 and 3
    assert all(math.isnan(number) for number in found.shares["optimizer"])
    assert str(found.shares["optimizer"]) == "—"
    assert not found.shares["optimizer"].sign


def test_of_one_seed_there_is_no_interval():
    found = estimate(lambda x: x, np.array([4.0]))
    assert found == (4, -math.inf, math.inf)
    assert not found.sign


def rows(headline="return", **areas):
    return [
        {"intervention": name.replace("_", "-"), "trial": seed, "headline": headline, f"{headline}_mean": value}
        for name, values in areas.items()
        for seed, value in enumerate(values)
    ]


def test_the_largest_share_is_named_first_and_negligible_ones_are_not():
    measure, _, found = read(
        rows(
            nothing=[10, 11, 12],
            actor_head=[14, 15, 16],
            critic_head=[10.1, 11.1, 12.1],
            heads=[29, 30, 31],
            optimizer=[20, 21, 22],
            torsos=[5, 6, 7],
            rescale=[28, 29, 30],
            spectrum=[10, 11, 12],
            everything=[30, 31, 32],
        )
    )
    assert measure == "return"
    assert named(found) == ["optimizer", "actor-head"]  # heads are two places, and one of them is named
    text = "\n".join(in_plain_words(measure, found))
    assert "The loss sits in the optimizer (0.50 [0.50, 0.50])" in text
    assert "above 0: actor-head (0.20" in text
    assert "wider: torsos (-0.25" in text
    assert "(σ₁) is part of it: rescale has a share of 0.90" in text
    assert "point is not shown to be part of it: spectrum" in text
    assert "critic-head" not in text


def test_a_pair_is_named_where_neither_of_its_two_is():
    both = {"nothing": [0, 1], "actor_torso": [0, 1], "critic_torso": [0, 1], "torsos": [8, 9], "everything": [10, 11]}
    assert named(read(rows(**both))[2]) == ["torsos"]


def test_an_old_agent_may_be_better_than_a_fresh_one():
    _, _, found = read(rows(nothing=[30, 31, 32], encoder=[20, 21, 22], everything=[10, 11, 12]))
    text = "\n".join(in_plain_words("return", found))
    assert "a gap of -20" in text
    assert "The advantage over a fresh agent sits in the encoder (0.50" in text


def test_rewards_are_taken_where_no_episode_ends():
    some = rows(nothing=["", "nan"], everything=["", ""])
    for i, row in enumerate(some):
        row["reward_rate_mean"] = str(i)
    measure, areas, _ = read(some)
    assert measure == "reward_rate"
    assert areas["everything"].tolist() == [2, 3]


def test_a_mean_of_0_is_a_number():
    assert read(rows(nothing=[0.0, 0], everything=["0.0", "1"]))[1]["nothing"].tolist() == [0, 0]


def test_one_trial_without_an_end_is_only_left_out():
    measure, areas, _ = read(rows(headline="success", nothing=[0.1, 0.2, 0.1], everything=["", 0.9, 0.8]))
    assert measure == "success"
    assert np.isnan(areas["everything"]).tolist() == [True, False, False]
    assert not np.isnan(areas["nothing"]).any()


def test_a_trial_that_diverged_is_left_out():
    diverged = {"intervention": "rescale", "trial": 1, "note": "diverged: weights are not finite"}
    _, areas, found = read([*rows(nothing=[1, 2, 1], rescale=[5], everything=[9, 8, 9]), diverged])
    assert np.isnan(areas["rescale"]).tolist() == [False, True, True]
    assert found.shares["rescale"].middle == 0.5
