"""Permuted, sticky and slipping actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from shift_site import real, site

from neoteny.envs import ConfigError
from neoteny.envs.shifts import PermuteAction, Shift, Slip, StickyActions


@pytest.mark.parametrize("start", [0, 5])
def test_discrete_actions_change_their_meaning_one_to_one(start: int) -> None:
    space = spaces.Discrete(6, start=start)
    bound = PermuteAction().bind(site(action=space, seed=3))
    actions = np.arange(start, start + 6)
    meant = bound.action(actions)
    np.testing.assert_array_equal(meant, start + np.random.default_rng(3).permutation(6))
    assert meant.dtype == actions.dtype
    assert sorted(meant) == actions.tolist() != meant.tolist()
    np.testing.assert_array_equal(bound.action(actions[::-1]), meant[::-1])  # the same for every environment
    assert (PermuteAction().bind(site(action=space, seed=4)).action(actions) != meant).any()


def test_components_change_places() -> None:
    space = spaces.Box(-1, 1, (5,))
    bound = PermuteAction().bind(site(action=space, seed=3))
    actions = np.arange(10, dtype=np.float32).reshape(2, 5)
    order = np.random.default_rng(3).permutation(5)
    np.testing.assert_array_equal(bound.action(actions), actions[:, order])
    np.testing.assert_array_equal(actions, np.arange(10).reshape(2, 5))


@pytest.mark.parametrize(
    ("shift", "space", "message"),
    [
        (PermuteAction(), real([-1, -2], [1, 2]), "^permute-action: components can only be exchanged where all have"),
        (PermuteAction(), spaces.MultiBinary(3), "^permute-action: a Discrete or a Box action is needed, the task has"),
        (Slip(probability=0.1), spaces.Box(-1, 1, (2,)), "^slip: a Discrete action is needed, the task has Box"),
        (Slip(probability=0.1, among=(0, 4)), spaces.Discrete(4), "^slip.among: 4 is not an action; they are 0 to 3$"),
        (Slip(probability=0.1, among=(-1,)), spaces.Discrete(4), "^slip.among: -1 is not an action; they are 0 to 3$"),
    ],
    ids=["other-bounds", "multi-binary", "slip-box", "slip-beyond", "slip-negative"],
)
def test_refused(shift: Shift, space: spaces.Space[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shift.bind(site(action=space))


class Chance(np.random.Generator):
    """A generator whose numbers between 0 and 1 are known."""

    def __init__(self, rows: list[list[float]]):
        super().__init__(np.random.PCG64(0))
        self.rows = iter(rows)

    def random(self, size: Any = None) -> np.ndarray:  # type: ignore[override]
        return np.array(next(self.rows))


def with_chance(rows: list[list[float]], **kwargs: Any) -> Any:
    where = site(**kwargs)
    object.__setattr__(where, "noise", Chance(rows))
    return where


def test_sticky_actions_repeat_what_was_done_not_what_was_chosen() -> None:
    where = with_chance([[0.0, 0.0], [0.2, 0.3], [0.2, 0.9], [0.9, 0.1], [0.1, 0.1]])
    bound = StickyActions(probability=0.25).bind(where)
    assert bound.restart is not None
    done = [bound.action(np.array(chosen)).tolist() for chosen in ([0, 1], [2, 3], [1, 0], [3, 2])]
    # The first actions never stick. Then the first environment repeats 0 twice, although 2 was chosen in between.
    assert done == [[0, 1], [0, 3], [0, 0], [3, 0]]
    bound.restart(np.array([False, True]))
    assert bound.action(np.array([1, 1])).tolist() == [3, 1]  # a new episode in the second: it does not stick


def test_an_episode_is_new_for_one_action_only() -> None:
    bound = StickyActions(probability=1).bind(site())
    assert bound.restart is not None
    assert bound.action(np.array([0, 1])).tolist() == [0, 1]
    bound.restart(np.array([True, False]))
    bound.restart(np.array([False, False]))
    assert [bound.action(np.array([2, 2])).tolist() for _ in range(2)] == [[2, 1], [2, 1]]
    assert bound.action(np.array([3, 3])).tolist() == [2, 1]


def test_sticky_action_vectors_keep_together_and_do_not_follow_the_callers_array() -> None:
    bound = StickyActions(probability=1).bind(site(action=spaces.Box(-1, 1, (3,))))
    actions = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    first = bound.action(actions)
    first[:] = 9
    actions[:] = 0
    again = bound.action(actions)
    np.testing.assert_array_equal(again, [[1, 2, 3], [4, 5, 6]])
    assert again.dtype == np.float32
    assert (actions == 0).all()


def test_slip_replaces_only_moves_by_moves() -> None:
    where = with_chance([[0.0, 0.29, 0.3, 0.0, 0.0]], num_envs=5, action=spaces.Discrete(7))
    twin = np.random.default_rng(0)
    bound = Slip(probability=0.3, among=(0, 1, 5)).bind(where)
    chosen = np.array([0, 1, 5, 2, 6])
    drawn = np.array([0, 1, 5])[twin.integers(3, size=5)]
    # The third does not slip (0.3 is not below 0.3); 2 and 6 are no moves.
    np.testing.assert_array_equal(bound.action(chosen), [*drawn[:2], 5, 2, 6])
    assert chosen.tolist() == [0, 1, 5, 2, 6]


@pytest.mark.parametrize("start", [0, 3])
def test_slip_is_as_likely_as_it_says_and_uniform(start: int) -> None:
    n = 100_000
    bound = Slip(probability=0.4).bind(site(action=spaces.Discrete(5, start=start), num_envs=n))
    done = bound.action(np.full(n, start + 2))
    assert done.dtype == np.int64
    shares = np.bincount(done - start, minlength=5) / n
    np.testing.assert_allclose(shares, [0.08, 0.08, 0.68, 0.08, 0.08], atol=0.005)


def test_probability_of_sticking_ramps() -> None:
    n = 50_000
    where = site(num_envs=n)
    bound = StickyActions(probability=0.8, ramp=100).bind(where)
    assert bound.restart is not None
    shares = []
    for where.clock.steps in (0, 25, 50, 100, 500):
        bound.restart(np.ones(n, bool))
        bound.action(np.ones(n, int))
        shares.append((bound.action(np.zeros(n, int)) == 1).mean())
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:], [0.2, 0.4, 0.8, 0.8], atol=0.01)


def test_probability_of_a_slip_ramps() -> None:
    n = 50_000
    where = site(num_envs=n)
    bound = Slip(probability=0.8, among=(0, 1), ramp=100).bind(where)
    shares = []
    for where.clock.steps in (0, 25, 50, 100, 500):
        shares.append((bound.action(np.zeros(n, int)) == 1).mean())
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:], [0.1, 0.2, 0.4, 0.4], atol=0.01)  # half of the slips end where they began


def test_chance_is_the_segments() -> None:
    for shift in (StickyActions(probability=0.5), Slip(probability=0.5)):
        seen = []
        for seed, noise in ((0, 0), (1, 0), (0, 1)):
            where = site(num_envs=50, seed=seed, noise=noise)
            bound = shift.bind(where)
            seen.append([bound.action(np.full(50, i)).tolist() for i in range(4)])
            assert where.rng.bit_generator.state == np.random.default_rng(seed).bit_generator.state
        assert seen[0] == seen[1] != seen[2]
