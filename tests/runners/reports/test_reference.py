"""Plasticity against fresh agents: worked out by hand, and found by the names of run folders."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from neoteny.runners import report, sweep
from neoteny.runners.experiments import parse
from neoteny.runners.reports import reference_of, references
from neoteny.runners.reports.reference import difference, ratio


def test_hand_worked() -> None:
    live, fresh = np.array([[4.0, 1.0], [2.0, 3.0]]), np.array([[6.0, 1.0], [6.0, 1.0]])
    assert ratio(live, fresh)[0] == pytest.approx((3 / 6 + 2 / 1) / 2)
    assert ratio(live[:, 0], fresh[:, 0]) == pytest.approx((1 / 2, 2 / 6, 4 / 6))
    assert difference(live, fresh)[0] == pytest.approx((-3 + 1) / 2)
    assert ratio(fresh, fresh) == (1, 1, 1)


def test_seeds_are_resampled_jointly_over_tasks() -> None:
    """Seed 0 is high on the first task and low on the second: together all seeds are alike, and nothing is unsure."""
    live, fresh = np.array([[3.0, 1.0], [1.0, 3.0]]), np.ones((2, 2))
    assert ratio(live, fresh) == pytest.approx((2, 2, 2))
    assert ratio(live[:, 0], fresh[:, 0])[1:] == (1, 3)


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    rng = np.random.default_rng(3)
    live, fresh = rng.normal(5, 1, 10), rng.normal(8, 1, 12)
    theirs = stats.bootstrap(
        (live, fresh), lambda a, b, axis: a.mean(axis) / b.mean(axis), method="percentile", random_state=0
    ).confidence_interval
    middle, low, high = ratio(live, fresh)
    assert middle == pytest.approx(live.mean() / fresh.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


@pytest.mark.parametrize(
    ("live", "fresh"),
    [([-1.0, 2.0], [3.0, 3.0]), ([1.0, 2.0], [-3.0, 5.0]), ([1.0, 1.0], [0.0, 0.0]), ([1.0, 1.0], [0.0, 0.1]),
     ([math.nan, 1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, math.nan])],
)  # fmt: skip
def test_nothing_is_divided_that_cannot_be(live: list[float], fresh: list[float]) -> None:
    assert math.isnan(ratio(np.array(live), np.array(fresh))[0])
    # and a task that can be is not lost with it
    both = np.stack([np.array(live), [2.0, 2.0]], 1), np.stack([np.array(fresh), [4.0, 4.0]], 1)
    assert ratio(*both) == (0.5, 0.5, 0.5)


def test_negative_returns_have_a_difference() -> None:
    assert difference(np.array([-100.0, -80.0]), np.array([-60.0, -60.0])) == (-30, -40, -20)


NAMES = [
    ("ppo-spectral", "ppo"),
    ("ppo-spectral+redo,methods.redo.every=500", "ppo"),
    ("ppo-trac", "ppo"),  # a method
    ("ppo-trac-none", "ppo-trac"),  # an agent
    ("ppo-trac-l2-init", "ppo-trac"),
    ("ppo,learning_rate=1e-2-none", "ppo,learning_rate=1e-2"),
    ("ppo-my_method:L1", "ppo"),
    ("recurrent-ppo-none", "recurrent-ppo"),
    ("dqn-none", None),
    ("ppo,fresh-none", None),
    ("ppo,fresh-spectral", None),
]


@pytest.mark.parametrize(("name", "agent"), NAMES)
def test_the_reference_is_of_the_same_agent(name: str, agent: str | None) -> None:
    runs = {f"{a},fresh-none": {} for a in ("ppo", "ppo-trac", "ppo,learning_rate=1e-2", "recurrent-ppo", "sac")}
    assert reference_of(name, {**runs, name: {}}) == (None if agent is None else f"{agent},fresh-none")


def test_no_agent_is_compared_with_anothers() -> None:
    runs = {"ppo,fresh-none": {}, "ppo-trac-none": {}, "ppo-none": {}}
    assert reference_of("ppo-trac-none", runs) is None
    assert references(runs) == ["ppo,fresh-none"]
    assert references({"ppo,fresh-none": {}, "dqn-none": {}}) == []


def make(folder: Path, methods: dict[str, list[list[float]]]) -> Path:
    for method, seeds in methods.items():
        for seed, areas in enumerate(seeds):
            file = folder / method / f"seed-{seed}" / "tasks.csv"
            file.parent.mkdir(parents=True)
            rows = [f"room{i},100,{area},{area},1" for i, area in enumerate(areas)]
            file.write_text("\n".join(["name,steps,return_mean,return_final,spectral_norm_max", *rows, ""]))
    return folder


RUNS = {"ppo,fresh-none": [[4.0, -1.0], [4.0, -1.0]], "ppo-none": [[2.0, -3.0], [2.0, -3.0]], "sac-none": [[1.0, 1.0]]}


@pytest.mark.parametrize("only", [[], ["--only", "ppo-none"]])
def test_reports_have_it(only: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert report.main([str(make(tmp_path / "runs", RUNS)), "--out", str(out), *only]) == 0
    text = (out / "table.md").read_text()
    assert "ppo,fresh-none (2 seeds)" in text.split("## Plasticity")[0]
    section = text.split("## Plasticity against fresh agents")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("|")] == [
        "| task | ppo-none |", "|---|---:|",
        "| 1 room0 | 0.500 [0.500, 0.500] |", "| 2 room1 | — |", "| all | 0.500 [0.500, 0.500] |",
        "| task | ppo-none |", "|---|---:|",
        "| 1 room0 | -2.000 [-2.000, -2.000] |", "| 2 room1 | -2.000 [-2.000, -2.000] |",
        "| all | -2.000 [-2.000, -2.000] |",
    ]  # fmt: skip
    with (out / "plasticity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["task"], row["ratio"], row["difference"]) for row in rows] == [
        ("ppo-none", "0", "0.5", "-2.0"), ("ppo-none", "1", "nan", "-2.0"), ("ppo-none", "", "0.5", "-2.0"),
    ]  # fmt: skip
    assert "plasticity.csv" in capsys.readouterr().out


def test_reports_without_a_reference_have_none(tmp_path: Path) -> None:
    folder = make(tmp_path / "runs", {"ppo-none": [[1.0]], "sac,fresh-none": [[1.0]]})
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "Plasticity" not in (tmp_path / "out/table.md").read_text()
    assert not (tmp_path / "out/plasticity.csv").exists()


def test_runs_of_another_length_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    folder = make(tmp_path / "runs", {"ppo,fresh-none": [[2.0]], "ppo-none": [[1.0, 9.0]], "ppo-redo": [[]]})
    assert report.main([str(folder), "--out", str(tmp_path / "out"), "--only", "ppo-none"]) == 0
    assert "| all | 0.500 [0.500, 0.500] |" in (tmp_path / "out/table.md").read_text()


# The sweep ----------------------------------------------------------------------------------------------------


def planned_by(*argv: str) -> dict[str, list[str]]:
    """The arguments of the runs that a sweep would run, by their folders."""
    options, rest = sweep.make_parser("sweep.py").parse_known_args(argv)
    return {run.folder: run.arguments for run in sweep.plan(options, rest, "sweep.py").runs}


def test_a_sweep_adds_the_fresh_runs_once() -> None:
    words = ["--env", "stationary", "minigrid-goals", "--agent", "ppo", "dqn", "--seeds", "0-2"]
    words += ["--reg", "none", "spectral", "l2-init", "--num-tasks", "2", "--threads", "1"]
    without = planned_by(*words)
    planned = planned_by(*words, "--reference", "fresh")
    assert planned.items() >= without.items()
    added = [folder for folder in planned if folder not in without]
    assert len(added) == 2 * 2 * 3
    assert {Path(folder).parent.name for folder in added} == {"ppo,fresh-none", "dqn,fresh-none"}
    for folder in added:
        experiment, _ = parse(planned[folder])
        assert experiment.run.fresh
        assert experiment.reg is None
        assert experiment.sequence.length == 2


def test_settings_of_the_method_are_not_the_references() -> None:
    words = ["--env", "stationary", "--reg", "spectral", "--reg.strength", "3e-4", "--reg.k=4", "--num-tasks", "2"]
    planned = planned_by(*words, "--reference", "fresh")
    assert [Path(folder).parent.name for folder in planned] == ["ppo-spectral,k=4,strength=0.0003", "ppo,fresh-none"]


@pytest.mark.parametrize("more", [["--reference", "stale"], ["--reference", "fresh", "--fresh"]])
def test_a_reference_that_cannot_be(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        sweep.main(["--env", "stationary", *more])
    assert stop.value.code == 2
    assert "--reference" in capsys.readouterr().err
