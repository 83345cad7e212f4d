"""The same runs, with the same numbers, whatever runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path

import grids
import pytest

from neoteny.configs import ConfigError
from neoteny.runners import sweep
from neoteny.runners.engines.engine import TICK
from neoteny.runners.engines.local import Local, free_memory
from neoteny.runners.engines.work import Job, Killed, Outcome, carry_out, on_a_node, pack, unpack
from neoteny.runners.runs.lock import PATIENCE, Lock

PYTHON = [sys.executable, "-c"]

#: A driver that leaves its mark and is killed.
KILLED = """
import os, pathlib, signal
from neoteny.runners.engines import on_ray
on_ray.leave_mark(pathlib.Path.cwd())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_planted_fault_and_the_same_command_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One run fails, the other does not. The same command again runs that alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(grids.ROOT))
    Path("faulty.py").write_text(grids.FAULTY)
    Path("fault").write_text("l2-init/seed-0")
    argv = [*grids.options(seeds=1), "--callback", "faulty:Fault"]
    assert sweep.main([*argv, "--out", "faulty", "--jobs", "2"]) == 1
    said = capfd.readouterr()
    assert "1 of 2 runs are complete." in said.out
    (end,) = [text for text in said.err.split("\n\n") if "FAILED" in text and "log: " in text]
    assert "files cannot be written or read: a planted fault" in end
    log = Path(end.split("log: ")[1].splitlines()[0])
    assert "a planted fault" in log.read_text()
    Path("fault").unlink()
    assert sweep.main([*argv, "--out", "faulty", "--jobs", "1"]) == 0
    said = capfd.readouterr()
    assert "1 complete, 1 begun, 0 missing" in said.err
    assert "1/1  faulty/small/" in said.err
    assert [len(rows) for name, rows in grids.tables(Path("faulty")).items() if "tasks" in name] == [2, 2]


