"""The sweep and the report, run as programs on very small budgets."""

import csv

import pytest

from neoteny.runners import report, sweep
from neoteny.runners.experiments import parse_numbers

TINY = "--num-tasks 2 --steps-per-task 1024 --num-envs 16 --agent.n_steps 16 --agent.network.hidden [8]".split()


@pytest.mark.full
@pytest.mark.slow
def test_sweep_then_report(tmp_path, capsys):
    out = tmp_path / "runs"
    argv = ["--env", "stationary", "--reg", "none", "l2", "--seeds", "0-1", "--out", str(out), *TINY]
    assert sweep.main(argv) == 0
    assert "4 of 4 runs are complete" in capsys.readouterr().out
    (env,) = out.iterdir()
    results = tmp_path / "results"
    assert report.main([str(env), "--out", str(results), "--solved-at", "0.5"]) == 0
    table = (results / "table.md").read_text()
    assert "hidden=[8],num_envs=16-none (2 seeds)" in table
    assert (results / "returns.png").read_bytes().startswith(b"\x89PNG")
    with (results / "tasks.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8


def test_sweep_refuses_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        sweep.main(["--reg", "none", "spectal", "--out", str(tmp_path / "runs")])
    assert stop.value.code == 2
    assert "did you mean 'spectral'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "seeds"), [("3", [3]), ("0-2", [0, 1, 2]), ("0,4-5", [0, 4, 5])])
def test_seeds(text, seeds):
    assert parse_numbers(text) == seeds
