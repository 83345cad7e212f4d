"""A task, a visit to it, and the segments that a visit is cut into."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from neoteny.envs.shifts import Shift, parse_shift

STRICT = ConfigDict(extra="forbid")

BackendName = Literal["auto", "envpool", "vector", "gymnasium", "async"]


@dataclass(frozen=True, config=STRICT)
class Task:
    """An environment, what is shifted in it, and how long it is trained on.

    Attributes:
        env: a Gymnasium environment id, or EnvPool's.
        steps: the budget in environment steps, summed over the parallel environments.
        kwargs: passed to the environment's constructor.
        shifts: applied in order to observations and rewards, in reverse to actions.
        actions: the environment's actions that the agent is offered; by default all.
        noop: the offered action that stands in for those that only other tasks of the sequence have.
        backend: what runs it, see :func:`neoteny.envs.backends.make_backend`.
    """

    env: str
    steps: PositiveInt
    kwargs: dict[str, Any] = Field(default_factory=dict)
    shifts: tuple[Annotated[InstanceOf[Shift], BeforeValidator(parse_shift)], ...] = ()
    actions: tuple[NonNegativeInt, ...] = ()
    noop: NonNegativeInt = 0
    backend: BackendName = "auto"

    @property
    def label(self) -> str:
        """What the task is called in tables and logs."""
        return "+".join([self.env, *(shift.name for shift in self.shifts)])


@dataclass(frozen=True)
class Visit:
    """One stay in a task: the ``index``-th of the sequence, in the ``task_id``-th of its tasks."""

    index: int
    task: Task
    task_id: int = 0

    def rng(self, seed: int) -> np.random.Generator:
        """The generator that the shifts of this visit draw from."""
        return np.random.default_rng([seed, self.index])


@dataclass(frozen=True)
class Segment:
    """A part of a visit: ``steps`` environment steps that begin with fresh environments, ``start`` steps into it."""

    index: int
    visit: Visit
    steps: int
    ends_visit: bool
    start: int = 0

    def seed(self, run_seed: int) -> int:
        """The seed of this segment, for its environments and for the learner: a function of its place only."""
        return int(np.random.SeedSequence([run_seed, self.visit.index, self.index]).generate_state(1)[0] >> 1)
