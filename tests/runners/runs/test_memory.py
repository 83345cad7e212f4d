"""What a run of many tasks takes of memory does not grow with them."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from neoteny.runners.experiments import parse
from neoteny.runners.runs import Chain

#: Tasks of 256 steps; `make soak` has 1,020.
SWITCHES = int(os.environ.get("SWITCHES", "0"))
MIB = 2**20


class Mallinfo(ctypes.Structure):
    """What glibc says of its heap, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def in_use() -> float:
    """MiB that are allocated, without what the allocator keeps."""
    mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo2.restype = Mallinfo
    found = mallinfo2()
    return float(found.uordblks + found.hblkhd) / MIB


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
@pytest.mark.skipif(not SWITCHES, reason="takes minutes; make soak runs it")
@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_memory_in_use_is_flat(agent: str, tmp_path: Path) -> None:
    tasks = ["--num-tasks", str(SWITCHES), "--steps-per-task", "256"]
    experiment, _ = parse(["--env", "cartpole-offset", "--agent", agent, *tasks, "--out", str(tmp_path)], "")
    seen = []
    for segment in Chain(experiment).walk():
        if segment.ends_visit:
            seen.append(in_use())
    early, late = seen[SWITCHES // 10], seen[-1]
    resident = int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    print(f"{agent}: in use {early:.1f} MiB after {SWITCHES // 10} switches, {late:.1f} after {SWITCHES}")
    print(f"{agent}: resident {resident:.0f} MiB")
    assert late - early < 5
