"""`make plasticity`, thinned: sweep, attribution, picture, sentences; and once more, which does nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from neoteny.runners import explain, sweep

THIN = (
    "--experiment plasticity --reg none --seeds 1 --num-tasks 7 --steps-per-task 400 --jobs 1 --out runs/thin".split()
)


@pytest.mark.full
@pytest.mark.slow
def test_thin_plasticity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    assert sweep.main(THIN) == 0
    said = capfd.readouterr()
    assert "2 of 2 runs are complete." in said.out
    assert "1 of 1 attributions are complete." in said.out
    assert "2/2  runs/thin/cartpole-rotate,steps_per_task=400/ppo-trac" in said.err
    folder = Path("runs/thin/cartpole-rotate,steps_per_task=400")
    assert {path.name for path in folder.iterdir()} == {"ppo-trac-none", "ppo-trac,fresh-none", "comparison"}
    with (folder / "ppo-trac-none/seed-0/attribution/task-0007/trials.csv").open(newline="") as lines:
        made = {(row["intervention"], row["trial"]) for row in csv.DictReader(lines)}
    names = ("nothing", "heads", "torsos", "optimizer", "rescale", "everything")
    assert made == {(name, seed) for name in names for seed in "01"}
    assert sweep.main(THIN) == 0
    assert "2 complete, 0 begun, 0 missing" in capfd.readouterr().err
    assert explain.main([str(folder)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("Without a method the mean return of tasks 4 to 7 is ")
    assert "into task 7 (seed 0)" in lines[1]
    assert lines[2] == "No method was tried."
    assert (folder / "explained.png").stat().st_size > 10_000
