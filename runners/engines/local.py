"""Processes of this machine. They end with the one that began them, however it ends."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from neoteny.envs.backends.orphans import PARENT
from neoteny.runners.engines.engine import ONE_THREAD, TICK, Settings
from neoteny.runners.engines.work import LOST, Job, Outcome, begin_log, last_words

#: Forks for each job.
SERVER = Path(__file__).with_name("fork_server.py")
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
        self._server: ForkServer | None = None

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        waiting, running = deque(enumerate(jobs)), dict[int, Running]()
        try:
            while waiting or running:
                self._server = server = self._server or ForkServer()
                ended = []
                while waiting and len(running) < self.room:
                    number, job = waiting.popleft()
                    try:
                        running[number] = Running(job, begin_log(job))
                    except OSError as error:
                        ended.append(Outcome(job, 1, str(error), 0.0))
                    else:
                        server.order(number, job)
                try:
                    found = server.ended(0 if ended else TICK)
                except EOFError:
                    self.close()
                    found = [(number, LOST, 0.0) for number in running]
                yield ended + [running.pop(number).outcome(code, seconds) for number, code, seconds in found]
        finally:
            if running:
                self.close()

    def close(self) -> None:
        """Stop what runs, and end the server, which else waits for more jobs."""
        if self._server:
            self._server.close()
        self._server = None


class Running(NamedTuple):
    """A job that runs, and the bytes that its log had before."""

    job: Job
    before: int

    def outcome(self, code: int, seconds: float) -> Outcome:
        try:
            words = last_words(self.job, self.before) if code else ""
        except OSError as error:  # somebody has removed its folder
            words = str(error)
        return Outcome(self.job, code, words, seconds)


class ForkServer:
    """A process of :mod:`neoteny.runners.engines.fork_server`, which ends with this one."""

    def __init__(self) -> None:
        environment = os.environ | ONE_THREAD | {PARENT: str(os.getpid())}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, str(SERVER)], stdin=pipe, stdout=pipe, env=environment)
        self._said = b""

    def order(self, number: int, job: Job) -> None:
        """Run a job, which is told of by a number; if the server is gone, nothing will be told of it."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps([number, job.command, str(job.log)]).encode() + b"\n")
            self.process.stdin.flush()

    def ended(self, seconds: float) -> list[tuple[int, int, float]]:
        """The number, exit code and seconds of each that has ended. If none has, it is waited for so long.

        Raises:
            EOFError: the server is gone, and with it all that ran.
        """
        assert self.process.stdout
        told = select.poll()
        told.register(self.process.stdout, select.POLLIN)
        if not told.poll(1000 * seconds):
            return []
        if not (said := os.read(self.process.stdout.fileno(), 1 << 16)):
            raise EOFError
        *lines, self._said = (self._said + said).split(b"\n")
        return [tuple(json.loads(line)) for line in lines]

    def close(self) -> None:
        """Stop all that runs, wait for it, and end the server."""
        self.process.terminate()
        self.process.communicate()


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
    """What the forks are of is begun with the first jobs, and ends at the end."""
    with closing(Local(settings.jobs, settings.memory)) as engine:
        yield engine
