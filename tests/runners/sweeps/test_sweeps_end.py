"""A sweep that is stopped or killed leaves no process behind, and the same command completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from thinning import some

from neoteny.runners import sweep

PROGRAM = Path(sweep.__file__)
SEQUENCE = "tasks: [{env: CartPole-v1, steps: 20000000}]\n"


def descendants(pid: int) -> set[int]:
    try:
        children = {
            int(each)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for each in (task / "children").read_text().split()
        }
    except FileNotFoundError:
        return set()
    return children | {each for child in children for each in descendants(child)}


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end processes with their parent")
@pytest.mark.parametrize(
    ("number", "code"), some({"killed": (signal.SIGKILL, -9), "interrupted": (signal.SIGINT, 130)}, "interrupted")
)
def test_no_process_is_left(number: int, code: int, tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").write_text(SEQUENCE)
    argv = ["--env", str(tmp_path / "endless.yaml"), "--reg", "none", "spectral", "--jobs", "2", "--out", str(tmp_path)]
    begin = [sys.executable, str(PROGRAM), *argv, "--segment-steps", "2000"]
    process = subprocess.Popen(begin, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len([*tmp_path.rglob("segment-*.json")]) < 2:
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()
    left = descendants(process.pid)
    assert len(left) >= 2
    process.send_signal(number)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{each}").exists() for each in left):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert os.getpid() not in left
