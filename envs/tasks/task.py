"""A task, a visit to it, and the segments of a visit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from neoteny.envs.shifts import Shift, parse_shift

STRICT = ConfigDict(extra="forbid")

BackendName = Literal["auto", "envpool", "vector", "gymnasium", "async"]
Mission = Literal["shown", "hidden", "blank"]


@dataclass(frozen=True, config=STRICT)
class Task:
    """An environment with its shifts and its training budget.

    Attributes:
        env: a Gymnasium or EnvPool environment id.
        steps: the budget in environment steps, summed over the parallel environments.
        kwargs: passed to the environment's constructor.
        shifts: applied in order to observations and rewards, in reverse order to actions.
        actions: the environment's actions that the agent can choose from, counted from 0; by default all.
        noop: the offered action that replaces actions which only other tasks of the sequence have.
        mission: the text of a MiniGrid or BabyAI environment: ``shown``, as ids of words behind the entries of the
            picture; ``hidden``; or ``blank``, the control: ids that are all 0. By default it is hidden, with a warning
            if it differs between episodes.
        backend: what runs the environments, see :func:`neoteny.envs.backends.make_backend`.
    """

    env: str
    steps: PositiveInt
    kwargs: dict[str, Any] = Field(default_factory=dict)
    shifts: tuple[Annotated[InstanceOf[Shift], BeforeValidator(parse_shift)], ...] = ()
    actions: tuple[NonNegativeInt, ...] = ()
    noop: NonNegativeInt = 0
    mission: Mission | None = None
    backend: BackendName = "auto"


@dataclass(frozen=True)
class Visit:
    """One visit to a task: the ``index``-th visit of the sequence, to its ``task_id``-th task.

    ``label`` is what it is called in tables and logs; visits that are the same to the agent share it, others do not.
    """

    index: int
    task: Task
    task_id: int = 0
    label: str = ""

    def budget(self, multiple_of: int = 1) -> int:
        """The environment steps of the visit: its task's, rounded up to whole rollouts of ``multiple_of`` steps."""
        return -(-self.task.steps // multiple_of) * multiple_of

    def rng(self, seed: int) -> np.random.Generator:
        """The random generator for the shifts of this visit."""
        return np.random.default_rng([seed, self.index])


@dataclass(frozen=True)
class Segment:
    """A part of a visit: ``steps`` steps with fresh environments, beginning ``start`` steps into the visit.

    Attributes:
        trial: 0 for the run itself; with other numbers the same part has other seeds.
    """

    index: int
    visit: Visit
    steps: int
    ends_visit: bool
    start: int = 0
    trial: int = 0

    def seed(self, run_seed: int) -> int:
        """The seed of this segment, for environments and agent: of the run's seed, the position and the trial only."""
        entropy = [run_seed, self.visit.index, self.index, *([self.trial] if self.trial else [])]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)


def segments_of(visit: Visit, index: int, longest: int | None = None, multiple_of: int = 1) -> Iterator[Segment]:
    """A visit as parts of at most ``longest`` steps, each a multiple of ``multiple_of``.

    Args:
        visit: what is split.
        index: of the first part.
        longest: steps; None for one part.
        multiple_of: the steps of one rollout, to which every length is rounded up.
    """
    total = -(-visit.task.steps // multiple_of)
    most = max(1, longest // multiple_of) if longest else total
    for number, done in enumerate(range(0, total, most)):
        rollouts = min(most, total - done)
        last = done + rollouts == total
        yield Segment(index + number, visit, rollouts * multiple_of, last, done * multiple_of)
