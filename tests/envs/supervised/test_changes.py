"""What each change does to examples, against counts of the examples themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs.supervised import CHANGES, Change, Data, Stream
from neoteny.envs.supervised.changes import find_change, plain
from neoteny.envs.supervised.sources import Digits

CLASSES = 5


def examples(count: int = 200) -> Data:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((count, 2, 3, 4)).astype(np.float32)
    y = np.arange(count) % CLASSES
    return Data(x, y, x[:50] + 1, y[:50], CLASSES)


def make(name: str, **settings: object) -> Change:
    cls, own = find_change({"change": name, **settings})
    return configs.build(cls, own, "change")


MADE = [(name, {"of": "permuted-pixels"} if name == "mixtures" else {}) for name in CHANGES]


@pytest.mark.parametrize(("name", "settings"), MADE)
def test_tasks_are_functions_of_number_and_seed_and_leave_the_data(name: str, settings: dict[str, object]) -> None:
    change, data, before = make(name, **settings), examples(), examples()
    one, again = (change.task(data, 1, 0).fingerprint() for _ in range(2))
    assert one == again
    assert one not in {change.task(data, 2, 0).fingerprint(), change.task(data, 1, 5).fingerprint()}
    assert data.fingerprint() == before.fingerprint()
    assert plain(change)["change"] == name
    cls, own = find_change(plain(change))
    assert configs.build(cls, own, "change") == change


@pytest.mark.parametrize(("name", "settings"), MADE)
def test_tasks_that_recur_are_the_same(name: str, settings: dict[str, object]) -> None:
    stream = Stream(data=Digits(samples=40), change=make(name, recur=2, **settings), num_tasks=5, epochs=1)
    tasks = [stream.task(index).fingerprint() for index in range(5)]
    assert tasks == [tasks[0], tasks[1]] * 2 + [tasks[0]]
    assert tasks[0] != tasks[1]
    labels = [visit.label for visit in stream.visits]
    assert labels == [labels[0], labels[1]] * 2 + [labels[0]]


def test_random_labels_of_a_share() -> None:
    data = examples()
    task = make("random-labels").task(data, 0, 0)
    assert task.test_x is None
    assert np.bincount(task.y, minlength=CLASSES).min() > 20  # all classes, about as often
    assert 0.1 < (task.y == data.y).mean() < 0.3  # by chance
    some = make("random-labels", share=0.25).task(data, 0, 0)
    assert 0.1 < (some.y != data.y).mean() <= 0.25
    assert some.test_y is not None
    assert some.test_y.tolist() == [*data.y[:50]]


def test_permuted_pixels_move_places_and_not_channels() -> None:
    data = examples()
    task = make("permuted-pixels").task(data, 0, 0)
    assert task.y is data.y
    assert not np.array_equal(task.x, data.x)
    for mine, theirs in zip(task.x[:3], data.x[:3], strict=True):
        assert np.array_equal(np.sort(mine.reshape(2, -1)), np.sort(theirs.reshape(2, -1)))
    where = [int(np.flatnonzero(data.x[0].reshape(2, -1)[0] == value)[0]) for value in task.x[0].reshape(2, -1)[0]]
    assert task.test_x is not None
    assert np.array_equal(task.test_x.reshape(50, 2, -1), (data.x[:50] + 1).reshape(50, 2, -1)[:, :, where])
    flat = data._replace(x=data.x.reshape(200, -1), test_x=None, test_y=None)
    assert np.array_equal(np.sort(make("permuted-pixels").task(flat, 0, 0).x), np.sort(flat.x))


def test_permuted_labels_and_flips_give_classes_other_names() -> None:
    data = examples()
    for change, kept in ((make("permuted-labels"), 0), (make("label-flips", pairs=2), 1), (make("label-flips"), 3)):
        task = change.task(data, 4, 0)
        names = {int(old): int(new) for old, new in zip(data.y, task.y, strict=True)}
        assert sorted(names.values()) == [*range(CLASSES)]
        assert task.test_y is not None
        assert [names[old] for old in data.y[:50]] == task.test_y.tolist()
        if change.name == "label-flips":
            assert sum(old == new for old, new in names.items()) == kept
            assert all(names[new] == old for old, new in names.items())
    with pytest.raises(ConfigError, match="5 classes have at most 2, got 3"):
        make("label-flips", pairs=3).check(data, 1)


def test_classes_are_added_one_by_one() -> None:
    data, change = examples(), make("class-incremental")
    seen = [{*change.task(data, number, 0).y.tolist()} for number in range(4)]
    assert [len(classes) for classes in seen] == [2, 3, 4, 5]
    assert all(one < other for one, other in itertools.pairwise(seen))
    assert [change.label(number) for number in range(2)] == ["2 classes", "3 classes"]
    test = change.task(data, 0, 0).test_y
    assert test is not None
    assert {*test.tolist()} == seen[0]
    change.check(data, 4)
    with pytest.raises(ConfigError, match=r"5 classes make 4 tasks.*--change.recur 4"):
        change.check(data, 5)
    make("class-incremental", recur=4).check(data, 9)


def test_segments_of_growing_tasks_are_whole_passes() -> None:
    stream = Stream(data=Digits(samples=100), change=make("class-incremental"), num_tasks=4, epochs=6)
    sizes = [len(stream.task(index).y) for index in range(4)]
    assert sizes == sorted(sizes)
    segments = stream.segments(200)
    assert [segment.index for segment in segments] == [*range(len(segments))]
    for visit, size in zip(stream.visits, sizes, strict=True):
        own = [segment for segment in segments if segment.visit == visit]
        assert sum(segment.steps for segment in own) == 6 * size == visit.task.steps
        assert all(segment.steps % size == 0 and segment.steps <= max(200, size) for segment in own)
        assert [segment.ends_visit for segment in own] == [False] * (len(own) - 1) + [True]


def test_teachers_give_numbers_and_inputs_stay() -> None:
    data, change = examples(), make("random-teachers", targets=3, hidden=16)
    one, other = (change.task(data, number, 0) for number in (0, 1))
    assert one.x is data.x
    assert one.y.shape == (200, 3)
    assert change.outputs(data) == one.outputs == 3
    assert np.allclose(one.y.mean(0), 0, atol=1e-5)
    assert np.allclose(one.y.std(0), 1, atol=1e-5)
    assert np.abs(np.corrcoef(one.y[:, 0], other.y[:, 0])[0, 1]) < 0.5
    assert Stream(data=Digits(samples=20), change=change).score == "r-squared"


def test_mixtures_go_from_one_task_to_the_next() -> None:
    data, inner = examples(), make("permuted-labels")
    change = make("mixtures", of="permuted-labels", stages=4)
    first, second = (inner.task(data, number, 0).y for number in (0, 1))
    assert np.array_equal(change.task(data, 0, 0).y, first)
    assert np.array_equal(change.task(data, 4, 0).y, second)
    differ = first != second
    before = np.zeros(len(first), bool)
    for stage in (1, 2, 3):
        y = change.task(data, stage, 0).y
        now = differ & (y == second)
        assert np.all((y == first) | (y == second))
        assert now.sum() == pytest.approx(stage / 4 * differ.sum(), abs=15)
        assert not (before & ~now).any()  # what is the next task's stays so
        before = now
    assert change.label(6) == "permuted labels #2 and 50% of permuted labels #3"
    for name in ("class-incremental", "mixtures"):
        with pytest.raises(ConfigError, match=f"change.of: tasks of {name} cannot be mixed"):
            make("mixtures", of=name)


def test_numbers_that_are_mixed_have_variance_1_too() -> None:
    stream = Stream(data=Digits(samples=300), change=make("mixtures", of="random-teachers"), num_tasks=6, epochs=1)
    for index in range(6):
        assert stream.task(index).y.std() == pytest.approx(1, abs=1e-4)


def test_numbers_as_targets_have_no_labels_to_change() -> None:
    data = examples()._replace(y=np.zeros((200, 1), np.float32))
    with pytest.raises(ConfigError, match="random-labels needs data with classes"):
        make("random-labels").check(data, 2)
    make("permuted-pixels").check(data, 2)


def test_a_fingerprint_tells_tasks_apart() -> None:
    def stream(**more: object) -> str:
        settings = {"data": Digits(samples=20), "change": make("random-labels"), "num_tasks": 3, "epochs": 2, **more}
        return Stream(**settings).fingerprint()  # type: ignore[arg-type]

    assert stream() == stream(name="other")
    others = (
        {"epochs": 3},
        {"tasks_seed": 1},
        {"data": Digits(samples=21)},
        {"change": make("random-labels", share=0.5)},
    )
    assert len({stream(), *(stream(**more) for more in others)}) == 5
    with pytest.raises(ConfigError, match="there is no such setting"):
        make("random-labels", shares=0.5)


class Own(Change):
    """Somebody's, which does ``what`` with the inputs."""

    name = "own"
    what = staticmethod(lambda x: x)

    def task(self, data: Data, number: int, seed: int) -> Data:
        return data._replace(x=type(self).what(data.x))


