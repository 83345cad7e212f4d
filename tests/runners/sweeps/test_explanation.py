"""What is said of runs: computed here once more, from tables made up for it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from neoteny.runners import explain as program
from neoteny.runners.sweeps.explanation import explain, sentences
from neoteny.runners.sweeps.keeping import read_folder

NEW, OLD = [200.0, 210.0, 190.0], [10.0, 9.0, 11.0]


def tasks(folder: Path, name: str, returns: list[list[float | None]], norm: float | None = 2.0) -> None:
    """Runs of one method: returns by seed and task; the norm doubles at every task."""
    for seed, row in enumerate(returns):
        file = folder / name / f"seed-{seed}" / "tasks.csv"
        file.parent.mkdir(parents=True)
        with file.open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["step", "task", "name", "headline", "return_mean", "spectral_norm_max"])
            writer.writerows(
                (10 * i, i, "T", "return", "" if mean is None else mean, norm and norm * 2**i)
                for i, mean in enumerate(row)
            )


def trials(folder: Path, name: str, seed: int, areas: dict[str, list[float]], task: int = 3) -> None:
    file = folder / name / f"seed-{seed}" / "attribution" / f"task-{task:04d}" / "trials.csv"
    file.parent.mkdir(parents=True)
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["intervention", "trial", "headline", "return_mean"])
        writer.writerows((key, i, "return", value) for key, values in areas.items() for i, value in enumerate(values))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four tasks, three seeds: the loss is in the torsos, and a method whose label has commas helps."""
    folder = tmp_path / "some-env"
    tasks(folder, "ppo-none", [[240, 100, old, old] for old in OLD])
    tasks(folder, "ppo,fresh-none", [[240, 230, new, new] for new in NEW])
    tasks(folder, "ppo-Mine,strength=0.1,k=2", [[150, 150, new - 50, new - 50] for new in NEW], norm=0.5)
    tasks(folder, "ppo-redo", [[100, 9, old + 0.5 * (-1) ** i, old] for i, old in enumerate(OLD)])
    for seed in range(3):
        areas = {
            "nothing": [9, 10],
            "heads": [10, 9],
            "torsos": [180 + seed, 190 + seed],
            "everything": [200, 200 + seed],
        }
        trials(folder, "ppo-none", seed, {key: [float(value) for value in values] for key, values in areas.items()})
    return folder


def test_three_sentences(runs: Path) -> None:
    found = explain(runs)
    assert list(found.runs) == ["none", "Mine,strength=0.1,k=2", "redo", "fresh agents"]
    loss, cause, helps = sentences(found)
    assert f"tasks 3 to 4 is {np.mean(OLD):.3g} [9, 11]" in loss
    assert f"begin every task anew {np.mean(NEW):.3g} [190, 210]: plasticity is lost" in loss
    assert "from 2 after the first task to 16 after the last" in loss
    nothing, everything = 9.5, np.mean([200, 200.5, 201])
    assert f"both torsos {(186 - nothing) / (everything - nothing):.2f} [" in cause
    assert "both heads 0.00 [0.00, 0.00]" in cause
    assert "into task 3 (seeds 0, 1, 2)" in cause
    assert cause.endswith("the loss sits in the torsos.")
    assert "150 [140, 160] with Mine,strength=0.1,k=2, σ₁ 4 at the end" in helps
    assert helps.endswith("Mine,strength=0.1,k=2 is sure to help, Mine,strength=0.1,k=2 is still behind fresh agents.")
    assert helps.index("Mine") < helps.index("redo")


def test_the_words_follow_the_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    tasks(folder, "a-b-none", [[5, 100], [5, 110]])
    tasks(folder, "a-b,fresh-none", [[5, 105], [5, 104]])
    tasks(folder, "a-b-l2", [[1, 101], [1, 111]])
    trials(
        folder, "a-b-none", 1, {"nothing": [100.0, 110.0], "heads": [90.0, 120.0], "everything": [105.0, 104.0]}, task=2
    )
    loss, cause, helps = sentences(explain(folder))
    assert "no loss of plasticity is sure" in loss
    assert "of task 2 is" in loss
    assert "there is no gap to explain" in cause
    assert "none of them is sure to help" in helps
    tasks(folder, "a-none", [[7, 7]])
    tasks(folder, "a,fresh-none", [[7, 1]])
    loss, cause, helps = sentences(explain(folder, "a"))
    assert "no plasticity is lost" in loss
    assert "was not asked" in cause
    assert helps == "No method was tried."


def test_what_is_left_out_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (runs / "ppo-redo/seed-2/tasks.csv").open() as lines:
        short = lines.readlines()[:-1]
    (runs / "ppo-redo/seed-2/tasks.csv").write_text("".join(short))
    tasks(runs, "ppo-l2", [[]])
    out = runs.parent / "out"
    assert program.main([str(runs), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "redo: seed 2 left out, since not all 4 tasks are finished" in said
    assert (out / "explained.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "explained.md").read_text().startswith("# out, ppo\n\nWithout a method the mean return")


def test_kept_rows_say_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs.parent / "kept"
    trials(runs, "ppo-redo", 0, {"nothing": [1.0], "everything": [2.0]})
    assert program.main([str(runs), "--out", str(out)]) == 0
    first = capsys.readouterr().out.splitlines()[:3]
    assert read_folder(out) == read_folder(runs)
    assert program.main([str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == first == sentences(explain(runs))


def test_without_returns_or_fresh_agents(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    tasks(folder, "ppo-none", [[3, None], [4, None]], norm=None)
    tasks(folder, "ppo-l2", [[3, 8], [4, 9]])
    loss, _, helps = sentences(explain(folder))
    assert "not known" in loss
    assert "no fresh agents" in loss
    assert "8.5 [8, 9] with l2: none" in helps
    assert program.main([str(folder)]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "choose one of dqn, ppo"),
        (["--agent", "pqo"], "did you mean"),
        (["--agent", "dqn"], "no run without a method"),
    ],
)
def test_what_is_refused(runs: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    tasks(runs, "dqn-none", [[1, 2]])
    tasks(runs, "dqn-l2", [[1, 2, 3]])
    assert program.main([str(runs), *argv]) == 2
    assert message in capsys.readouterr().err


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(tmp_path)]) == 2
    assert "has no finished task" in capsys.readouterr().err
