"""Programs as processes of their own, several at a time."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from neoteny.envs.backends.orphans import PARENT
from neoteny.runners.measures import in_words
from neoteny.runners.runs.display import counter
from neoteny.runners.runs.tables import read_rows
from neoteny.runners.sweeps.progress import duration


class Job(NamedTuple):
    """A process to be run.

    Attributes:
        name: for the console: the run's folder.
        command: what is run.
    """

    name: str
    command: list[str]

    def run(self, running: set[subprocess.Popen[str]]) -> tuple[int, str, float]:
        """Its exit code, its errors, and the seconds it took. It is in ``running`` meanwhile."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
        began = time.monotonic()
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.command, stdout=pipe, stderr=pipe, text=True, env=environment)
        running.add(process)
        _, errors = process.communicate()
        running.discard(process)
        return process.returncode, errors, time.monotonic() - began

    def outcome(self) -> str:
        """What a run has reached: the mean over its tasks."""
        rows = read_rows(Path(self.name) / "tasks.csv", 2**63)
        headline = rows[0].get("headline", "return") if rows else ""
        values = [float(row[f"{headline}_mean"]) for row in rows if row.get(f"{headline}_mean")]
        return f"mean {in_words(headline)} {sum(values) / len(values):.4g}, " if values else ""


def run_all(jobs: Sequence[Job], at_a_time: int, what: str = "runs") -> list[str]:
    """Run the jobs; the names of those that failed. Each is told of when it ends, on standard error.

    The processes end with this one, however it ends.

    Raises:
        KeyboardInterrupt: the user has stopped it; what has not begun does not begin, what runs is told to stop.
    """
    failed: list[str] = []
    running: set[subprocess.Popen[str]] = set()
    began = time.monotonic()
    pool = ThreadPoolExecutor(at_a_time)
    with counter(what, Console(stderr=True, soft_wrap=True)) as progress:
        bar = progress.add_task("", total=len(jobs))
        futures = {pool.submit(job.run, running): job for job in jobs}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                job = futures[future]
                code, errors, seconds = future.result()
                if code:
                    failed.append(job.name)
                    text = f"FAILED {job.name}\n{errors[-2000:]}"
                else:
                    left = (time.monotonic() - began) / number * (len(jobs) - number)
                    text = f"{number:>4}/{len(jobs)}  {job.name}  {job.outcome()}{duration(seconds)}"
                    text += f", about {duration(left)} left" if number < len(jobs) else ""
                progress.console.print(text, highlight=False, markup=False)
                progress.advance(bar)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
    return failed
