"""A small grid of runs, what its tables say, and the processes that run it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neoteny.runners import sweep

ROOT = Path(sweep.__file__).parents[1]
#: The whole of a proof (make clusters), or as much of it as there is time for.
WHOLE = "CLUSTERS" in os.environ

SEQUENCE = """\
tasks:
  - {{env: CartPole-v1, steps: {steps}}}
  - {{env: CartPole-v1, steps: {steps}, shifts: [permute-action]}}
"""
SMALL = ["--segment-steps", "2048", "--agent.num_envs", "8", "--agent.n_steps", "64", "--agent.batch_size", "128"]

#: Fails in the runs whose folder has in it what the file ``fault`` has, if there is one.
FAULTY = """\
from pathlib import Path
from stable_baselines3.common.callbacks import BaseCallback


class Fault(BaseCallback):
    def _on_step(self):
        fault = Path("fault")
        if self.num_timesteps > 5000 and fault.exists() and fault.read_text() in self.logger.dir:
            raise OSError("a planted fault")
        return True
"""


def options(seeds: int, steps: int = 6144) -> list[str]:
    """2 methods × so many seeds on two tasks, which are written to the working directory."""
    Path("small.yaml").write_text(SEQUENCE.format(steps=steps))
    return ["--env", "small.yaml", "--reg", "none,l2-init", "--seeds", str(seeds), *SMALL]


def begin(argv: list[str], variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A sweep as a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (variables or {})
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, sweep.__file__, *argv], text=True, stdout=pipe, stderr=pipe, env=environment
    )


def tables(out: Path) -> dict[str, list[list[tuple[str, str]]]]:
    """All rows of all tables by file, without the columns that have times."""
    found = {}
    for name in ("tasks.csv", "progress.csv"):
        for file in sorted(out.rglob(f"seed-*/{name}")):
            with file.open(newline="") as lines:
                rows = [[(k, v) for k, v in row.items() if "second" not in k] for row in csv.DictReader(lines)]
            found[str(file.relative_to(out))] = rows
    return found


def processes(word: str) -> dict[int, str]:
    """The command lines that have a word in them, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in line:
                found[int(entry.name)] = line
    return found


@contextmanager
def halted(*numbers: int) -> Iterator[None]:
    """Processes that do nothing meanwhile; one that has ended is left out."""

    def tell(what: int) -> None:
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(number, what)

    tell(signal.SIGSTOP)
    try:
        yield
    finally:
        tell(signal.SIGCONT)


def until(is_so: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
