"""A sequence of tasks of examples."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

from pydantic import InstanceOf, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from neoteny.configs import ConfigError, raised
from neoteny.envs.supervised.change import Change
from neoteny.envs.supervised.changes import plain
from neoteny.envs.supervised.data import Data
from neoteny.envs.supervised.sources import STRICT, Source
from neoteny.envs.tasks.sequence import MOST_VISITS
from neoteny.envs.tasks.task import Segment, Task, Visit, segments_of


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Stream:
    """Tasks in the order in which a network learns them. A step is an example that is learned from, once.

    Attributes:
        data: all examples.
        change: makes the tasks of them.
        num_tasks: how many there are.
        epochs: passes through a task's examples.
        tasks_seed: of what is drawn: which examples are used, labels, permutations. It belongs to the benchmark, so
            that all runs, whatever their own seed, have the same tasks.
        name: of the sequence.
    """

    data: InstanceOf[Source]
    change: InstanceOf[Change]
    num_tasks: PositiveInt = 14
    epochs: PositiveInt = 40
    tasks_seed: NonNegativeInt = 0
    name: str = "stream"

    def check(self) -> None:
        """Raises:
        ConfigError: the data is not there, or there are no such tasks of it.
        """
        if self.num_tasks > MOST_VISITS:
            raise ConfigError(f"--num-tasks: at most {MOST_VISITS:,} tasks can be learned, got {self.num_tasks:,}")
        self.change.check(self.examples, self.num_tasks)

    @property
    def examples(self) -> Data:
        """All examples, as they are before any change."""
        return self.data.load(self.tasks_seed)

    @cached_property
    def of_examples(self) -> str:
        """A hash of all examples."""
        return self.examples.fingerprint()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an input."""
        return self.examples.x.shape[1:]

    @property
    def outputs(self) -> int:
        """Of a network for all tasks."""
        return self.change.outputs(self.examples)

    @property
    def score(self) -> str:
        """The headline: the accuracy, or R² where targets are numbers."""
        return "accuracy" if self.task(0).has_classes else "r-squared"

    def task(self, index: int) -> Data:
        """The examples of the ``index``-th task.

        Raises:
            ConfigError: the change makes something else, or fails.
        """
        number, examples = self.change.place(index), self.examples
        try:
            return self.change.task(examples, number, self.tasks_seed).checked(self.shape, self.outputs)
        except ConfigError as error:
            raise ConfigError(f"change: task {number + 1} of {type(self.change).__name__}: {error}") from error
        except Exception as error:
            raise ConfigError(f"change: task {number + 1} of {type(self.change).__name__}: {raised(error)}") from error

    @cached_property
    def visits(self) -> list[Visit]:
        """All tasks; their steps are passes times examples."""
        return [self._visit(index) for index in range(self.num_tasks)]

    def _visit(self, index: int) -> Visit:
        number = self.change.place(index)
        task = Task(env=self.name, steps=self.epochs * self.size(index))
        return Visit(index, task, number, self.change.label(number))

    def size(self, index: int) -> int:
        """The examples of the ``index``-th task: the steps of one pass."""
        return len(self.task(index).y) if self.change.changes_size else len(self.examples.y)

    def segments(self, longest: int) -> list[Segment]:
        """All tasks as parts of at most so many steps, each of whole passes."""
        found: list[Segment] = []
        for visit in self.visits:
            found += segments_of(visit, len(found), longest, self.size(visit.index))
        return found

    def fingerprint(self) -> str:
        """A hash of all that defines the benchmark: examples, change, budgets, seed. The name is not included."""
        parts = [self.of_examples, plain(self.change), self.num_tasks, self.epochs, self.tasks_seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def plain(self) -> dict[str, Any]:
        """As plain data, without the fingerprint."""
        return {
            "data": self.data.plain(),
            "change": plain(self.change),
            **{key: getattr(self, key) for key in ("num_tasks", "epochs", "tasks_seed", "score", "name")},
        }
