"""Two processes that begin in one new folder at the same moment: one runs, the other says which one does."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from nothing_lost import command, equal, of

from neoteny.runners import continual_rl
from neoteny.runners.runs import chain

#: How many pairs there are; `make soak` has more.
PAIRS = int(os.environ.get("PAIRS", "2"))
SHORT = ("ppo", "--num-tasks", "1")


def begin(argv: list[str], errors: Path, meet: Callable[[], Any], delay: float) -> int:
    """Run the program in a process that was forked off, which waits where it claims its folder; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        claim = chain.RunFolder

        def claimed(*args: Any) -> chain.RunFolder:
            meet()
            time.sleep(delay)
            return claim(*args)

        chain.RunFolder = claimed  # type: ignore[assignment, misc]
        with open(os.devnull, "w") as quiet, errors.open("w") as said, redirect_stdout(quiet), redirect_stderr(said):
            code = continual_rl.main(argv)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """The exit code of a process, or what it was ended by, below 0."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_pairs(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert continual_rl.main(command(whole, *SHORT)) == 0  # and whatever is imported late is, in those forked off too
    gc.collect()  # its environments have threads, which those do not have
    rng = random.Random(0)
    for pair in range(PAIRS):
        home = tmp_path / f"{pair}"
        home.mkdir()
        barrier = multiprocessing.Barrier(2, timeout=60)
        argv, files = command(home, *SHORT), [home / "one", home / "other"]
        children = [begin(argv, file, barrier.wait, rng.choice([0, 0, 0, rng.uniform(0, 0.002)])) for file in files]
        codes = [ended(child) for child in children]
        said = [file.read_text() for file in files]
        assert sorted(codes) == [0, 2], (pair, codes, said)
        assert f": process {children[codes.index(0)]} on" in said[codes.index(2)], (pair, said)
        assert equal(of(home, *SHORT), of(whole, *SHORT)), pair
    print(f"{PAIRS} pairs")