def test_a_run_that_is_not_whole_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An engine that says all is well, and has run nothing: the exit code says that nothing is there."""
    monkeypatch.chdir(tmp_path)

    def lies(self: Local, jobs: list[Job]) -> Generator[list[Outcome], None, None]:
        yield [Outcome(job, 0, "", 0.0) for job in jobs]

    monkeypatch.setattr(Local, "run", lies)
    assert sweep.main([*grids.options(seeds=1), "--jobs", "1"]) == 1
    said = capfd.readouterr()
    assert "0 of 2 runs are complete." in said.out
    assert "its folder has 0 of 12,288 steps" in said.err


@pytest.mark.parametrize(("engine", "package", "extra"), [("ray", "ray", "ray"), ("slurm", "submitit", "slurm")])
def test_without_an_extra_the_error_says_what_to_install(
    engine: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.startswith("neoteny.runners.engines.on_")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "neoteny.runners.engines.resumable", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert sweep.main(["--engine", engine, "--dry-run"]) == 2
    assert f"--engine {engine}: needs the extra {extra!r}: pip install 'neoteny[{extra}]'" in capsys.readouterr().err


def test_all_else_needs_no_extra() -> None:
    """All programs are loaded, in an interpreter in which neither package can be."""
    code = (
        "import sys; sys.modules.update(ray=None, submitit=None); from importlib import import_module\n"
        "from neoteny.__main__ import COMMANDS\n"
        "for module, _ in COMMANDS.values(): import_module(module)\n"
        "sys.exit(import_module('neoteny.runners.sweep').main(['--num-tasks', '1', '--dry-run']))"
    )
    done = subprocess.run([*PYTHON, code], capture_output=True, text=True, cwd=grids.ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_node_loads_little() -> None:
    code = "import sys, neoteny.runners.engines.resumable; print({'torch', 'numpy.random'} & {*sys.modules})"
    done = subprocess.run([*PYTHON, code], capture_output=True, text=True, cwd=grids.ROOT, check=False)
    assert "torch" not in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--address", "auto"], "--address: is of --engine ray, got --engine local"),
        (["--gpus", "1"], "--gpus: is of --engine ray and slurm, got --engine local"),
        (["--slurm.partition=a"], "--slurm.partition: is of --engine slurm, got --engine local"),
        (["--jobs", "0"], "--jobs: at least 1 is needed, got 0"),
        (["--memory", "0"], "--memory: at least 0.001 is needed, got 0"),
        (["--engine", "ray", "--gpus", "-1"], "--gpus: at least 0 is needed, got -1"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "--address: '127.0.0.1:1' cannot be connected to"),
        (
            ["--engine", "ray", "--address", "here"],
            "--address: 'here' cannot be connected to: auto or HOST:PORT is expected",
        ),
        (["--engine", "slurm", "--gpus", "0.5"], "--gpus: Slurm gives out whole GPUs, got 0.5"),
    ],
)
def test_options_that_cannot_be(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep.main([*argv, "--env", "cartpole-rotate", "--num-tasks", "1", "--reg", "none"]) == 2
    assert message in capsys.readouterr().err


def test_no_more_than_memory_holds() -> None:
    each = free_memory() / 2.5
    local = Local(8, each)
    assert local.room == 2
    assert "2 at a time, not 8: " in local.notes[0]
    assert Local(2, each).notes == []
    assert Local(3, 10 * free_memory()).room == 1  # one is always tried


@pytest.mark.full
def test_closed_before_the_end_it_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    word = f"import time; time.sleep(1000)  # {tmp_path}"
    running = Local(2, 0.001).run([Job(str(i), [*PYTHON, word]) for i in range(4)])
    assert next(running) == []
    grids.until(lambda: len(grids.processes(word)) == 2)
    running.close()
    grids.until(lambda: not grids.processes(word), 10)
    assert not Path("2").exists()


@pytest.mark.full
def test_what_has_ended_is_told_at_least_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    began, times = time.monotonic(), []
    with closing(Local(1, 0.001)) as local:
        for _ in local.run([Job("a", [*PYTHON, f"import time; time.sleep({4 * TICK})"])]):
            times.append(time.monotonic() - began)
    assert len(times) >= 4


@pytest.mark.full
def test_marks_of_drivers_that_were_killed_go(tmp_path: Path) -> None:
    on_ray = pytest.importorskip("neoteny.runners.engines.on_ray")
    environment = os.environ | {"PYTHONPATH": str(grids.ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    elsewhere, mine = tmp_path / ".driver-another.machine-1", on_ray.leave_mark(tmp_path)
    elsewhere.touch()
    assert not left.exists()
    assert on_ray.leave_mark(tmp_path) == mine
    assert {*tmp_path.iterdir()} == {mine, elsewhere}


def test_a_job_that_was_told_of_is_not_taken_for_the_next_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm lists jobs for some time after they have ended; a search goes on with the same folder at once."""
    on_slurm = pytest.importorskip("neoteny.runners.engines.on_slurm")
    monkeypatch.setattr(on_slurm, "queued", lambda: {"1_0", "2_0"})
    slurm = object.__new__(on_slurm.Slurm)
    slurm.folder, slurm._told = tmp_path, {"1_0"}
    lines = [[str(tmp_path), "1_0", "ended"], [str(tmp_path), "2_0", "runs"]]
    (tmp_path / on_slurm.LIST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    jobs = {name: Job(name, []) for name in ("ended", "runs")}
    assert [job.name for job in slurm._still_there(jobs).values()] == ["runs"]


def test_a_log_goes_on_and_the_last_words_are_of_this_time(tmp_path: Path) -> None:
    def run(code: str) -> Outcome:
        return carry_out(Job("a", [*PYTHON, code]), {"SAID": "ü"}, "PARENT", tmp_path)

    first = run("import os; raise SystemExit(os.environ['SAID'] + os.environ['PARENT'])")
    second = run("import sys; sys.exit('x' * 5000)")
    assert (first.code, first.words) == (1, f"ü{os.getpid()}")
    assert (second.code, second.words) == (1, "x" * 1999)  # and a line break
    assert (tmp_path / "a/log.txt").read_text().splitlines() == [first.words, "x" * 5000]
    assert run("print('all is well')").words == ""
    assert run("raise SystemExit('short')").words == "short"
    missing = carry_out(Job("b", ["/no/such/program"]), {}, "PARENT", tmp_path)
    assert missing.code == 1
    assert "/no/such/program" in missing.words


def test_a_folder_is_brought_back_from_a_node_that_does_not_see_it(tmp_path: Path) -> None:
    """The node has a disk of its own. It goes on with what the driver had, and what it makes comes back."""
    driver, node = tmp_path / "driver", tmp_path / "node"
    (driver / "run/checkpoints").mkdir(parents=True)
    (driver / "run/checkpoints/a").write_text("1")
    code = "from pathlib import Path; p = Path('run/checkpoints'); (p / 'b').write_text((p / 'a').read_text() + '2')"
    work = partial(carry_out, environment={}, parent="PARENT", folder=node)
    job, mark = Job("run", [*PYTHON, code]), driver / "mark"
    mark.touch()
    node.mkdir()
    outcome, made = on_a_node(job, work, tmp_path / "unseen", pack(driver / "run"))
    assert outcome.code == 0, outcome.words
    unpack(made, driver / "run")
    assert (driver / "run/checkpoints/b").read_text() == "12"
    (node / "run/checkpoints/a").write_text("3")  # a worker died here: what it left is newer than the driver's
    on_a_node(job, work, tmp_path / "unseen", pack(driver / "run"))
    assert (node / "run/checkpoints/b").read_text() == "32"
    assert on_a_node(job, work, mark, b"")[1] == b""
    assert pack(tmp_path / "none") == b""
    with pytest.raises(Killed, match="run was killed: exit code -9"):
        on_a_node(Job("run", [*PYTHON, "import os; os.kill(os.getpid(), 9)"]), work, mark, b"")


@pytest.mark.full
def test_who_is_patient_waits_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time; from pathlib import Path; from neoteny.runners.runs.lock import Lock; lock = Lock(Path('a'))"
    held = subprocess.Popen(
        [*PYTHON, f"{code}; print(flush=True); time.sleep(1.5)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(grids.ROOT)},
        stdout=subprocess.PIPE,
    )
    assert held.stdout
    held.stdout.readline()
    with pytest.raises(ConfigError, match="another process is running"):
        Lock(tmp_path / "a")
    monkeypatch.setenv(PATIENCE, "0.3")
    with pytest.raises(ConfigError, match="another process is running"):
        Lock(tmp_path / "a")
    monkeypatch.setenv(PATIENCE, "30")
    Lock(tmp_path / "a").release()
    assert held.wait(10) == 0
    held.stdout.close()
