"""Runs on a Ray cluster and on Slurm, whose workers, nodes and drivers are killed, have the tables of runs at home.

In CI 2 runs on each; `make clusters` has 12 on each, and 24 on a Ray cluster that everything happens to.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grids
import one_node_slurm
import pytest
from filelock import FileLock

SEEDS = 6 if grids.WHOLE else 1
STEPS = 12288

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000 if grids.WHOLE else 300)]
whole = pytest.mark.skipif(not grids.WHOLE, reason="in minutes; make clusters runs it")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of this machine, one at a time; made once, whatever the number of pytest's processes."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with FileLock(folder / "home.lock"):
        if not (folder / "home").exists():
            code, said, errors = run(folder, "making", seeds=SEEDS, argv=["--jobs", "1"])
            assert code == 0, said + errors
            (folder / "making").rename(folder / "home")
    return folder / "home"


def begin(
    folder: Path, out: str, *, seeds: int, argv: list[str], variables: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return grids.begin([*grids.options(seeds, STEPS), "--out", str(folder / out), *argv], variables)
    finally:
        os.chdir(before)


def run(folder: Path, out: str, **how: Any) -> tuple[int, str, str]:
    """Begin a sweep and wait for its end: the exit code, and what it has said."""
    process = begin(folder, out, **how)
    said, errors = process.communicate()
    return process.returncode, said, errors


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Two nodes on this machine, each with one processor."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    os.environ["PYTHONPATH"], before = str(grids.ROOT), os.environ.get("PYTHONPATH")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()
    os.environ.pop("PYTHONPATH")
    os.environ |= {"PYTHONPATH": before} if before else {}


def runs_in(out: Path) -> list[int]:
    """The processes of the runs themselves."""
    return [number for number, line in grids.processes(f"--out {out}").items() if "continual_rl.py" in line]


def checkpoints(out: Path) -> int:
    return len([*out.rglob("segment-*.json")])


def test_ray(home: Path, ray_cluster: Any, tmp_path: Path) -> None:
    """The worker of one of the runs is killed. It goes on, on a worker, and no process is left."""
    out = tmp_path / "out"
    sweeping = begin(tmp_path, "out", seeds=SEEDS, argv=["--engine", "ray", "--address", ray_cluster.address])
    grids.until(lambda: checkpoints(out) or sweeping.poll() is not None)
    learning = next(out.rglob("segment-*.json")).parents[1]
    with grids.halted(*runs_in(out)):  # none comes to its end before its worker is killed
        (worker,) = grids.processes(f"ray::{learning}")
        os.kill(worker, signal.SIGKILL)
    said, errors = sweeping.communicate()
    assert sweeping.returncode == 0, said + errors
    assert grids.tables(out) == grids.tables(home)
    assert (learning / "log.txt").read_text().count("Backend: ") == 2  # begun twice; Ray may kill it before it says so
    assert not runs_in(out)
    assert not [*out.glob(".driver-*")]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if why := one_node_slurm.missing():
        pytest.skip(why)
    pytest.importorskip("submitit")
    with one_node_slurm.one_node(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


def test_slurm(home: Path, slurm: dict[str, str], tmp_path: Path) -> None:
    """A job of higher priority takes the node: the runs are preempted, and go on when it has ended."""
    out = tmp_path / "out"
    argv = ["--engine", "slurm", "--slurm.partition=debug", "--slurm.comment=mine"]
    sweeping = begin(tmp_path, "out", seeds=SEEDS, argv=argv, variables=slurm)
    grids.until(lambda: checkpoints(out) or sweeping.poll() is not None)
    assert "mine" in one_node_slurm.ask(slurm, "squeue", "--noheader", "--format=%k")
    urgent = ["sbatch", "--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap", "sleep 1"]
    assert one_node_slurm.ask(slurm, *urgent)
    grids.until(lambda: "PENDING" in one_node_slurm.ask(slurm, "squeue", "--noheader", "--format=%T", "-p", "debug"))
    while sweeping.poll() is None:  # Slurm itself would wait for two minutes
        for job in one_node_slurm.ask(slurm, "squeue", "--noheader", "--array", "--format=%i %r").splitlines():
            if "BeginTime" in job:
                one_node_slurm.ask(slurm, "scontrol", "update", f"jobid={job.split()[0]}", "starttime=now")
        time.sleep(0.5)
    said, errors = sweeping.communicate()
    assert sweeping.returncode == 0, said + errors
    assert grids.tables(out) == grids.tables(home)
    logs = "".join(log.read_text() for log in (out / ".slurm").rglob("*_log.out"))
    assert logs.count("Starting with") > 2 * SEEDS  # some have begun twice


@whole
def test_local_with_two_workers(home: Path, tmp_path: Path) -> None:
    code, said, errors = run(tmp_path, "out", seeds=SEEDS, argv=["--jobs", "2"])
    assert code == 0, said + errors
    assert grids.tables(tmp_path / "out") == grids.tables(home)


@whole
def test_a_killed_driver_of_slurm_finds_its_jobs_again(home: Path, slurm: dict[str, str], tmp_path: Path) -> None:
    """They go on without it. The same command waits for them, and submits none of them again."""
    how: dict[str, Any] = {"seeds": SEEDS, "argv": ["--engine", "slurm"], "variables": slurm}
    sweeping = begin(tmp_path, "out", **how)
    grids.until(lambda: checkpoints(tmp_path / "out") or sweeping.poll() is not None)
    sweeping.kill()
    sweeping.communicate()
    code, said, errors = run(tmp_path, "out", **how)
    assert code == 0, said + errors
    assert grids.tables(tmp_path / "out") == grids.tables(home)
    listed = (tmp_path / "out/.slurm/jobs.jsonl").read_text().splitlines()
    assert len(listed) == len({*listed}) == 2 * SEEDS
    assert "Stopped" not in "".join(log.read_text() for log in (tmp_path / "out").rglob("log.txt"))


@whole
def test_slurm_is_told_to_stop(slurm: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C cancels the jobs."""
    sweeping = begin(tmp_path, "out", seeds=1, argv=["--engine", "slurm"], variables=slurm)
    grids.until(lambda: checkpoints(tmp_path / "out") or sweeping.poll() is not None)
    sweeping.send_signal(signal.SIGINT)
    sweeping.communicate()
    assert sweeping.returncode == 130
    grids.until(lambda: not one_node_slurm.ask(slurm, "squeue", "--noheader"), 30)


