"""Jobs of Slurm, through submitit: one array for all runs."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from neoteny.configs import ConfigError
from neoteny.runners.engines.engine import TICK, Settings, work
from neoteny.runners.engines.resumable import Resumable
from neoteny.runners.engines.work import LOST, Job, Outcome

#: Where, below the runs' folder, submitit keeps its files, and what lists which run is which job.
FOLDER, LIST = ".slurm", "jobs.jsonl"
#: Seconds between two looks at Slurm's queue.
LOOK = 5.0
#: A job that is in the queue no more and has left no result for so many seconds has none: disks of clusters are slow.
GONE = 30.0
#: Jobs of one array; Slurm's own limit, MaxArraySize, is 1,001 unless it is set.
ARRAY = 1000
#: Minutes that a job may take until it is put into the queue again, if nobody says it; and how often that may be.
MINUTES, TIMES = 24 * 60, 1000


class Slurm:
    """Jobs of Slurm. One that is preempted, or whose time is over, goes on from its last checkpoint.

    They do not end with this process if that is killed, and then the next one waits for them.

    Attributes:
        room: None, as only Slurm knows.
        notes: none.
    """

    def __init__(self, settings: Settings):
        self.room = settings.jobs
        self.notes: list[str] = []
        self.folder = settings.out.absolute() / FOLDER
        self._told: set[str] = set()
        self.jobs = self.folder / uuid.uuid4().hex[:8] / "%j"  # ids begin anew where Slurm is set up anew
        self.executor = submitit.SlurmExecutor(self.jobs, max_num_timeout=TIMES)
        given = dict(settings.slurm)
        known = {key: given.pop(key) for key in [*given] if key in self.executor._valid_parameters()}
        own: dict[str, Any] = {"job_name": "neoteny", "time": MINUTES, "stderr_to_stdout": True}
        own |= {"array_parallelism": settings.jobs or ARRAY}
        own |= {"mem": f"{round(settings.memory * 1024)}MB"} if settings.memory else {}
        own |= {"gpus_per_node": round(settings.gpus)} if settings.gpus else {}
        more = {"requeue": True} | dict(known.pop("additional_parameters", None) or {}) | given
        self.executor.update_parameters(**own | known, additional_parameters=more)

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        running = self._still_there({job.name: job for job in jobs})
        there = {job.name for job in running.values()}
        try:
            running |= self._submit([job for job in jobs if job.name not in there])
            gone, looked = dict.fromkeys(running, 0.0), time.monotonic()
            while running:
                time.sleep(TICK)
                done = [each for each in running if each.paths.result_pickle.exists()]
                if time.monotonic() - looked >= LOOK and (queue := queued()) is not None:
                    passed, looked = time.monotonic() - looked, time.monotonic()
                    gone = {each: 0.0 if each.job_id in queue else gone[each] + passed for each in running}
                done += [each for each in running if gone[each] >= GONE and each not in done]
                self._told |= {each.job_id for each in done}  # Slurm may have them for some time
                yield [_outcome(each, running.pop(each)) for each in done]
        finally:
            if running:
                subprocess.run(["scancel", *(each.job_id for each in running)], check=False)

    def _submit(self, jobs: Sequence[Job]) -> dict[submitit.Job[Any], Job]:
        """Submit arrays of jobs.

        Raises:
            ConfigError: Slurm does not take them.
        """
        submitted: dict[submitit.Job[Any], Job] = {}
        if not jobs:
            return submitted
        self.executor.update_parameters(cpus_per_task=max(job.threads for job in jobs))
        for first in range(0, len(jobs), ARRAY):
            some = jobs[first : first + ARRAY]
            try:
                found = self.executor.map_array(Resumable(), some, [work()] * len(some))
            except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
                raise ConfigError(f"--engine slurm: Slurm does not take the jobs: {error}") from error
            submitted |= zip(found, some, strict=True)
            with (self.folder / LIST).open("a") as file:
                file.writelines(
                    json.dumps([str(self.jobs), each.job_id, job.name]) + "\n"
                    for each, job in zip(found, some, strict=True)
                )
        return submitted

    def _still_there(self, jobs: dict[str, Job]) -> dict[submitit.Job[Any], Job]:
        """Jobs that another process has submitted, which was killed, and that Slurm still has."""
        try:
            lines = (self.folder / LIST).read_text().splitlines()
        except FileNotFoundError:
            return {}
        queue = (queued() or set()) - self._told
        known = {name: (folder, job_id) for folder, job_id, name in map(json.loads, lines) if job_id in queue}
        return {submitit.SlurmJob(*where): jobs[name] for name, where in known.items() if name in jobs}


def queued() -> set[str] | None:
    """The ids of the user's jobs that Slurm has; None if it does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if asked.returncode else {*asked.stdout.split()}


def _outcome(each: submitit.Job[Any], job: Job) -> Outcome:
    if not each.paths.result_pickle.exists():
        words = f"it has left Slurm's queue without a result: cancelled, or its node was lost\n{each.stdout() or ''}"
        return Outcome(job, LOST, words.strip(), float("nan"))
    try:
        return each.result()
    except UncompletedJobError as error:
        return Outcome(job, LOST, str(error), float("nan"))


@contextmanager
def start(settings: Settings) -> Iterator[Slurm]:
    """Nothing needs to be started.

    Raises:
        ConfigError: Slurm is not there, or has no such parameter, or GPUs are to be shared, which it cannot.
    """
    if settings.gpus != round(settings.gpus):
        raise ConfigError(f"--gpus: Slurm gives out whole GPUs, got {settings.gpus:g}")
    Path(settings.out).mkdir(parents=True, exist_ok=True)
    try:
        slurm = Slurm(settings)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(f"--engine slurm: {error}") from error
    yield slurm
