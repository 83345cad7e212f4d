"""Tables of results/ from the rows kept there; two of them recomputed with pandas."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from neoteny.configs import ConfigError
from neoteny.runners import report, results
from neoteny.runners.reports import read_runs, write_rows
from neoteny.runners.reports.flat import read_flat

RESULTS = Path(__file__).parents[3] / "results"


def test_what_a_report_wrote_is_read_again(tmp_path: Path) -> None:
    for name, seed, returns in (("ppo-a,k=1", 0, "1,2"), ("ppo-a,k=1", 3, "3,4"), ("ppo-b", 0, "5,6")):
        file = tmp_path / "runs" / name / f"seed-{seed}" / "tasks.csv"
        file.parent.mkdir(parents=True)
        file.write_text("step,name,return_mean\n" + "\n".join(f"1,a {n},{n}" for n in returns.split(",")))
    runs = read_runs(tmp_path / "runs")
    write_rows(runs, tmp_path / "tasks.csv")
    assert read_flat(tmp_path / "tasks.csv") == {"": runs}


def test_sequences_and_settings_tell_runs_apart(tmp_path: Path) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text(
        "precision,sequence,fast,seed,name,return_mean\nhigh,a,True,2,t,1\nhigh,b,True,2,t,3\nlow,a,False,0,t,5\n"
    )
    row = {"name": "t", "return_mean": "1"}
    assert read_flat(file) == {
        "a": {"precision=high,fast=True": {2: [row]}, "precision=low,fast=False": {0: [row | {"return_mean": "5"}]}},
        "b": {"precision=high,fast=True": {2: [row | {"return_mean": "3"}]}},
    }


@pytest.mark.parametrize(("text", "message"), [("a,b\n1,2\n", "no column seed"), ("method,seed\n", "no rows")])
def test_files_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_flat(tmp_path / "tasks.csv")


def test_a_row_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text("method,seed,name,return_mean\na,0,t,1\na,0,t,1\n")
    with pytest.raises(ConfigError, match="line 3 is there twice"):
        read_flat(tmp_path / "tasks.csv")


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows alone, from which the rest is made; and a folder without rows."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("cartpole-offset", "closed-form", "attribution", "plasticity"):
        (folder / name).mkdir()
        for file in (*(RESULTS / name).glob("tasks*.csv"), *(RESULTS / name).glob("trials.csv")):
            shutil.copy(file, folder / name)
    (folder / "plasticity" / "explained.md").touch()
    (folder / "words").mkdir()
    lines = [*results.rebuild(folder)]
    assert (
        lines[-1] == f"{folder}/words: no tasks.csv and no trials.csv, so there is nothing to rebuild its figures from"
    )
    assert all(Path(line).is_file() for line in lines[:-1])
    return folder


def test_what_is_committed_is_what_is_rebuilt(rebuilt: Path) -> None:
    files = [file for file in rebuilt.glob("*/*") if file.suffix in (".csv", ".md")]
    assert len(files) > 12
    for file in files:
        assert file.read_text() == (RESULTS / file.parent.name / file.name).read_text(), file


def test_pictures_are_called_after_what_they_show_and_figures_that_were_there_are_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    with (RESULTS / "supervised" / "tasks.csv").open() as lines:
        text = [line for i, line in enumerate(lines) if i == 0 or re.search("mlp-(none|spectral),", line)]
    (folder / "tasks.csv").write_text("".join(text))
    made = [Path(line).name for line in results.rebuild(folder)]
    assert made == ["accuracy.png", "table.md"]
    (folder / "drift.png").touch()
    assert [Path(line).name for line in results.rebuild(folder)] == ["accuracy.png", "drift.png", "table.md"]
    assert (folder / "drift.png").stat().st_size > 10_000
    table = (folder / "table.md").read_text()
    assert "Examples are of training" in table
    assert "agent" not in table


def middles(table: str, heading: str) -> dict[str, float]:
    """The means over all tasks in a section's table, by column."""
    lines = table.partition(f"## {heading}\n\n")[2].partition("\n\n")[0].splitlines()
    names = [re.sub(r" \(\d+ seeds?\)", "", cell.strip()) for cell in lines[0].strip("|").split("|")][1:]
    last = [cell.strip(" *") for cell in lines[-1].strip("|").split("|")][1:]
    return {name: float(cell.split()[0]) for name, cell in zip(names, last, strict=True)}


def test_two_tables_recomputed(rebuilt: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = pandas.read_csv(rebuilt / "cartpole-offset" / "tasks.csv")
    table = (rebuilt / "cartpole-offset" / "table.md").read_text()
    for heading, column in (("Mean return of each task", "return_mean"), ("Return at each task's end", "return_final")):
        theirs = rows.groupby("method")[column].mean()
        assert middles(table, heading) == {name: pytest.approx(value, abs=5e-4) for name, value in theirs.items()}
    rows = pandas.read_csv(rebuilt / "closed-form" / "tasks.csv")
    table = (rebuilt / "closed-form" / "table.md").read_text().partition("# Sequence four")[2]
    theirs = rows[rows.sequence == "four"].groupby("closed_form")["return_mean"].mean()
    assert middles(table, "Mean return of each task") == {
        f"closed_form={key}": pytest.approx(value, abs=5e-4) for key, value in theirs.items()
    }


@pytest.mark.full
def test_attributions_that_are_kept_are_those_of_their_runs_together(tmp_path: Path) -> None:
    """Of kept rows a report, and what is rebuilt of it, say what a count over agents by hand says."""
    pandas = pytest.importorskip("pandas")
    assert report.main([str(RESULTS / "plasticity"), "--out", str(tmp_path / "kept")]) == 0
    kept = pandas.read_csv(tmp_path / "kept" / "trials.csv")
    assert kept.equals(pandas.read_csv(RESULTS / "plasticity" / "trials.csv"))
    assert {str(tmp_path / "kept" / "table.md")} <= {*results.rebuild(tmp_path / "kept")}
    text = (tmp_path / "kept" / "table.md").read_text().partition("## Why: attribution")[2]
    names, _, cells = [
        line.strip("| ").split(" | ") for line in text.partition("##")[0].splitlines() if line[:1] == "|"
    ]
    found = dict(zip(names, cells, strict=True))
    assert found["agents"] == "“none”, 3 runs, task 7"
    means = kept.groupby(["intervention", "seed"])["return_mean"].mean().groupby("intervention").mean()
    gap = means["everything"] - means["nothing"]
    assert found["everything"].split()[0] == f"{means['everything']:.3g}"
    for name in ("heads", "torsos", "optimizer", "rescale"):
        assert float(found[name].split()[0]) == pytest.approx((means[name] - means["nothing"]) / gap, abs=0.005)


@pytest.mark.full
def test_a_report_says_of_trials_that_they_cannot_be_read(tmp_path: Path) -> None:
    shutil.copy(RESULTS / "plasticity" / "tasks.csv", tmp_path)
    (tmp_path / "trials.csv").write_text("study,trial\na,1\n")
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "trials.csv cannot be read" in (tmp_path / "out" / "table.md").read_text()
