"""Trials are chosen, pruned and kept as promised: with runs whose returns are known, and with real ones."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from thinning import some

from neoteny.configs import ConfigError, read_yaml
from neoteny.runners import sweep
from neoteny.runners.engines import local
from neoteny.runners.engines.engine import Settings
from neoteny.runners.engines.work import Job, Outcome
from neoteny.runners.experiments.ranges import Range

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
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.room = 2
        self.jobs: list[Job] = []
        self.stop = math.inf
        self.code = 0

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        for job in jobs:
            if job not in self.jobs:
                if len(self.jobs) == self.stop:
                    raise KeyboardInterrupt
                self.jobs.append(job)
            words = dict(zip(job.command, job.command[1:], strict=False))
            (strength,) = [float(w.partition("=")[2]) for w in job.command if "strength" in w] or [0.0]
            off = abs(math.log10(strength) - BEST[words["--reg"]]) if strength else 5
            tasks = int([b for a, b in zip(job.command, job.command[1:], strict=False) if a == "--num-tasks"][-1])
            folder = Path(job.name)
            folder.mkdir(parents=True, exist_ok=True)
            rows = [f"{task},return,{100 - off},1000" for task in range(tasks)]
            (folder / "tasks.csv").write_text("\n".join(["step,headline,return_mean,steps_per_second", *rows, ""]))
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


def test_it_finds_the_best_from_the_presets_value_on(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    assert search("runs", "--trials", "18") == 0
    rows = trials("runs")
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


def test_more_trials_go_on_with_those_before(landscape: Landscape) -> None:
    assert search("runs", "--trials", "4") == 0
    first = trials("runs")
    assert search("runs", "--trials", "8") == 0
    later = trials("runs")
    assert [row for row in later if int(row["trial"]) <= 4] == first
    assert len(later) == 2 * len(first)


def test_what_fails_has_failed_and_the_rest_goes_on(landscape: Landscape, capsys: pytest.CaptureFixture[str]) -> None:
    landscape.code = 1
    assert search("runs") == 1
    rows = trials("runs")
    failed = [row for row in rows if row["state"] == "failed"]
    assert failed
    assert {row["why"] for row in failed} == {"it broke"}
    assert all((float(row["reg.strength"]) > 0.01) == (row["state"] == "failed") for row in rows)
    assert len(rows) == 12
    assert "log: runs/" in capsys.readouterr().err


def test_a_killed_run_is_gone_on_with(landscape: Landscape) -> None:
    landscape.code = -9
    assert search("runs") == 1
    assert {row["state"] for row in trials("runs")} >= {"running"}
    landscape.code = 0
    assert search("runs") == 0
    assert {row["state"] for row in trials("runs")} <= {"complete", "pruned"}
    assert search("whole") == 0
    assert trials("runs") == trials("whole")


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
    assert "holds a run of other settings: seeds is" in capsys.readouterr().err


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
    with pytest.raises(ConfigError, match="x: the range"):
        Range.read("x", "2 .. 1")


@pytest.mark.slow
def test_a_real_search_that_is_killed(tmp_path: Path) -> None:
    """Networks on examples, the driver killed when its first runs have begun: no trial is lost, all is as without."""
    words = "--data digits --change random-labels --net mlp --reg l2 --num-tasks 2 --epochs 2 --data.samples 64".split()
    argv = [sys.executable, sweep.__file__, *words, *RANGE, "--trials", "2", "--seeds", "1"]
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
    assert len(trials(str(tmp_path / "whole"))) == 2