def of(what: Callable[[np.ndarray], np.ndarray]) -> Stream:
    own = type("Own", (Own,), {"what": staticmethod(what)})
    return Stream(data=Digits(samples=40), change=own(), num_tasks=3, epochs=1)


def test_what_a_change_of_ones_own_may_make() -> None:
    stream = of(lambda x: x[..., ::-1].astype(np.float64))
    found = stream.task(1).x
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, stream.examples.x[..., ::-1])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda x: x[:, :, 1:], r"x has the shape \(40, 1, 7, 8\) and y \(40,\); \(n, 1, 8, 8\) and \(n,\) are needed"),
        (lambda x: x[1:], r"x has the shape \(39, 1, 8, 8\)"),
        (lambda x: x["a"], r"IndexError: .*test_changes.py, line \d+\)"),
    ],
)
def test_what_a_change_of_ones_own_may_not_make(what: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"change: task 2 of Own: {said}"):
        of(what).task(1)


@pytest.mark.parametrize("y", [np.full(40, 10), np.full(40, -1), np.zeros((40, 1), int)])
def test_classes_of_a_change_of_ones_own(y: np.ndarray) -> None:
    data = Digits(samples=40).load(0)
    with pytest.raises(ConfigError, match=r"y has others than the classes 0 to 9|and y \(40, 1\)"):
        data._replace(y=y).checked(data.x.shape[1:], 10)
