"""Runs that are told to stop, lose their disk, or meet another process: a message, the right code."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nothing_lost import ON_POLICY, PROGRAM, SMALL, command
from thinning import some

from neoteny.runners.runs.lock import Lock


def start(argv: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *argv],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_begin_in_one_new_folder(tmp_path: Path) -> None:
    both = [start(command(tmp_path)) for _ in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 2], [0, 0]), said
    if 2 in codes:  # else one began when the other had finished
        error = said[codes.index(2)][1]
        assert f"process {both[codes.index(0)].pid} on" in error
    (tasks,) = tmp_path.rglob("tasks.csv")
    assert len(tasks.read_text().splitlines()) == 5


def test_a_lock_names_its_holder_and_is_not_a_childs(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    with pytest.raises(ValueError, match=f"another process is running in .*run: process {os.getpid()} on"):
        Lock(tmp_path / "run")
    child = os.fork()
    if not child:
        time.sleep(5)
        os._exit(0)
    time.sleep(0.5)
    lock.release()
    Lock(tmp_path / "run").release()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process that has learned its first segment."""
    argv = command(tmp_path, "ppo", "--steps-per-task", "1000000", "--segment-steps", "1024")
    process = start(argv)
    while not [*tmp_path.rglob("segment-*.json")]:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    yield process, argv
    process.kill()


@pytest.mark.parametrize(
    ("number", "code"), some({"told": (signal.SIGTERM, 143), "interrupted": (signal.SIGINT, 130)}, "interrupted")
)
def test_a_run_that_is_told_to_stop(number: int, code: int, long_run: tuple[subprocess.Popen[str], list[str]]) -> None:
    process, _ = long_run
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert "The same command goes on from the last checkpoint" in error
    assert "Traceback" not in error


def test_ctrl_c_while_it_is_loaded(tmp_path: Path) -> None:
    process = start(command(tmp_path))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in error


@pytest.mark.full
def test_the_folder_goes_away(long_run: tuple[subprocess.Popen[str], list[str]]) -> None:
    process, argv = long_run
    shutil.rmtree(Path(argv[argv.index("--out") + 1]), ignore_errors=True)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "files cannot be written or read" in error
    assert "Traceback" not in error


def test_the_disk_is_full(long_run: tuple[subprocess.Popen[str], list[str]]) -> None:
    """As far as a program can tell: no file may grow any more. Then there is room again, and the run goes on."""
    process, argv = long_run
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "files cannot be written or read" in error
    assert "The last good state is" in error
    assert "Traceback" not in error
    again = start(argv)
    before = [*Path(argv[argv.index("--out") + 1]).rglob("segment-*.json")]
    while not {*Path(argv[argv.index("--out") + 1]).rglob("segment-*.json")} - {*before}:
        time.sleep(0.05)
        assert again.poll() is None, again.communicate()
    again.kill()
    again.communicate()


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_deaf_to_ctrl_c(pid: int) -> bool:
    ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return ignored is not None and bool(int(ignored[1], 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end processes with their parent")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text("tasks: [{env: CartPole-v1, steps: 1000000, backend: async}]\n")
    long = ["--segment-steps", "1000000"]
    argv = ["--env", str(tmp_path / "slow.yaml"), *SMALL, *ON_POLICY, *long, "--out", str(tmp_path / "runs")]
    process = start(argv)
    workers: list[int] = []
    while len(workers) < 4 or not all(map(is_deaf_to_ctrl_c, workers)):
        workers = children_of(process.pid)
        assert process.poll() is None, process.communicate()
    time.sleep(0.2)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # busy: it does not see its pipe close
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
