"""The spaces that the tasks of a sequence share, and how observations and actions are fitted to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from neoteny.envs import ConfigError
from neoteny.envs.shifts import describe, identity
from neoteny.envs.spaces import SharedSpaces
from neoteny.envs.suites.minigrid import SPACE as CELLS

INF = np.inf
TWO, FOUR = spaces.Discrete(2), spaces.Discrete(4)


def box(low: Any, high: Any, shape: tuple[int, ...] | None = None, dtype: Any = np.float32) -> spaces.Box:
    """With bounds for each entry, or one for all entries of ``shape``."""
    low, high = (np.broadcast_to(np.array(bound, dtype), shape or np.shape(bound)).copy() for bound in (low, high))
    return spaces.Box(low, high, dtype=dtype)


def share(observations: list[Any] | None = None, actions: list[Any] | None = None, task_ids: int = 0) -> SharedSpaces:
    """Of tasks named A, B, ..."""
    count = len(observations or actions or [])
    observed, acted = observations or [box(0, 1, (1,))] * count, actions or [TWO] * count
    return SharedSpaces.of("ABCDE"[:count], list(zip(observed, acted, strict=True)), task_ids)


# ------------------------------------------------------------------------------------------------ observations


@pytest.mark.parametrize("space", [box(0, 1, (3,)), CELLS, spaces.Discrete(5), spaces.MultiBinary(3)], ids=describe)
def test_equal_spaces_stay_as_they_are(space: spaces.Space[Any]) -> None:
    shared = share([space, space])
    assert shared.observation == shared.padded == space
    assert shared.observe(space, 1) is identity


def test_vectors_are_padded_with_zeros_at_their_end() -> None:
    long, short = box([-1, -2, -3], [1, 2, 3]), box([-1, -2], [1, 5])
    shared = share([long, short])
    # The padding lies in the long one's bounds, but bounds that differ (−3 and 0; 2 and 5; 3 and 0) are not shared.
    assert shared.observation == box([-1, -2, -INF], [1, INF, INF])
    fitted = shared.observe(short, 1)(np.array([[0.5, 4], [-1, 2]], np.float32))
    np.testing.assert_array_equal(fitted, [[0.5, 4, 0], [-1, 2, 0]])
    assert fitted.dtype == np.float32
    assert shared.observe(long, 0) is identity


def test_the_padding_is_inside_even_where_zero_is_not() -> None:
    long, short = box(5, 6, (2,)), box(5, 6, (1,))
    shared = share([long, short])
    assert shared.observation == box([5, -INF], [6, INF])
    assert shared.observe(short, 1)(np.array([[5.5]], np.float32))[0] in shared.observation


def test_pictures_are_padded_on_each_axis() -> None:
    small, large = box(0, 255, (2, 1, 2), np.uint8), box(0, 255, (2, 2, 3), np.uint8)
    shared = share([small, large])
    assert shared.observation == large
    fitted = shared.observe(small, 0)(np.array([[[[1, 2]], [[3, 4]]]], np.uint8))
    np.testing.assert_array_equal(fitted, [[[[1, 2, 0], [0, 0, 0]], [[3, 4, 0], [0, 0, 0]]]])
    assert fitted.dtype == np.uint8


@pytest.mark.parametrize(
    ("one", "two", "shared"),
    [
        (box(0, 1, (2,)), box(0, 1, (2,)), box(0, 1, (2,))),
        (box([0, 0], [1, 1]), box([0, -1], [1, 1]), box([0, -INF], [1, 1])),
        (box([0, 0], [1, 1]), box([0, 0], [2, 1]), box([0, 0], [INF, 1])),
        (box([-INF, 0], [INF, 1]), box([0, 0], [1, 1]), box([-INF, 0], [INF, 1])),
        # of whole numbers the least and the greatest: an encoder needs to know how many there are
        (box([0, 2], [9, 5], dtype=np.uint8), box([1, 1], [3, 7], dtype=np.uint8), box([0, 1], [9, 7], dtype=np.uint8)),
    ],
    ids=["same", "low differs", "high differs", "one infinite", "integers"],
)
def test_bounds(one: spaces.Box, two: spaces.Box, shared: spaces.Box) -> None:
    assert share([one, two]).observation == share([two, one]).observation == shared


def test_bounds_do_not_depend_on_how_many_tasks_there_are() -> None:
    one, two, three = (box(-bound, bound, (2,)) for bound in (1, 2, 3))
    assert share([one, two]).observation == share([one, two, three]).observation


def test_discrete_observations() -> None:
    shared = share([spaces.Discrete(3), spaces.Discrete(5), FOUR])
    assert shared.observation == spaces.Discrete(5)
    assert shared.observe(spaces.Discrete(3), 0)(np.array([0, 2])).tolist() == [0, 2]


# ----------------------------------------------------------------------------------------------- index of the task


def test_task_id_of_vectors_comes_after_the_padding() -> None:
    long, short = box(-1, 1, (2,)), box(-1, 1, (1,))
    shared = share([long, short], task_ids=3)
    assert shared.observation == box([-1, -INF, 0, 0, 0], [1, INF, 1, 1, 1])
    assert shared.observe(short, 1)(np.float32([[0.5]])).tolist() == [[0.5, 0, 0, 1, 0]]
    assert shared.observe(long, 2)(np.float32([[0.5, 1], [0, -1]])).tolist() == [[0.5, 1, 0, 0, 1], [0, -1, 0, 0, 1]]


@pytest.mark.parametrize(
    ("space", "axis", "on"),
    [
        (box(0, 255, (2, 6, 5), np.uint8), 0, 255),  # channels first
        (box(0, 255, (6, 5, 2), np.uint8), 2, 255),  # channels last
        (CELLS, 2, 1),
        (box(0, 1, (10, 10, 4), np.uint8), 2, 1),  # MinAtar
        (box(0, 1, (6, 5, 2)), 2, 1),
    ],
    ids=["channels first", "channels last", "cells", "planes", "reals"],
)
def test_task_id_of_pictures_is_a_plane_that_is_on(space: spaces.Box, axis: int, on: int) -> None:
    shared = share([space, space], task_ids=3)
    seen = np.stack([space.sample(), space.sample()])
    for task_id in range(3):
        fitted = shared.observe(space, task_id)(seen)
        assert fitted.dtype == space.dtype
        assert all(observation in shared.observation for observation in fitted)
        picture, planes = np.split(fitted, [space.shape[axis]], axis + 1)
        np.testing.assert_array_equal(picture, seen)
        for i in range(3):
            assert (planes.take(i, axis + 1) == (on if i == task_id else 0)).all()
    planes_low, planes_high = (
        np.split(bound, [space.shape[axis]], axis)[1] for bound in (shared.observation.low, shared.observation.high)
    )
    assert (planes_low == 0).all()
    assert (planes_high == on).all()


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiBinary(2), box(0, 1, ())], ids=describe)
def test_task_id_needs_a_box(space: spaces.Space[Any]) -> None:
    message = "^switches: task-id needs Box observations to put the task's index in, the tasks have "
    with pytest.raises(ConfigError, match=message):
        share([space, space], task_ids=2)


# ---------------------------------------------------------------------------------------------------- actions


def test_discrete_actions_beyond_a_task_act_as_its_no_op() -> None:
    shared = share(actions=[TWO, FOUR])
    assert shared.action == FOUR
    assert shared.act(FOUR, 3) is identity
    assert shared.act(TWO, 0)(np.arange(4)).tolist() == [0, 1, 0, 0]
    assert shared.act(TWO, 1)(np.arange(4)).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("noop", [2, 9])
def test_a_no_op_that_is_none_of_the_actions(noop: int) -> None:
    with pytest.raises(ConfigError, match=f"^noop: one of the actions 0 to 1 is needed, got {noop}$"):
        share(actions=[TWO, FOUR]).act(TWO, noop)


def test_action_vectors_are_scaled_to_the_tasks_own_bounds() -> None:
    narrow, wide = box([-2], [2]), box([0, -1, 1], [10, 1, 4])
    shared = share(actions=[narrow, wide])
    assert shared.action == box(-1, 1, (3,))
    actions = np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1], [0.5, -0.5, 0], [-7, 7, 2]], np.float32)
    scaled = shared.act(wide, 0)(actions)
    np.testing.assert_array_equal(scaled, [[0, -1, 1], [5, 0, 2.5], [10, 1, 4], [7.5, -0.5, 2.5], [0, 1, 4]])
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(shared.act(narrow, 0)(actions), [[-2], [0], [2], [1], [-2]])


def test_equal_bounds_are_not_scaled() -> None:
    own = box(-2, 2, (1,))
    shared = share(actions=[own, own])
    assert shared.action == own
    assert shared.act(own, 0) is identity
    # a shorter vector of the same bounds is: the shared one lies in [−1, 1]
    shared = share(actions=[own, box(-2, 2, (2,))])
    assert shared.act(own, 0)(np.float32([[0.5, 1]])).tolist() == [[1.0]]


bounds = st.tuples(*[st.floats(-100, 100, width=32)] * 2).map(sorted)


@given(bounds, st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=5))
def test_scaled_actions_never_leave_their_bounds(ends: list[float], actions: list[float]) -> None:
    own = box([ends[0]], [ends[1]])
    act = share(actions=[own, box(-3, 3, (2,))]).act(own, 0)
    for action in act(np.float32([[a, 0] for a in [-1, 1, *actions]])):
        assert action in own


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (
            [box(0, 1, (2,)), spaces.Discrete(3)],
            None,
            "tasks: no observation space holds both A's Box(2 float32, 0 to 1) and B's Discrete(3)",
        ),
        (
            [box(0, 1, (2,)), box(0, 1, (2,)), box(0, 1, (2, 2))],
            None,
            "tasks: no observation space holds both A's Box(2 float32, 0 to 1) and C's Box(2×2 float32, 0 to 1): "
            "they differ in more than the length of axes",
        ),
        (
            [box(0, 1, (2,)), box(0, 255, (2,), np.uint8)],
            None,
            "tasks: no observation space holds both A's Box(2 float32, 0 to 1) and B's Box(2 uint8, 0 to 255): "
            "their types of number differ",
        ),
        (
            [spaces.MultiBinary(2), spaces.MultiBinary(2), spaces.MultiBinary(3)],
            None,
            "tasks: no observation space holds both A's MultiBinary(2) and C's MultiBinary(3): "
            "they differ in more than the length of axes",
        ),
        (
            [spaces.Discrete(2), spaces.Discrete(3, start=1)],
            None,
            "tasks: no observation space holds both A's Discrete(2) and B's Discrete(3, start=1): "
            "Discrete spaces can be shared where they start at 0",
        ),
        (
            [box(0, 1, (2,)), spaces.Text(3)],
            None,
            "tasks: B has the observation space Text(1, 3, charset=",
        ),
        (None, [TWO, box(0, 1, (2,))], "tasks: no action space holds both A's Discrete(2) and B's Box(2 float32"),
        (
            None,
            [TWO, spaces.Discrete(3, start=1)],
            "tasks: no action space holds both A's Discrete(2) and B's Discrete(3, start=1): "
            "Discrete spaces can be shared where they start at 0",
        ),
        (
            None,
            [box(-1, 1, (2,)), box(-1, INF, (2,))],
            "tasks: no action space holds both A's Box(2 float32, -1 to 1) and B's Box(2 float32, -1 to inf): "
            "vectors with finite bounds are needed",
        ),
        (
            None,
            [box(-INF, INF, (2,)), box(-1, 1, (2,))],
            "tasks: no action space holds both A's Box(2 float32, -inf to inf) and B's Box(2 float32, -1 to 1): "
            "vectors with finite bounds are needed",
        ),
        (
            None,
            [box(-1, 1, (2,)), box(-1, 1, (2, 2))],
            "tasks: no action space holds both A's Box(2 float32, -1 to 1) and B's Box(2×2 float32, -1 to 1): "
            "vectors with finite bounds are needed",
        ),
        (
            None,
            [spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 4])],
            "tasks: no action space holds both A's MultiDiscrete([2 3]) and B's MultiDiscrete([2 4]): "
            "vectors with finite bounds are needed",
        ),
        (None, [TWO, spaces.Dict(a=TWO)], "tasks: B has the action space Dict('a': Discrete(2)); one array is needed"),
    ],
    ids=[
        "kinds of observation", "axes", "types of number", "binary", "observations' start", "text", "kinds of action",
        "actions' start", "unbounded", "unbounded first", "action axes", "multi-discrete", "dict",
    ],
)  # fmt: skip
def test_refused(observations: list[Any] | None, actions: list[Any] | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        share(observations, actions)
    assert str(caught.value).startswith(message)
