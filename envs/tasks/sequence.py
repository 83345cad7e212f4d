"""Task sequences, loaded from YAML and identified by a fingerprint."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from neoteny import configs
from neoteny.envs.tasks import labels
from neoteny.envs.tasks.task import STRICT, Segment, Task, Visit

#: An agent can be trained on so many tasks, one after the other; an endless sequence has more.
MOST_VISITS = 10_000


@dataclass(frozen=True, config=STRICT)
class TaskSequence:
    """Tasks in the order in which an agent is trained on them.

    Attributes:
        tasks: the tasks of one cycle.
        cycles: number of passes through the cycle; null for an endless sequence.
        order: ``given``; ``shuffled``, again in each cycle; or ``sampled``, independently for each visit.
        switches: ``hidden`` from the agent; ``signalled`` to it, so that methods and agents can act on them; or
            ``task-id``, signalled and with the task's one-hot index appended to each observation.
        num_tasks: number of visits; overrides ``cycles``.
        seed: seed of the order and of everything random in a shift (permutations, ...). It belongs to the benchmark, so
            that all runs, whatever their own seed, have the same tasks.
        score: the headline of tables and reports: ``return``, of the agent's rewards; the score of the whole ``game``,
            of the task's own rewards; ``success``; or ``reward-rate``, for environments without end. The others are
            recorded too.
        family: the kind of environments; selects an agent's settings for this family, if it has any.
        segment_steps: of runs on it, unless ``--segment-steps`` says otherwise: a checkpoint at least this often, for
            environments that are slow. It is no part of the benchmark.
        source: where the benchmark comes from, and what was substituted.
        name: name of the sequence.
    """

    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    cycles: PositiveInt | None = 1
    order: Literal["given", "shuffled", "sampled"] = "given"
    switches: Literal["hidden", "signalled", "task-id"] = "signalled"
    num_tasks: PositiveInt | None = None
    seed: NonNegativeInt = 0
    score: Literal["return", "game", "success", "reward-rate"] = "return"
    family: str = ""
    segment_steps: PositiveInt | None = None
    source: str = ""
    name: str = "sequence"

    @classmethod
    def load(cls, name_or_path: str) -> TaskSequence:
        """A preset of ``configs/envs`` by name, or a YAML file by path.

        Raises:
            ConfigError: there is no such preset, or a setting in it is invalid.
        """
        name, data = configs.load("envs", name_or_path)
        return configs.build(cls, {"name": name, **data}, "env")

    def resized(self, steps_per_task: int | None = None, num_tasks: int | None = None) -> TaskSequence:
        """The same sequence with another budget per task, or with ``num_tasks`` visits (cycling as needed).

        Raises:
            ConfigError: one of them is less than 1, or there are too many tasks.
        """
        for setting, value in (("steps_per_task", steps_per_task), ("num_tasks", num_tasks)):
            if value is not None and value < 1:
                raise configs.ConfigError(f"{setting}: at least 1 is needed, got {value}")
        if (num_tasks or 0) > MOST_VISITS:
            raise configs.ConfigError(f"num_tasks: at most {MOST_VISITS:,} tasks can be learned, got {num_tasks:,}")
        tasks = self.tasks
        if steps_per_task is not None:
            tasks = tuple(dataclasses.replace(task, steps=steps_per_task) for task in tasks)
        return dataclasses.replace(self, tasks=tasks, num_tasks=num_tasks or self.num_tasks)

    @model_validator(mode="after")
    def _has_an_end_in_sight(self) -> Self:
        if (self.length or 0) > MOST_VISITS:
            setting = "num_tasks" if self.num_tasks else "cycles"
            raise ValueError(f"{setting}: at most {MOST_VISITS:,} tasks can be learned, got {self.length:,}")
        return self

    @property
    def length(self) -> int | None:
        """The number of visits; None if endless."""
        return self.num_tasks or (self.cycles and self.cycles * len(self.tasks))

    def visit(self, index: int) -> Visit:
        """The ``index``-th visit. It depends on the sequence and the index only."""
        place = self._place(index)
        task = self.tasks[place]
        visit = Visit(index, task, place)
        text, unsaid = labels.shifted(task, visit.rng(self.seed))
        label = " ".join(filter(None, [self._names[place], text]))
        if unsaid:
            self._seen.extend(self._first[self._place(later)] for later in range(len(self._seen), index))
            label += f" #{1 + self._seen[:index].count(self._first[place])}"
        return dataclasses.replace(visit, label=label)

    @functools.cached_property
    def _names(self) -> list[str]:
        return labels.names(self.tasks)

    @functools.cached_property
    def _first(self) -> list[int]:
        """For each task, where it stands first."""
        return [self.tasks.index(task) for task in self.tasks]

    @functools.cached_property
    def _seen(self) -> list[int]:
        """That of the first visits, as far as it was asked for."""
        return []

    def _place(self, index: int) -> int:
        """Which of the tasks the ``index``-th visit is to."""
        cycle, place = divmod(index, len(self.tasks))
        if self.order == "shuffled":
            place = int(np.random.default_rng([self.seed, cycle, 1]).permutation(len(self.tasks))[place])
        if self.order == "sampled":
            place = int(np.random.default_rng([self.seed, index, 2]).integers(len(self.tasks)))
        return place

    @property
    def visits(self) -> list[Visit]:
        """All visits.

        Raises:
            ConfigError: the sequence is endless.
        """
        if self.length is None:
            raise configs.ConfigError("num_tasks: this sequence has no end; say how many tasks are to be learned")
        return [self.visit(index) for index in range(self.length)]

    @property
    def first_visits(self) -> list[int]:
        """For each visit, the index of the first one to the same task.

        Visits are to the same task if they have the same label and, where the agent sees it, the same task id.

        Raises:
            ConfigError: the sequence is endless.
        """
        first: dict[tuple[str, int | None], int] = {}
        shown = self.switches == "task-id"
        return [first.setdefault((v.label, v.task_id if shown else None), v.index) for v in self.visits]

    def iter_segments(self, longest: int | None = None, multiple_of: int = 1) -> Iterator[Segment]:
        """All segments, also of an endless sequence: each visit is split into parts of at most ``longest`` steps.

        Every length is rounded up to a multiple of ``multiple_of`` (the steps of one rollout), so that no rollout
        spans two tasks. A visit is therefore up to ``multiple_of`` − 1 steps longer than its budget.
        """
        index = 0
        for visit_index in itertools.count() if self.length is None else range(self.length):
            visit = self.visit(visit_index)
            total = -(-visit.task.steps // multiple_of)
            most = max(1, longest // multiple_of) if longest else total
            for done in range(0, total, most):
                rollouts = min(most, total - done)
                last = done + rollouts == total
                yield Segment(index, visit, rollouts * multiple_of, last, done * multiple_of)
                index += 1

    def segments(self, longest: int | None = None, multiple_of: int = 1) -> list[Segment]:
        """:meth:`iter_segments` as a list.

        Raises:
            ConfigError: the sequence is endless.
        """
        _ = self.visits
        return list(self.iter_segments(longest, multiple_of))

    def fingerprint(self) -> str:
        """A hash of everything that defines the benchmark: tasks, budgets, shifts, seed. The name is not included.

        Sequences with the same fingerprint are the same benchmark, even if their YAML files differ.
        """
        if self.length is None:
            visits: Any = {"tasks": [_essence(task) for task in self.tasks], "order": self.order}
        else:
            visits = [_essence(visit.task) for visit in self.visits]
        parts = [self.seed, visits, *([] if self.switches == "signalled" else [self.switches])]
        if self.switches == "task-id" and self.length is not None:
            parts += [len(self.tasks), [visit.task_id for visit in self.visits]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _essence(task: Task) -> dict[str, Any]:
    """What defines the task. Settings added later are included only if used, so that old fingerprints stay valid."""
    mission = None if task.mission == "hidden" else task.mission
    later = {"actions": list(task.actions), "noop": task.noop, "mission": mission}
    return {
        "env": task.env,
        "steps": task.steps,
        "kwargs": task.kwargs,
        "shifts": [{"shift": shift.name, **vars(shift)} for shift in task.shifts],
        **{name: value for name, value in later.items() if value},
    }
