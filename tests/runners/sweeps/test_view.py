"""What a sweep shows while it runs, of few runs and of a thousand."""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from neoteny import configs
from neoteny.runners.engines.work import Job, Outcome
from neoteny.runners.experiments import Plan, Sweep
from neoteny.runners.sweeps import Progress, progress_of
from neoteny.runners.sweeps import view as views
from neoteny.runners.sweeps.view import View
from neoteny.runners.sweeps.watching import DONE, FAILED, RUNNING, WAITING, Watched, last_row


def planned(out: Path, seeds: int) -> list[Progress]:
    sweep = configs.build(Sweep, {"env": "cartpole-rotate", "reg": ["none", "redo"], "seeds": seeds}, "mine")
    return progress_of(Plan(sweep, ["--num-tasks", "3", "--out", str(out)], prog="sweep.py").runs)


def goes_on(name: str, step: int, task: int, value: str = "12.345678", node: str = "node-7") -> None:
    """What a run writes, cut while it writes: the last line is not whole."""
    Path(name).mkdir(parents=True, exist_ok=True)
    Path(name, "lock").write_text(f"process 1 on {node}\n")
    columns = 'step,"return/a, b",rollout/return,task/index,time/steps_per_second'
    rows = f"{step - 1},1.0,2.0,0,1.0\n{step},1.0,{value},{task},250.0\n"
    Path(name, "progress.csv").write_text(f"{columns}\n{rows}{step + 1},3")


def terminal(width: int) -> Console:
    """One of 24 lines, as a sweep has it."""
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=True)


def shown(view: View) -> list[str]:
    """What is on the terminal after a look."""
    assert isinstance(view.console.file, io.StringIO)
    view.look()
    before = len(view.console.file.getvalue())
    view.look()
    text = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", view.console.file.getvalue()[before:])
    return [line.strip("\r") for line in text.split("\n")]


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    progress = planned(tmp_path, 1)[0]
    name = progress.run.folder
    goes_on(name, 5_000, 0)
    watched = Watched(name, progress)  # of before: it does not run
    watched.look()
    assert (watched.state, watched.tasks, watched.steps) == (WAITING, 3, progress.steps)
    goes_on(name, 10_000, 1)
    os.utime(Path(name, "progress.csv"), ns=(1, 1))
    watched.look()
    assert (watched.state, watched.step, watched.task, watched.node) == (RUNNING, 10_000, 2, "node-7")
    assert (watched.last, watched.rate) == ("12.35", 250.0)
    assert watched.seconds == (progress.steps - 10_000) / 250
    goes_on(name, 11_000, 1, value="")  # no episode has ended
    watched.look()
    assert (watched.step, watched.last) == (11_000, "12.35")
    other = Watched(str(tmp_path / "nothing"))
    other.look()
    assert (other.state, other.seconds) == (WAITING, None)


def test_the_last_row_of_a_long_table(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    assert last_row(table) == {}
    table.write_text("step,a\n")
    assert last_row(table) == {}
    table.write_text("step,a\n" + "".join(f"{i},{'x' * 100}\n" for i in range(5_000)) + "5000,y\n50")
    assert last_row(table) == {"step": "5000", "a": "y"}
    table.write_text("step,a\n1,2,3\n")  # torn
    assert last_row(table) == {}


@pytest.mark.parametrize("width", [80, 120])
def test_a_thousand_runs_in_a_terminal(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line fits, what runs is seen, and neither a look nor a picture takes long, slow disks or not."""
    monkeypatch.chdir(tmp_path)
    runs = {each.run.folder: each for each in planned(Path("a folder/ünïcode-with-a-long-name"), 500)}
    jobs = [Job(name, []) for name in runs]
    view = View(jobs, runs, "runs", terminal(width), room=64)
    for job in jobs[:64]:
        goes_on(job.name, 12_000, 0, node="a-node-with-a-long-name.cluster.example.org")
    for job in jobs[64:300]:
        view.ended(Outcome(job, 0, "", 1.0))
    view.ended(Outcome(jobs[300], 1, "no luck", 1.0))
    began = time.monotonic()
    while view.counts()[RUNNING] < 64:
        looked = time.monotonic()
        view.look()
        assert time.monotonic() - looked < 10 * views.BUDGET
        assert time.monotonic() - began < 20
    began = time.monotonic()
    with view:
        lines = shown(view)
    assert time.monotonic() - began < 2.0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert "running" in lines[1]
    assert "1/3" in lines[1]
    assert re.search(r"none/seed-\d+ ", lines[1])
    (more,) = [number for number, line in enumerate(lines) if line.strip() == "and 46 running, 1 FAILED, 699 waiting"]
    text = " ".join(" ".join(lines[more + 1 :]).split())
    assert text.startswith("236 of 1000 runs complete, 64 running, 699 waiting, 1 failed; 16,000 steps/s; about ")
    assert view.counts() == {DONE: 236, RUNNING: 64, WAITING: 699, FAILED: 1}


def test_a_slow_disk_does_not_stop_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def slow(self: Watched) -> None:
        time.sleep(0.02)
        looked.append(self.name)

    monkeypatch.setattr(Watched, "look", slow)
    view = View([Job(str(i), []) for i in range(30)], {}, "runs", Console(file=io.StringIO()))
    began = time.monotonic()
    view.look()
    assert time.monotonic() - began < 5 * views.BUDGET
    assert 0 < len(looked) < 30
    while len(looked) < 30:
        view.look()
    assert len({*looked}) == 30  # and all have had their turn


def test_a_line_a_minute_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    view = View([Job("a", []), Job("b", [])], {}, "attributions", Console(file=said))
    with view:
        view.look()
        assert said.getvalue() == ""
        view.ended(Outcome(Job("a", []), 0, "", 1.0))
        view.said -= views.EVERY
        view.look()
        view.look()
    assert said.getvalue().splitlines()[0] == "1 of 2 attributions complete, 0 running, 1 waiting; about 0 s left"
    view.say("a word " * 40)
    assert len(said.getvalue().splitlines()) == 2  # whatever its length


def test_what_is_left(tmp_path: Path) -> None:
    """Before a run has ended, from their speed, so many at a time; then by how long those took that have."""
    runs = {each.run.folder: each._replace(rate=100.0) for each in planned(tmp_path, 2)}
    steps = next(iter(runs.values())).steps
    view = View([Job(name, []) for name in runs], runs, "runs", Console(file=io.StringIO()), room=2)
    assert view.left() == pytest.approx(steps / 100 * 4 / 2)
    view.began -= 30
    view.ended(Outcome(Job(next(iter(runs)), []), 0, "", 30.0))
    assert view.left() == pytest.approx(90, rel=0.05)
