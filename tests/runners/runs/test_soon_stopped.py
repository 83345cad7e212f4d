"""How soon a run that is told to stop does what is left to be done."""

from __future__ import annotations

import gc
import os
import random
import signal
import statistics
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from nothing_lost import SEQUENCE, command
from stable_baselines3.common.logger import Logger
from thinning import some

from neoteny.runners import continual_rl
from neoteny.runners.runs import interruption

#: How many signals each run gets; `make soak` has more, and then they are timed by what is promised.
SIGNALS = int(os.environ.get("SIGNALS", "1"))
SECONDS = 0.3 if "SIGNALS" in os.environ else 5
RUNS = ("ppo", "dqn", "ppo, async", "dqn, async")


def told_to_stop(argv: list[str], after: float) -> tuple[int, float, float]:
    """A run that gets SIGTERM so many seconds after it began to learn.

    Returns:
        Its exit code; the seconds from the signal to where the last write begins, 0 if it has begun then and the whole
        time if there is none; and the seconds to its end.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        hear, close = interruption.Interruption._hear, Logger.close

        def say(what: str) -> None:
            os.write(writing, f"{what} {time.monotonic()}\n".encode())

        def heard(self: interruption.Interruption, *args: Any) -> None:
            say("writes" if self._writing else "heard")
            hear(self, *args)

        def closed(self: Logger) -> None:
            say("closes")
            close(self)

        interruption.Interruption._hear, Logger.close = heard, closed  # type: ignore[method-assign]
        try:
            with open(os.devnull, "w") as quiet, redirect_stdout(quiet), redirect_stderr(quiet):
                code = continual_rl.main(argv)
        finally:
            os._exit(code)
    os.close(writing)
    out = Path(argv[argv.index("--out") + 1])
    while not [*out.rglob("tasks.csv")]:
        time.sleep(0.002)
    time.sleep(after)
    sent = time.monotonic()
    os.kill(child, signal.SIGTERM)
    with os.fdopen(reading) as lines:
        times = {what: float(at) - sent for what, at in map(str.split, lines)}
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end = time.monotonic() - sent
    return code, 0.0 if "writes" in times else times.get("closes", end), end


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported late is, in processes that are forked off too."""
    assert continual_rl.main(command(tmp_path_factory.mktemp("first"))) == 0
    gc.collect()  # its environments have threads, which those do not have


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("run", some(RUNS, RUNS[0]))
def test_soon_stopped(run: str, tmp_path: Path) -> None:
    rng = random.Random(run)
    begins, ends = [], []
    for number in range(SIGNALS):
        home = tmp_path / f"{number}"
        home.mkdir()
        argv = command(home, run.partition(",")[0], "--steps-per-task", "1000000", "--segment-steps", "4096")
        if "async" in run:
            (home / "tiny.yaml").write_text(SEQUENCE.replace("steps", "backend: async, steps"))
        code, begin, end = told_to_stop(argv, rng.uniform(0, 3))
        assert code == 143
        assert begin < SECONDS, number
        begins.append(begin)
        ends.append(end)
    print(f"{run}: last write after {statistics.median(begins):.3f} s, at most {max(begins):.3f}; ", end="")
    print(f"ended after {statistics.median(ends):.3f} s, at most {max(ends):.3f} ({SIGNALS} signals)")
