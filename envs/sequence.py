"""Tasks, and sequences of them: plain frozen values, read from YAML, hashed for comparison."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

import configs
from envs.shifts import Shift, parse_shift

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class Task:
    """An environment, what is shifted in it, and how long it is trained on.

    Attributes:
        env: a Gymnasium environment id.
        steps: the budget in environment steps, summed over the parallel environments.
        kwargs: passed to the environment's constructor.
        shifts: applied in order to observations and rewards, in reverse to actions.
        backend: ``envpool``, ``gymnasium``, or ``auto`` for EnvPool where it has the environment.
    """

    env: str
    steps: PositiveInt
    kwargs: dict[str, Any] = Field(default_factory=dict)
    shifts: tuple[Annotated[InstanceOf[Shift], BeforeValidator(parse_shift)], ...] = ()
    backend: Literal["auto", "envpool", "gymnasium"] = "auto"

    @property
    def label(self) -> str:
        """What the task is called in tables and logs."""
        return "+".join([self.env, *(shift.name for shift in self.shifts)])


@dataclass(frozen=True)
class Visit:
    """One stay in a task: the ``index``-th of the sequence."""

    index: int
    task: Task

    def rng(self, seed: int) -> np.random.Generator:
        """The generator that the shifts of this visit draw from."""
        return np.random.default_rng([seed, self.index])


@dataclass(frozen=True)
class Segment:
    """A part of a visit: ``steps`` environment steps that begin with fresh environments."""

    index: int
    visit: Visit
    steps: int
    ends_visit: bool

    def seed(self, run_seed: int) -> int:
        """The seed of this segment, for its environments and for the learner: a function of its place only."""
        return int(np.random.SeedSequence([run_seed, self.visit.index, self.index]).generate_state(1)[0] >> 1)


@dataclass(frozen=True, config=STRICT)
class TaskSequence:
    """Tasks in the order in which an agent meets them.

    Attributes:
        tasks: the tasks of one cycle.
        cycles: how often the cycle is gone through.
        seed: what random shifts (permutations, ...) are drawn from. It belongs to the benchmark, so that every
            run, whatever its own seed, meets the same tasks.
        source: where the benchmark comes from, and what was substituted.
        name: what the sequence is called.
    """

    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    cycles: PositiveInt = 1
    seed: NonNegativeInt = 0
    source: str = ""
    name: str = "sequence"

    @classmethod
    def load(cls, name_or_path: str) -> TaskSequence:
        """A preset of ``configs/envs`` by name, or a YAML file by path.

        Raises:
            ConfigError: there is no such preset, or a setting in it is wrong.
        """
        name, data = configs.load("envs", name_or_path)
        return configs.build(cls, {"name": name, **data}, "env")

    def resized(self, steps_per_task: int | None = None, num_tasks: int | None = None) -> TaskSequence:
        """The same sequence with another budget per task, or with ``num_tasks`` visits (cycling as needed).

        Raises:
            ConfigError: one of them is less than 1.
        """
        for setting, value in (("steps_per_task", steps_per_task), ("num_tasks", num_tasks)):
            if value is not None and value < 1:
                raise configs.ConfigError(f"{setting}: at least 1 is needed, got {value}")
        tasks = self.tasks * self.cycles
        if num_tasks is not None:
            tasks = tuple(self.tasks[i % len(self.tasks)] for i in range(num_tasks))
        if steps_per_task is not None:
            tasks = tuple(dataclasses.replace(task, steps=steps_per_task) for task in tasks)
        if tasks == self.tasks * self.cycles:
            return self
        return dataclasses.replace(self, tasks=tasks, cycles=1)

    @property
    def visits(self) -> list[Visit]:
        return [Visit(index, task) for index, task in enumerate(self.tasks * self.cycles)]

    def segments(self, longest: int | None = None, multiple_of: int = 1) -> list[Segment]:
        """The chain of segments: each visit cut into parts of at most ``longest`` steps.

        Every length is rounded up to a multiple of ``multiple_of`` (the steps of one rollout), so that no rollout
        spans two tasks; a visit is therefore up to ``multiple_of`` − 1 steps longer than its budget.
        """
        chain: list[Segment] = []
        for visit in self.visits:
            total = -(-visit.task.steps // multiple_of)
            most = max(1, longest // multiple_of) if longest else total
            done = 0
            while done < total:
                rollouts = min(most, total - done)
                done += rollouts
                chain.append(Segment(len(chain), visit, rollouts * multiple_of, done == total))
        return chain

    def fingerprint(self) -> str:
        """A hash of everything that makes the benchmark what it is: tasks, budgets, shifts, seed. Not its name.

        Sequences of the same fingerprint are the same benchmark, however they were written down.
        """
        visits = [
            {**dataclasses.asdict(v.task), "shifts": [{"shift": s.name, **vars(s)} for s in v.task.shifts]}
            for v in self.visits
        ]
        for visit in visits:
            del visit["backend"]
        plain = json.dumps([self.seed, visits], sort_keys=True, default=str)
        return hashlib.sha256(plain.encode()).hexdigest()[:12]
