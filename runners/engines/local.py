"""Processes of this machine. They end with the one that began them, however it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from neoteny.runners.engines.engine import TICK, Settings, work
from neoteny.runners.engines.work import Job, Outcome

#: GiB that a run is taken to need, where nobody says it: runs of PPO on CartPole and MiniGrid take 0.5 to 0.7.
USUAL = 1.0


class Local:
    """Processes, so many at a time.

    Attributes:
        room: so many.
        notes: why it is less than what was asked for, if it is.
    """

    def __init__(self, jobs: int | None, memory: float | None):
        each, free = memory or USUAL, free_memory()
        wanted = jobs or os.cpu_count() or 1
        self.room = max(1, min(wanted, int(free // each)))
        self.notes = [
            f"{self.room} at a time, not {wanted}: {free:.1f} GiB of memory are free, and a run is taken to need "
            f"{each:g} (--memory says how much)"
        ] * (self.room < wanted)

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        running: list[subprocess.Popen[bytes]] = []
        pool = ThreadPoolExecutor(self.room)
        left = {pool.submit(partial(work(patient=False), job, began=running.append)) for job in jobs}
        try:
            while left:
                done, left = wait(left, TICK, FIRST_COMPLETED)
                yield [future.result() for future in done]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()


def free_memory() -> float:
    """GiB that can be had without swapping, within the limit of the container, if there is one."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) / 2**20
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, (int(limit) - int(used)) / 2**30)
    except OSError:
        return free


@contextmanager
def start(settings: Settings) -> Iterator[Local]:
    """Nothing needs to be started."""
    yield Local(settings.jobs, settings.memory)
