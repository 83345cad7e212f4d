"""Killed at any moment, again and again, a run ends with the files of one that never was."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nothing_lost import AGENTS, command, equal, main, of, scalars
from thinning import some

#: How many kills there are in all; `make soak` has more.
KILLS = int(os.environ.get("KILLS", "4"))
METHODS = ["--reg", "spectral+redo", "--reg.methods.redo.every", "5"]
#: What changes names or waits for the disk: a kill comes before or after one of them.
CALLS = ((os, "fsync"), (os, "replace"), (Path, "unlink"))


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def around_a_call(number: int, after: bool) -> None:
    """Die around the call with this number."""
    count = 0

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number and not after:
                die()
            result = original(*args, **kwargs)
            if count == number:
                die()
            return result

        return called

    for owner, name in CALLS:
        setattr(owner, name, counting(getattr(owner, name)))


def run_in_a_child(argv: list[str], prepare: Callable[[], None]) -> int:
    """Run the program in a process that was forked off; what it was ended by, or 0."""
    child = os.fork()
    if not child:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            prepare()
            code = main(argv)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")
@pytest.mark.parametrize("agent", some([*AGENTS, "mlp"], "ppo"))
def test_kills(agent: str, tmp_path: Path) -> None:
    whole, first = tmp_path / "whole", tmp_path / "first"
    whole.mkdir()
    first.mkdir()
    assert main(command(first, agent, *METHODS)) == 0  # whatever is imported late is, in children too
    gc.collect()  # its environments have threads, which children do not have
    began = time.monotonic()
    assert run_in_a_child(command(whole, agent, *METHODS), lambda: None) == 0
    takes = time.monotonic() - began
    folder = of(whole, agent, *METHODS)
    expected = scalars(folder)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if "tfevents" not in path.name}
    rng = random.Random(f"{agent}0")
    kills = runs = 0
    while kills < KILLS / len(AGENTS):
        home = tmp_path / f"{runs}"
        home.mkdir()
        runs += 1
        argv = command(home, agent, *METHODS)
        for _ in range(rng.randint(1, 6)):
            if rng.random() < 0.6:
                number, after = rng.randint(1, 60), rng.random() < 0.5
                status = run_in_a_child(argv, lambda number=number, after=after: around_a_call(number, after))
            else:
                timer = threading.Timer(rng.uniform(0, takes), die)
                status = run_in_a_child(argv, timer.start)
            assert os.WIFSIGNALED(status) or status == 0
            kills += os.WIFSIGNALED(status)
        assert run_in_a_child(argv, lambda: None) == 0
        resumed = of(home, agent, *METHODS)
        assert equal(resumed, folder), (runs, kills)
        assert scalars(resumed) == expected, (runs, kills)
        assert {str(p.relative_to(resumed)) for p in resumed.rglob("*") if "tfevents" not in p.name} == files
    print(f"{agent}: {kills} kills in {runs} runs")
