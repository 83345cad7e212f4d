"""What an engine is, which there are, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from neoteny.configs import import_extra
from neoteny.envs.backends.orphans import PARENT
from neoteny.runners.engines.work import Job, Outcome, carry_out
from neoteny.runners.runs.lock import PATIENCE

#: Seconds between two looks at what has ended.
TICK = 0.5
#: Seconds for which a run waits until its folder is let go of: one that died elsewhere may need some to end.
PATIENT = 120
#: Variables of jobs: what more threads they have they start themselves.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Settings:
    """How jobs are run.

    Attributes:
        out: the folder that all jobs write in.
        jobs: so many at a time at most; None: as many as there is room for.
        memory: GiB that one job needs; None: nobody knows.
        gpus: the share of GPUs that one job gets.
        address: of a Ray cluster, ``auto`` or HOST:PORT; None: one is started on this machine.
        slurm: parameters of Slurm's jobs.
    """

    out: Path
    jobs: int | None = None
    memory: float | None = None
    gpus: float = 0.0
    address: str | None = None
    slurm: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Runs jobs.

    Attributes:
        notes: what the user should know before it does.
    """

    notes: list[str]

    @property
    def room(self) -> int | None:
        """So many jobs run at a time; None: nobody knows."""

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        """What has ended since the last time, also if that is nothing, at least once a second, until all have.

        Closed before that, it ends what runs.
        """


#: The module of each, whose ``start`` begins it, and the extra that it needs.
ENGINES = {
    "local": ("neoteny.runners.engines.local", ""),
    "ray": ("neoteny.runners.engines.on_ray", "ray"),
    "slurm": ("neoteny.runners.engines.on_slurm", "slurm"),
}

Start = Callable[[Settings], AbstractContextManager[Engine]]


def find_engine(name: str) -> Start:
    """What begins the engine of that name.

    Raises:
        ConfigError: the extra that it needs is not installed.
    """
    module, extra = ENGINES[name]
    return import_extra(f"--engine {name}", module, extra).start


def work() -> partial[Outcome]:
    """What carries out a job on any machine of a cluster, here and now being the driver's: its working directory.

    It waits for a process that is about to leave the run's folder.
    """
    return partial(carry_out, environment=ONE_THREAD | {PATIENCE: str(PATIENT)}, parent=PARENT, folder=Path.cwd())
