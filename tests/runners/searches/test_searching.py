"""Trials are chosen, pruned and kept as promised: with runs whose returns are known, and with real ones."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from thinning import some

from neoteny.configs import ConfigError, read_yaml
from neoteny.runners import sweep
from neoteny.runners.engines import local
from neoteny.runners.engines.engine import Settings
from neoteny.runners.engines.work import LOST, Job, Outcome
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.plan import Point
from neoteny.runners.experiments.ranges import Range
from neoteny.runners.experiments.sweeps import Search
from neoteny.runners.runs.lock import Lock

pytest.importorskip("optuna")
ROOT = Path(sweep.__file__).parents[1]
GRID = "--env cartpole-offset --agent ppo-trac --reg none,spectral,l2 --num-tasks 6 --seeds 2 --trials 6".split()
RANGE = ["--search", "optuna", "--grid", "reg.strength=log 1e-6 .. 1e-1"]
BEST = {"spectral": -2.0, "l2": -4.5}


class Landscape:
    """Runs that learn nothing, whose returns are a function of their strength.

    Attributes:
        jobs: those that were run; what is run again is done at once.
        stop: after so many runs the process is stopped.
        code: of the runs with a strength above 0.01.
        short: they end so many segments before their end.
        best: by method, the decimal logarithm of the strength with the highest return.
    """

    def __init__(self) -> None:
        self.best = dict(BEST)
        self.notes: list[str] = []
        self.room = 2
        self.jobs: list[Job] = []
        self.stop = math.inf
        self.code = self.short = 0

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        for job in jobs:
            if job not in self.jobs:
                if len(self.jobs) == self.stop:
                    raise KeyboardInterrupt
                self.jobs.append(job)
            experiment, _ = parse(job.command[2:])
            (strength,) = [float(w.partition("=")[2]) for w in job.command if "strength" in w] or [0.0]
            off = abs(math.log10(strength) - self.best[job.command[job.command.index("--reg") + 1]]) if strength else 5
            segments, tasks = experiment.segments, len(experiment.sequence.visits)
            last = len(segments) - 1 - self.short
            state = {"segment": last, "step": sum(segment.steps for segment in segments[: last + 1]), "visit": {}}
            kept = Path(job.name, "checkpoints")
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"segment-{last:04d}.json").write_text(json.dumps(state))
            (kept / f"segment-{last:04d}.safetensors").touch()
            rows = [f"0,return,{100 - off + task},1000" for task in range(tasks)]
            (kept.parent / "tasks.csv").write_text("\n".join(["step,headline,return_mean,steps_per_second", *rows, ""]))
            yield [Outcome(job, self.code if strength > 0.01 else 0, "it broke", 0.1)]


@pytest.fixture
def landscape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landscape:
    monkeypatch.chdir(tmp_path)
    found = Landscape()

    @contextmanager
    def start(settings: Settings) -> Iterator[Landscape]:
        yield found

    monkeypatch.setattr(local, "start", start)
    return found


def trials(out: str) -> list[dict[str, str]]:
    with Path(out, "search", "trials.csv").open(newline="") as lines:
        return [*csv.DictReader(lines)]


def search(out: str, *more: str) -> int:
    return sweep.main([*GRID, *RANGE, "--out", out, *more])


@pytest.mark.full
def test_it_finds_the_best_from_the_presets_value_on(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    assert search("runs", "--trials", "18") == 0
    rows = trials("runs")
    assert {row["study"] for row in rows} == {f"cartpole-offset/ppo-trac-{name}" for name in ("none", *BEST)}
    for name, best in BEST.items():
        mine = [row for row in rows if row["study"] == f"cartpole-offset/ppo-trac-{name}"]
        assert len(mine) == 18
        preset = read_yaml(ROOT / "configs" / "regs" / f"{name}.yaml")
        assert float(mine[0]["reg.strength"]) == preset["strength"]
        complete = [row for row in mine if row["state"] == "complete"]
        assert {row["tasks"] for row in complete} == {"6"}
        pruned = [row for row in mine if row["state"] == "pruned"]
        assert len(pruned) > 3
        assert {row["tasks"] for row in pruned} == {"2"}
        (file,) = Path("runs/search").rglob(f"{name}-found.yaml")
        found = read_yaml(file)
        assert found == preset | {"strength": found["strength"]}
        assert abs(math.log10(found["strength"]) - best) < 0.3
        top = max(float(row["mean"]) for row in complete)
        assert found["strength"] in [float(row["reg.strength"]) for row in complete if float(row["mean"]) == top]
    assert Path("runs/search/search.png").stat().st_size > 10_000
    assert "of 18 trials" in capsys.readouterr().out


@pytest.mark.parametrize("every", some({"1": 1, "5": 5}, "5"))
def test_stopped_again_and_again_it_tries_the_same(every: int, landscape: Landscape) -> None:
    assert search("whole") == 0
    whole, runs = trials("whole"), len(landscape.jobs)
    landscape.jobs.clear()
    times = 0
    while True:
        landscape.stop = len(landscape.jobs) + every
        if search("parts") == 0:
            break
        times += 1
        assert times <= runs
    assert times > 3
    assert trials("parts") == whole


@pytest.mark.full
def test_more_trials_go_on_with_those_before(landscape: Landscape) -> None:
    assert search("runs", "--trials", "4") == 0
    first = trials("runs")
    assert search("runs", "--trials", "8") == 0
    later = trials("runs")
    assert [row for row in later if int(row["trial"] or 0) <= 4] == first
    assert len(later) == len(first) + 8


@pytest.mark.full
def test_what_fails_has_failed_and_the_rest_goes_on(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    landscape.code = 1
    assert search("runs") == 1
    rows = trials("runs")
    failed = [row for row in rows if row["state"] == "failed"]
    assert failed
    assert {row["why"] for row in failed} == {"it broke"}
    assert search("runs") == 1  # and says so again
    assert all((float(row["reg.strength"]) > 0.01) == (row["state"] == "failed") for row in rows if row["trial"])
    assert len([row for row in rows if row["trial"]]) == 12
    assert "log: runs/" in capsys.readouterr().err


def test_rounds(tmp_path: Path) -> None:
    """Trials are compared with those of earlier rounds, and no round begins before the one before has ended."""
    study = pytest.importorskip("neoteny.runners.searches.study")
    storage = study.open_storage(tmp_path / "trials.db")
    point = Point({"env": "e", "agent": "a", "reg": "r"}, {"reg.strength": "log 1e-6 .. 1e-1"})

    def begun() -> Any:
        return study.Study("s", point, 3, Search(trials=6, at_once=2), {"reg.strength": 1e-3}, storage)

    def told(look: int, *values: float) -> list[str]:
        trials = begun().take()
        for trial, value in zip(trials, values, strict=True):
            trial.report(look, value)
        for trial in trials:
            trial.decide(look)
        return [row.state for row in begun().rows][-2:]

    assert begun().looks == [1, 3]
    assert told(0, 10, 20) == ["running", "running"]
    assert told(1, 10, 20) == ["complete", "complete"]
    assert told(0, 14, 12) == ["pruned", "pruned"]  # the median before them is 15
    assert told(0, 100, 1) == ["running", "pruned"]
    (left,) = begun().take()
    assert left.number == 4
    assert told(1, 50) == ["complete", "pruned"]
    assert begun().take() == []
    assert begun().best.seen == {1: 100, 3: 50}


@pytest.mark.full
@pytest.mark.parametrize("code", some({"killed": -9, "ctrl-c": 130, "sigterm": 143, "lost": LOST}, "sigterm"))
def test_a_run_that_was_stopped_is_gone_on_with(code: int, landscape: Landscape) -> None:
    landscape.code = code
    assert search("runs") == 1
    assert {row["state"] for row in trials("runs")} >= {"running"}
    landscape.code = 0
    assert search("runs") == 0
    assert {row["state"] for row in trials("runs")} <= {"complete", "pruned"}
    assert search("whole") == 0
    assert trials("runs") == trials("whole")


def test_a_run_that_ends_before_its_end_is_not_counted(landscape: Landscape) -> None:
    landscape.short = 1
    assert search("runs") == 1
    assert {(row["state"], row["mean"]) for row in trials("runs") if row["trial"]} == {("failed", "")}
    assert {row["why"] for row in trials("runs") if row["trial"]} == {"its folder has 40,000 of 80,000 steps"}


@pytest.mark.full
def test_where_schedules_run_over_all_tasks_no_trial_ends_early(
    landscape: Landscape, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("runs", "--env.switches", "hidden") == 0
    assert {(row["state"], row["tasks"]) for row in trials("runs") if row["trial"]} == {("complete", "6")}
    assert "so no trial ends before its last one" in capsys.readouterr().err


def test_one_driver_at_a_time(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    lock = Lock(Path("runs/search"))
    assert search("runs") == 2
    assert "another process is running in runs/search" in capsys.readouterr().err
    lock.release()
    assert search("runs", "--trials", "2") == 0


def test_names_that_are_paths_and_ranges_of_agents(landscape: Landscape) -> None:
    """Methods of a module, two ranges, agents without a method: all have studies of their own."""
    Path("my_methods.py").write_text("from neoteny.plasticity import L2\nclass L1(L2): ...\nclass L3(L2): ...\n")
    names = "--env cartpole-offset --agent ppo-trac --reg my_methods:L1,my_methods:L3 --num-tasks 2 --trials 2".split()
    ranges = ["--search", "optuna", "--grid", "agent.learning_rate=log 1e-4 .. 1e-2", "--reference", "fresh"]
    landscape.best.update({"my_methods:L1": -3.0, "my_methods:L3": -3.0, "none": -3.0})
    assert sweep.main([*names, *ranges, "--out", "{x} 20%?"]) == 0
    studies = {row["study"] for row in trials("{x} 20%?")}
    assert studies == {f"cartpole-offset/ppo-trac{name}" for name in ("-L1", "-L3", ",fresh-none")}
    assert {path.name for path in Path("{x} 20%?", "search").rglob("*.yaml")} == {"ppo-trac-found.yaml"}
    assert not Path("{x} 20%").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*GRID, "--search", "optuna"], "no setting has a range"),
        ([*GRID[:-2], *RANGE[2:]], "reg.strength: log 1e-06 .. 0.1 is a range, of which a search tries values"),
        ([*GRID, "--search", "optuna", "--grid", "reg.strength=log 0 .. 1"], "is to begin above 0"),
        ([*GRID, "--search", "optuna", "--grid", "reg.strength=1 .. 1e-3"], "is to begin below its end"),
        ([*GRID, "--search", "optuna", "--grid", "agent.gamma=0.9 .. 1.5"], "gamma"),
        ([*GRID[:-2], "--reg", "none", "--trials", "3"], "--trials: is of a search"),
        ([*GRID, *RANGE, "--trials", "0"], "search.trials"),
        ([*GRID, "--search", "optuna", "--grid", "env.num_tasks=1 .. 3"], "runs of other lengths cannot be compared"),
        ([*RANGE, "--experiment", "plasticity"], "--search: an attribution is of runs that are named"),
        ([*GRID[:-2], "--reg", "none", "--trials", "0"], "--trials: is of a search"),
    ],
)
def test_what_cannot_be_searched(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) if message == "gamma" else _returned(2, words):
        if message == "gamma":
            sweep.main(words)
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@contextmanager
def _returned(code: int, words: list[str]) -> Iterator[None]:
    assert sweep.main(words) == code
    yield


def test_a_folder_has_one_search(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    assert search("runs", "--trials", "2") == 0
    assert search("runs", "--trials", "2", "--seeds", "3") == 2
    assert "has a search of other settings: seeds is" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in [name for name in sys.modules if name.startswith("neoteny.runners.searches")]:
        monkeypatch.delitem(sys.modules, name)
    assert sweep.main([*GRID, *RANGE]) == 2
    assert "pip install 'neoteny[optuna]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "range_"),
    [
        ("log 1e-6 .. 1e-1", Range(1e-6, 0.1, True, False)),
        ("1..8", Range(1, 8, False, True)),
        ("1e0 .. 1e2", Range(1, 100, False, True)),
        ("log 16 .. 512", Range(16, 512, True, True)),
        ("-1.5 .. 2", Range(-1.5, 2, False, False)),
        ("1e-3", None),
        ("a .. b", None),
        (3, None),
    ],
)
def test_ranges(text: str, range_: Range | None) -> None:
    assert Range.read("x", text) == range_
    assert range_ is None or Range.read("x", str(range_)) == range_


def test_a_range_has_its_ends() -> None:
    whole, other = Range(1, 8, False, True), Range(1e-6, 0.1, True, False)
    assert [1 in whole, 8 in whole, 9 in whole, 2.5 in whole, True in whole] == [True, True, False, False, False]
    assert other.rounded(0.09999) == 0.1
    assert other.rounded(1.23456e-4) == 1.23e-4
    near_one = Range(0.9, 0.9999, False, False)
    assert [near_one.rounded(value) for value in (0.99951, 0.9, 0.99987)] == [0.9995, 0.9, 0.9999]
    with pytest.raises(ConfigError, match="x: the range"):
        Range.read("x", "2 .. 1")


@pytest.mark.slow
@pytest.mark.full
def test_a_real_search_that_is_killed(tmp_path: Path) -> None:
    """Networks on examples, the driver killed when its first runs have begun: no trial is lost, all is as without."""
    words = "--data digits --change random-labels --net mlp --reg l2 --num-tasks 2 --epochs 2 --data.samples 64".split()
    argv = [sys.executable, sweep.__file__, *words, *RANGE, "--trials", "1", "--seeds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen([*argv, "--out", "killed"], cwd=tmp_path, env=environment)
    while not any(tmp_path.glob("killed/*/*/seed-0/tasks.csv")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    for out in ("killed", "whole"):
        subprocess.run([*argv, "--out", out], cwd=tmp_path, env=environment, check=True)
    assert trials(str(tmp_path / "killed")) == trials(str(tmp_path / "whole"))
    (row,) = trials(str(tmp_path / "whole"))
    assert (row["state"], row["tasks"]) == ("complete", "2")