@whole
def test_everything_happens_to_a_ray_cluster(
    ray_cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """24 runs. Workers and runs are killed, nodes go and come, the driver is killed."""
    draw = random.Random(0)
    out = tmp_path / "out"
    how: dict[str, Any] = {"seeds": 12, "argv": ["--engine", "ray", "--address", ray_cluster.address]}
    began, sweeping = time.monotonic(), begin(tmp_path, "out", **how)
    kills = moves = again = 0
    node = next(iter(ray_cluster.worker_nodes))
    while sweeping.poll() is None:
        time.sleep(draw.uniform(3, 8))
        there = [*grids.processes(f"ray::{out}"), *runs_in(out)]
        if there and kills < 20:
            victim = draw.choice(there)
            try:
                os.kill(victim, signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                continue
        if kills in (3, 8) and moves < kills // 3:
            ray_cluster.remove_node(node, allow_graceful=False)
            node = ray_cluster.add_node(num_cpus=1)
            moves += 1
        if kills >= 6 and not again:
            sweeping.kill()
            sweeping.communicate()
            again, sweeping = 1, begin(tmp_path, "out", **how)
    said, errors = sweeping.communicate()
    assert sweeping.returncode == 0, said + errors
    assert kills >= 10
    assert (moves, again) == (2, 1)
    took, found = time.monotonic() - began, grids.tables(out)
    assert len(found) == 48
    grids.until(lambda: not runs_in(out), 20)
    with capsys.disabled():
        print(f"\n24 runs, {kills} kills, {moves} nodes, 1 driver: {took:.0f} s")
    code, *_ = run(tmp_path, "undisturbed", seeds=12, argv=["--jobs", "2"])
    assert code == 0
    assert grids.tables(tmp_path / "undisturbed") == found
