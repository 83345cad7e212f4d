"""Sequences: budgets, cycles, segments and their seeds, fingerprints, and what YAML may say."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from counting_env import sequence

from neoteny import configs
from neoteny.envs import ConfigError, PermuteObservation, Task, TaskSequence

A = Task("A-v0", 10, kwargs={"size": 5, "view": 7}, shifts=(PermuteObservation(),))
B = Task("B-v0", 20)
BASE = TaskSequence((A, B), cycles=2, seed=3, source="here", name="base")

GOOD = {"env": "MiniGrid-Empty-5x5-v0", "steps": 10}


def read(**settings: Any) -> TaskSequence:
    return configs.build(TaskSequence, {"tasks": [GOOD], **settings}, "env")


def read_task(**settings: Any) -> TaskSequence:
    return read(tasks=[GOOD, {**GOOD, **settings}])


# ---------------------------------------------------------------------------------------------- fingerprint


@pytest.mark.parametrize(
    "same",
    [
        dataclasses.replace(BASE, name="other"),
        dataclasses.replace(BASE, source="elsewhere"),
        dataclasses.replace(BASE, tasks=(A, B, A, B), cycles=1),
        dataclasses.replace(BASE, tasks=(dataclasses.replace(A, backend="gymnasium"), B)),
        dataclasses.replace(BASE, tasks=(dataclasses.replace(A, kwargs={"view": 7, "size": 5}), B)),
        BASE.resized(num_tasks=4),
    ],
    ids=["name", "source", "cycles written out", "backend", "order of kwargs", "resized to what it was"],
)
def test_fingerprint_ignores(same: TaskSequence) -> None:
    assert same.fingerprint() == BASE.fingerprint()


def test_fingerprint_depends_on_all_that_makes_the_benchmark() -> None:
    def with_first(**change: Any) -> TaskSequence:
        return dataclasses.replace(BASE, tasks=(dataclasses.replace(A, **change), B))

    others = [
        BASE,
        with_first(env="C-v0"),
        with_first(steps=11),
        with_first(kwargs={"size": 6, "view": 7}),
        with_first(shifts=()),
        with_first(shifts=(PermuteObservation(), PermuteObservation())),
        dataclasses.replace(BASE, tasks=(B, A)),
        dataclasses.replace(BASE, cycles=1),
        dataclasses.replace(BASE, seed=4),
        BASE.resized(num_tasks=3),
        BASE.resized(steps_per_task=10),
    ]
    prints = [other.fingerprint() for other in others]
    assert len(set(prints)) == len(others), prints


def test_fingerprint_is_the_same_in_every_process_and_version() -> None:
    """Published results carry it: changing this number says that all of them are no longer comparable."""
    assert BASE.fingerprint() == "b05d3cab2510"


# ------------------------------------------------------------------------------------ visits and segments


def test_cycles_visit_the_tasks_again() -> None:
    assert [(v.index, v.task.env) for v in BASE.visits] == [(0, "A-v0"), (1, "B-v0"), (2, "A-v0"), (3, "B-v0")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num_tasks": 3}, [("A-v0", 10), ("B-v0", 20), ("A-v0", 10)]),
        ({"num_tasks": 1}, [("A-v0", 10)]),
        ({"num_tasks": 5}, [("A-v0", 10), ("B-v0", 20)] * 2 + [("A-v0", 10)]),
        ({"steps_per_task": 7}, [("A-v0", 7), ("B-v0", 7)] * 2),
        ({"steps_per_task": 7, "num_tasks": 2}, [("A-v0", 7), ("B-v0", 7)]),
        ({}, [("A-v0", 10), ("B-v0", 20)] * 2),
    ],
)
def test_resized(change: dict[str, int], expected: list[tuple[str, int]]) -> None:
    resized = BASE.resized(**change)
    assert [(v.task.env, v.task.steps) for v in resized.visits] == expected
    assert resized.visits[0].task.shifts == A.shifts
    assert (resized.seed, resized.name) == (BASE.seed, BASE.name)


@pytest.mark.parametrize("setting", ["steps_per_task", "num_tasks"])
def test_resized_refuses_nothing_to_do(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"^{setting}: at least 1 is needed, got 0$"):
        BASE.resized(**{setting: 0})


@pytest.mark.parametrize(
    ("longest", "multiple_of", "expected"),
    [
        # (visit, steps, ends the visit) for budgets of 10 and 20 steps
        (None, 1, [(0, 10, True), (1, 20, True)]),
        (None, 4, [(0, 12, True), (1, 20, True)]),  # rounded up to whole rollouts
        (8, 1, [(0, 8, False), (0, 2, True), (1, 8, False), (1, 8, False), (1, 4, True)]),
        (8, 4, [(0, 8, False), (0, 4, True), (1, 8, False), (1, 8, False), (1, 4, True)]),
        (10, 4, [(0, 8, False), (0, 4, True), (1, 8, False), (1, 8, False), (1, 4, True)]),  # at most 10
        (3, 5, [(0, 5, False), (0, 5, True), (1, 5, False), (1, 5, False), (1, 5, False), (1, 5, True)]),
        (100, 4, [(0, 12, True), (1, 20, True)]),
        (None, 64, [(0, 64, True), (1, 64, True)]),
    ],
)
def test_segments(longest: int | None, multiple_of: int, expected: list[tuple[int, int, bool]]) -> None:
    segments = BASE.resized(num_tasks=2).segments(longest, multiple_of)
    assert [(s.visit.index, s.steps, s.ends_visit) for s in segments] == expected
    assert [s.index for s in segments] == list(range(len(expected)))


def test_segment_seed_depends_only_on_run_visit_and_segment() -> None:
    chain = BASE.segments(5)
    other = sequence("C-v0", "C-v0", "C-v0", "C-v0", steps=10).segments(5)
    seeds = {(run, s.visit.index, s.index): s.seed(run) for run in range(5) for s in chain}
    assert len(set(seeds.values())) == len(seeds)
    for run, segment in itertools.product(range(5), other):
        place = (run, segment.visit.index, segment.index)
        if place in seeds:
            assert segment.seed(run) == seeds[place]
    assert all(0 <= seed < 2**31 for seed in seeds.values())


def test_segments_start_where_the_last_one_of_the_visit_stopped() -> None:
    segments = BASE.resized(num_tasks=2).segments(8, 4)
    assert [(s.visit.index, s.start, s.steps) for s in segments] == [
        (0, 0, 8), (0, 8, 4), (1, 0, 8), (1, 8, 8), (1, 16, 4),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- orders

LETTERS = tuple(Task(f"{letter}-v0", 10) for letter in "ABCD")


def ordered(order: Any, seed: int = 0, cycles: int | None = None, **settings: Any) -> TaskSequence:
    return TaskSequence(LETTERS, cycles=cycles, order=order, seed=seed, **settings)


def places(sequence: TaskSequence, count: int) -> list[int]:
    visits = [sequence.visit(index) for index in range(count)]
    assert [visit.task for visit in visits] == [LETTERS[visit.task_id] for visit in visits]
    return [visit.task_id for visit in visits]


def test_given_order_is_cyclic() -> None:
    assert places(ordered("given"), 10) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_each_shuffled_cycle_is_a_permutation_of_its_own() -> None:
    cycles = np.reshape(places(ordered("shuffled"), 400), (100, 4))
    np.testing.assert_array_equal(np.sort(cycles), np.tile(range(4), (100, 1)))
    assert len(set(map(tuple, cycles))) > 18  # of 24: the expected number is 23.7
    counts = np.array([np.bincount(cycles[:, place], minlength=4) for place in range(4)])
    assert counts.min() > 10  # of 25 expected: each task comes in each place


def test_sampled_visits_are_drawn_one_by_one() -> None:
    drawn = places(ordered("sampled"), 2000)
    pairs = np.bincount(4 * np.array(drawn[:-1]) + drawn[1:], minlength=16)
    assert np.abs(pairs - 125).max() < 45  # four standard deviations: each task is equally likely after each


@pytest.mark.parametrize("order", ["shuffled", "sampled"])
def test_order_is_a_function_of_seed_and_index_only(order: str) -> None:
    expected = places(ordered(order), 40)
    backwards = [ordered(order).visit(index).task_id for index in reversed(range(40))]
    assert backwards[::-1] == expected
    assert places(ordered(order, cycles=2), 40) == expected  # ... which is how long the sequence is
    assert [visit.task_id for visit in ordered(order, cycles=2).visits] == expected[:8]
    assert places(ordered(order).resized(steps_per_task=10, num_tasks=6), 40) == expected
    assert len({tuple(places(ordered(order, seed), 40)) for seed in range(20)}) == 20


def test_order_is_the_same_in_every_process_and_version() -> None:
    """As with the fingerprint: changing these numbers changes what was published."""
    assert places(ordered("shuffled"), 12) == [3, 1, 2, 0, 0, 3, 1, 2, 1, 3, 0, 2]
    assert places(ordered("sampled"), 12) == [0, 2, 0, 2, 0, 1, 3, 3, 2, 3, 1, 1]


@pytest.mark.parametrize("order", ["given", "shuffled", "sampled"])
@pytest.mark.parametrize(
    ("cycles", "num_tasks", "length"),
    [(1, None, 4), (3, None, 12), (None, None, None), (None, 7, 7), (3, 7, 7), (1, 9, 9)],
)
def test_length(order: str, cycles: int | None, num_tasks: int | None, length: int | None) -> None:
    made = ordered(order, cycles=cycles, num_tasks=num_tasks)
    assert made.length == length
    if length:
        assert [visit.index for visit in made.visits] == list(range(length))
        assert len(made.segments(5)) == 2 * length


def test_a_sequence_without_end_has_no_list_of_visits() -> None:
    endless = ordered("sampled")
    for ask in (lambda: endless.visits, lambda: endless.segments(5)):
        with pytest.raises(ConfigError, match=r"^num_tasks: this sequence has no end; say how many tasks"):
            ask()
    segments = list(itertools.islice(endless.iter_segments(5), 100))
    assert [(s.index, s.visit.index, s.start, s.ends_visit) for s in segments] == [
        (i, i // 2, 5 * (i % 2), i % 2 == 1) for i in range(100)
    ]
    assert segments[:14] == endless.resized(num_tasks=7).segments(5)


def test_fingerprint_of_orders() -> None:
    """It is of the visits as they come, so that what comes the same is the same."""
    prints = {
        (order, cycles, seed): ordered(order, seed, cycles).fingerprint()
        for order in ("given", "shuffled", "sampled")
        for cycles in (None, 1, 2)
        for seed in (0, 1)
    }
    assert len(set(prints.values())) == len(prints)
    shuffled = ordered("shuffled", cycles=1)
    written = dataclasses.replace(shuffled, order="given", tasks=tuple(visit.task for visit in shuffled.visits))
    assert written.fingerprint() == shuffled.fingerprint()
    assert ordered("sampled", num_tasks=4).fingerprint() == ordered("sampled", cycles=1).fingerprint()


def test_fingerprint_of_switches() -> None:
    hidden, signalled, told = (
        dataclasses.replace(BASE, switches=switches) for switches in ("hidden", "signalled", "task-id")
    )
    assert signalled.fingerprint() == BASE.fingerprint()
    assert len({made.fingerprint() for made in (hidden, signalled, told)}) == 3
    written_out = {"tasks": (A, B, A, B), "cycles": 1}
    assert dataclasses.replace(hidden, **written_out).fingerprint() == hidden.fingerprint()
    # ... but four tasks are told apart by another index than two
    assert dataclasses.replace(told, **written_out).fingerprint() != told.fingerprint()
    assert dataclasses.replace(told, name="other").fingerprint() == told.fingerprint()


@pytest.mark.parametrize("change", [{"actions": (0, 1)}, {"actions": (1, 0)}, {"noop": 1}], ids=str)
def test_fingerprint_depends_on_the_actions_offered(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(BASE, tasks=(dataclasses.replace(A, **change), B))
    assert changed.fingerprint() != BASE.fingerprint()
