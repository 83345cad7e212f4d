"""How tasks differ from one another. Each change is endless, or comes again to its first task after ``recur`` tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, InstanceOf, PositiveInt
from pydantic.dataclasses import dataclass

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs.supervised.change import Change
from neoteny.envs.supervised.data import Array, Data, standardized
from neoteny.envs.supervised.sources import STRICT


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RandomLabels(Change):
    """Examples get labels at random: what can be learned is to remember.

    Attributes:
        share: of the examples that do; the others keep theirs.
    """

    name: ClassVar[str] = "random-labels"

    share: Annotated[float, Field(gt=0, le=1)] = 1.0

    def task(self, data: Data, number: int, seed: int) -> Data:
        rng = self.rng(number, seed)
        y = data.y.copy()
        chosen = rng.permutation(len(y))[: round(self.share * len(y))]
        y[chosen] = rng.integers(data.outputs, size=len(chosen))
        return data.with_labels(y, data.test_y if self.share < 1 else None)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PermutedPixels(Change):
    """The places of a picture, or the features of a vector, are in another order, in all examples alike."""

    name: ClassVar[str] = "permuted-pixels"

    def task(self, data: Data, number: int, seed: int) -> Data:
        size = int(np.prod(data.x.shape[-2:] if data.x.ndim == 4 else data.x.shape[1:]))
        order = self.rng(number, seed).permutation(size)

        def permuted(x: Array) -> Array:
            return x.reshape(*x.shape[:-2] if x.ndim == 4 else x.shape[:1], size)[..., order].reshape(x.shape)

        return data._replace(x=permuted(data.x), test_x=None if data.test_x is None else permuted(data.test_x))

    def check(self, data: Data, tasks: int) -> None:
        pass


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PermutedLabels(Change):
    """Classes change names among them, all of them: what belongs together still does."""

    name: ClassVar[str] = "permuted-labels"

    def task(self, data: Data, number: int, seed: int) -> Data:
        names = self.names(data, self.rng(number, seed))
        return data.with_labels(names[data.y], None if data.test_y is None else names[data.test_y])

    def names(self, data: Data, rng: np.random.Generator) -> Array:
        """The new name of each class."""
        return rng.permutation(data.outputs)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LabelFlips(PermutedLabels):
    """Some classes change names with one other, and the rest keep theirs.

    Attributes:
        pairs: of classes that do.
    """

    name: ClassVar[str] = "label-flips"

    pairs: PositiveInt = 1

    def names(self, data: Data, rng: np.random.Generator) -> Array:
        names = np.arange(data.outputs)
        one, other = rng.permutation(data.outputs)[: 2 * self.pairs].reshape(2, -1)
        names[one], names[other] = other, one
        return names

    def check(self, data: Data, tasks: int) -> None:
        super().check(data, tasks)
        if 2 * self.pairs > data.outputs:
            raise ConfigError(
                f"change.pairs: {data.outputs} classes have at most {data.outputs // 2}, got {self.pairs}"
            )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ClassIncremental(Change):
    """Classes are added to those that are there, in an order at random. It ends when all are there, unless it recurs.

    Attributes:
        first: classes of the first task.
        more: classes that each further task adds.
    """

    name: ClassVar[str] = "class-incremental"
    changes_size: ClassVar[bool] = True

    first: PositiveInt = 2
    more: PositiveInt = 1

    def task(self, data: Data, number: int, seed: int) -> Data:
        there = self.rng(0, seed).permutation(data.outputs)[: self.first + number * self.more]
        here = np.isin(data.y, there)
        found = data._replace(x=data.x[here], y=data.y[here])
        if data.test_x is None or data.test_y is None:
            return found
        here = np.isin(data.test_y, there)
        return found._replace(test_x=data.test_x[here], test_y=data.test_y[here])

    def label(self, number: int) -> str:
        return f"{self.first + number * self.more} classes"

    def check(self, data: Data, tasks: int) -> None:
        super().check(data, tasks)
        if self.first > data.outputs:
            raise ConfigError(f"change.first: the data has {data.outputs} classes, got {self.first}")
        most = 1 + (data.outputs - self.first) // self.more
        if min(tasks, self.recur or tasks) > most:
            raise ConfigError(
                f"--num-tasks: {data.outputs} classes make {most} tasks, beginning with {self.first} and adding "
                f"{self.more}, got {tasks}; or let them come again: --change.recur {most}"
            )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RandomTeachers(Change):
    """Regression: the targets are outputs of another random network in each task, inputs stay.

    The teacher is tanh(x·W/√d + b)·V with standard normal W, b and V, d the number of features; its outputs are
    standardized over the training examples.

    Attributes:
        targets: outputs of a teacher.
        hidden: units of a teacher.
    """

    name: ClassVar[str] = "random-teachers"

    targets: PositiveInt = 1
    hidden: PositiveInt = 64

    def task(self, data: Data, number: int, seed: int) -> Data:
        rng = self.rng(number, seed)
        features = int(np.prod(data.x.shape[1:]))
        inner, shift = rng.standard_normal((features, self.hidden)), rng.standard_normal(self.hidden)
        outer = rng.standard_normal((self.hidden, self.targets))

        def said(x: Array) -> Array:
            return np.tanh(x.reshape(len(x), -1) @ inner / features**0.5 + shift) @ outer

        y, test_y = standardized(said(data.x), None if data.test_x is None else said(data.test_x))
        return data.with_labels(y, test_y)._replace(outputs=self.targets)

    def outputs(self, data: Data) -> int:
        return self.targets

    def check(self, data: Data, tasks: int) -> None:
        pass


def parse_change(value: object) -> Change:
    """A change from YAML: its name, or a mapping of ``change`` and its settings.

    Raises:
        ConfigError: there is none of this name, or a setting is unknown or wrong.
    """
    if isinstance(value, Change):
        return value
    cls, settings = _found(value)
    return configs.build(cls, settings, "change")


def _found(value: object) -> tuple[type[Change], dict[str, Any]]:
    given = {"change": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"a change is a name ({', '.join(CHANGES)}) or a mapping with the key 'change', got {value!r}"
        )
    return find_change(given)


def _to_be_mixed(value: object) -> Change:
    cls = type(value) if isinstance(value, Change) else _found(value)[0]
    if cls.changes_size or issubclass(cls, Mixtures):
        raise ConfigError(f"tasks of {cls.name} cannot be mixed, their examples are not the same")
    return parse_change(value)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Mixtures(Change):
    """From each task of another change to its next one in steps: a share of the examples are the next task's already.

    The share grows from 0 to 1, and examples that are the next task's stay so.

    Attributes:
        of: the other change, by name, or ``{change: name, setting: value}``.
        stages: steps from one task to the next; with 1 there are no mixtures.
    """

    name: ClassVar[str] = "mixtures"

    of: Annotated[InstanceOf[Change], BeforeValidator(_to_be_mixed)]
    stages: PositiveInt = 5

    def task(self, data: Data, number: int, seed: int) -> Data:
        now, stage = divmod(number, self.stages)
        one, other = (self.of.task(data, self.of.place(place), seed) for place in (now, now + 1))
        share = stage / self.stages
        x, y = _mixed((one.x, one.y), (other.x, other.y), share, self.rng(now, seed))
        test_x = test_y = None
        if one.test_x is not None and one.test_y is not None and other.test_x is not None and other.test_y is not None:
            tests = ((one.test_x, one.test_y), (other.test_x, other.test_y))
            test_x, test_y = _mixed(*tests, share, self.rng(now, seed))
        if not one.has_classes:
            y, test_y = standardized(y, test_y)
        return one._replace(x=x, y=y, test_x=test_x, test_y=test_y)

    def label(self, number: int) -> str:
        now, stage = divmod(number, self.stages)
        name, following = (self.of.label(self.of.place(place)) for place in (now, now + 1))
        return f"{name} and {stage / self.stages:.0%} of {following}" if stage else name

    def outputs(self, data: Data) -> int:
        return self.of.outputs(data)

    def check(self, data: Data, tasks: int) -> None:
        self.of.check(data, -(-tasks // self.stages) + 1)


def _mixed(
    one: tuple[Array, Array], other: tuple[Array, Array], share: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    count = len(one[1])
    there = rng.permutation(count)[: round(share * count)]
    mixed = []
    for mine, theirs in zip(one, other, strict=True):
        mine = mine.copy()
        mine[there] = theirs[there]
        mixed.append(mine)
    return mixed[0], mixed[1]


#: All changes by their name in YAML and on the command line.
CHANGES: dict[str, type[Change]] = {
    change.name: change
    for change in (
        RandomLabels,
        PermutedPixels,
        PermutedLabels,
        LabelFlips,
        ClassIncremental,
        RandomTeachers,
        Mixtures,
    )
}


def find_change(settings: Mapping[str, Any]) -> tuple[type[Change], dict[str, Any]]:
    """The class that ``change`` names, in :data:`CHANGES` or anybody's as module:Class, and its settings.

    Raises:
        ConfigError: there is none.
    """
    rest = {key: value for key, value in settings.items() if key != "change"}
    return configs.find_class("change", str(settings.get("change")), CHANGES, Change), rest


def plain(change: Change) -> dict[str, Any]:
    """A change as plain data, which :func:`parse_change` takes."""
    settings = {key: getattr(change, key) for key in configs.fields(type(change))}
    inner = {key: plain(value) for key, value in settings.items() if isinstance(value, Change)}
    return {"change": configs.class_name(type(change), CHANGES), **settings, **inner}
