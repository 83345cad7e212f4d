"""Tables and plots of finished runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

from neoteny.runners import report
from neoteny.runners.reports import interval
from neoteny.runners.reports.plots import plain_numbers, short_names


def make_runs(folder: Path, methods: dict[str, list[float]], tasks: int = 2) -> Path:
    """Each method's returns, by seed; those of task i are i more."""
    for method, seeds in methods.items():
        for seed, value in enumerate(seeds):
            file = folder / method / f"seed-{seed}" / "tasks.csv"
            file.parent.mkdir(parents=True)
            rows = [f"room,100,{value + i},{value + i},{1 + value}" for i in range(tasks)]
            file.write_text("\n".join(["name,steps,return_mean,return_final,spectral_norm_max", *rows, ""]))
    return folder


def made(tmp_path: Path, methods: dict[str, list[float]], *options: str) -> list[str]:
    """The lines of the first table."""
    folder = make_runs(tmp_path / "runs", methods)
    assert report.main([str(folder), "--out", str(tmp_path / "out"), *options]) == 0
    assert (tmp_path / "out" / "returns.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out" / "tasks.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * sum(map(len, methods.values()))
    text = (tmp_path / "out" / "table.md").read_text()
    return [line for line in text.split("## Return at")[0].splitlines() if line.startswith("|")]


def test_tasks_go_down_where_there_are_no_more_methods_than_tasks(tmp_path: Path):
    assert made(tmp_path, {"a": [0.0, 1.0], "b": [2.0, 2.0]}) == [
        "| task | a (2 seeds) | b (2 seeds) |",
        "|---|---:|---:|",
        "| 1 room | 0.500 [0.000, 1.000] | 2.000 [2.000, 2.000] |",
        "| 2 room | 1.500 [1.000, 2.000] | 3.000 [3.000, 3.000] |",
        "| all | **1.000 [0.500, 1.500]** | **2.500 [2.500, 2.500]** |",
    ]


def test_methods_go_down_where_there_are_more_and_the_best_comes_first(tmp_path: Path):
    methods = {name: [float(i % 5)] for i, name in enumerate("abcdefg")}
    lines = made(tmp_path, methods, "--ranked", "--only", *"abcdefg")
    assert lines[0] == "| method | 1 room | 2 room | all |"
    assert [line.split()[1] for line in lines[2:]] == ["e", "d", "c", "b", "g", "a", "f"]
    assert lines[2] == "| e (1 seed) | 4.000 | 5.000 | **4.500** |"


def test_report_refuses_a_folder_without_runs(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        report.main([str(tmp_path), "--out", str(tmp_path / "results")])
    assert stop.value.code == 2
    assert not (tmp_path / "results").exists()


def test_interval():
    middle, low, high = interval(np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]))
    assert middle == 1.5
    assert 0.5 <= low < 1.5 < high <= 2.5
    assert interval(np.full((4, 1), 0.25)) == (0.25, 0.25, 0.25)


HEADER = "step,after,learned,on,name,return,games,seconds"


def evaluated(folder: Path, method: str, seed: int, matrix: list[list[float]]) -> None:
    """evaluations.csv of a run that learned its tasks one after the other."""
    rows = [
        f"{100 * after},{after},{after},{on + 1},room,{value},20,1"
        for after, performance in enumerate(matrix)
        for on, value in enumerate(performance)
    ]
    (folder / method / f"seed-{seed}" / "evaluations.csv").write_text("\n".join([HEADER, *rows, ""]))


def test_what_was_kept_and_lost(tmp_path: Path):
    """Of the methods that have matrices; means over seeds of each run's own figure."""
    folder = make_runs(tmp_path / "runs", {"a": [0.0, 1.0], "b": [2.0], "c": [3.0]})
    evaluated(folder, "a", 0, [[0, 0], [4, 1], [1, 5]])
    evaluated(folder, "a", 1, [[0, 0], [4, 3], [3, 6]])
    evaluated(folder, "b", 0, [[0, 0]])
    (folder / "c" / "seed-0" / "evaluations.csv").write_text(HEADER + "\n")
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "table.md").read_text().split("## Kept and lost")[1]
    assert "Of the return of 20 games" in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0][1:4] == ["average performance", "forgetting", "backward transfer"]
    assert lines[2][:4] == ["| a (2 seeds)", "3.750 [3.000, 4.500]", "1.000 [0.500, 1.500]", "-2.000 [-3.000, -1.000]"]
    assert [cell.split()[0] for cell in lines[2][4:]] == ["0.500", "0.350"]
    assert lines[3] == ["| b (1 seed)", "0.000", "—", "—", "—", "— |"]
    assert len(lines) == 4


def test_without_matrices_there_is_nothing_kept_and_lost(tmp_path: Path):
    folder = make_runs(tmp_path / "runs", {"a": [0.0]})
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "Kept and lost" not in (tmp_path / "out" / "table.md").read_text()


def test_plots_call_methods_by_their_names():
    fresh = ["ppo,fresh-none"]
    assert short_names(["ppo-none", "ppo-spectral-heads", "ppo-spectral-norm", *fresh], fresh) == {
        "ppo-none": "none",
        "ppo-spectral-heads": "spectral-heads",
        "ppo-spectral-norm": "spectral-norm",
        "ppo,fresh-none": "fresh agents",
    }
    several = ["ppo-trac-none", "ppo-trac-spectral+redo,strength=1e-3"]
    assert [*short_names(several).values()] == ["none", "spectral+redo,strength=1e-3"]
    assert [*short_names([f"ppo-trac,gamma=0.9-{name}" for name in ("none", "trac")]).values()] == ["none", "trac"]
    other = ["ppo-trac,gamma=0.9-none", "ppo-trac,gamma=0.8-none"]
    for unlike in (["ppo-none", "dqn-none"], ["ppo-none", "ppo-mine"], other, []):
        assert short_names(unlike) == {name: name for name in unlike}


@pytest.mark.parametrize(("low", "high"), [(1.2, 8.0), (0.3, 30.0), (1.0, 1e6)])
def test_ticks_of_logarithmic_axes_are_plain_numbers(low, high):
    figure, axis = plt.subplots()
    axis.plot([1, 2], [low, high])
    axis.set_yscale("log")
    plain_numbers(axis.yaxis)
    figure.canvas.draw()
    seen = [label.get_text() for label in axis.get_yticklabels(which="both") if label.get_text()]
    ticks = [tick for tick in axis.get_yticks() if low <= tick <= high]
    assert len(ticks) >= 2
    assert all("10^" not in text and "times" not in text for text in seen)
    assert {f"{tick:g}" for tick in ticks} <= {*seen}
    plt.close(figure)
