"""Users' own callbacks: found, refused with a reason, called, and able to stop a run that goes on later."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse

MODULE = """
from pathlib import Path
from stable_baselines3.common.callbacks import BaseCallback

class Counts(BaseCallback):
    calls = 0

    def _on_training_start(self):
        Path("starts").open("a").write("x")

    def _on_step(self):
        Counts.calls += 1
        self.logger.record("mine/calls", Counts.calls)
        return True

class Stops(BaseCallback):
    def _on_step(self):
        return Path("go-on").exists() or self.num_timesteps < 400

class Needs(BaseCallback):
    def __init__(self, what):
        super().__init__()

    def _on_step(self):
        return True

class Unfinished(BaseCallback):
    pass

class Breaks(Counts):
    def __init__(self):
        raise KeyError("what")
"""
SEQUENCE = "tasks: [{env: CartPole-v1, steps: 256}]\ncycles: 3\n"
SMALL = "--num-envs 4 --agent.n_steps 16 --agent.batch_size 64 --agent.network.hidden [8]".split()


@pytest.fixture
def argv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_callbacks", raising=False)  # that of another test
    Path("my_callbacks.py").write_text(MODULE)
    Path("tiny.yaml").write_text(SEQUENCE)
    return ["--env", "tiny.yaml", *SMALL, "--out"]


def rows(folder: Path, file: str = "progress.csv") -> list[dict[str, str]]:
    with (folder / file).open(newline="") as lines:
        table = list(csv.DictReader(lines))
    return [{k: v for k, v in row.items() if "second" not in k and not k.startswith("mine")} for row in table]


def test_callbacks_see_every_step_and_change_nothing(argv: list[str]) -> None:
    assert continual_rl.main([*argv, "plain"]) == 0
    callbacks = ["--callback", "my_callbacks:Counts", "--callback", "my_callbacks:Counts2"]
    with Path("my_callbacks.py").open("a") as module:
        module.write("class Counts2(Counts):\n    pass\n")
    assert continual_rl.main([*argv, "own", *callbacks]) == 0
    plain, own = (parse([*argv, out])[0].folder for out in ("plain", "own"))
    assert rows(plain) == rows(own)
    with (own / "progress.csv").open(newline="") as lines:
        calls = [float(row["mine/calls"]) for row in csv.DictReader(lines)]
    assert calls[-1] == 2 * 3 * 256 / 4
    assert Path("starts").read_text() == "x" * 6  # two callbacks, three segments


def test_a_callback_stops_a_run_that_goes_on_to_the_same_numbers(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert continual_rl.main([*argv, "plain"]) == 0
    assert continual_rl.main([*argv, "own", "--callback", "my_callbacks:Stops"]) == 1
    message = capsys.readouterr().err
    assert "my_callbacks:Stops returned False at 400 environment steps" in message
    assert "The same command goes on from the last checkpoint" in message
    plain, own = (parse([*argv, out])[0].folder for out in ("plain", "own"))
    assert [row["step"] for row in rows(own, "tasks.csv")] == ["256"]
    assert continual_rl.main([*argv, "own", "--callback", "my_callbacks:Stops"]) == 1
    Path("go-on").touch()
    assert continual_rl.main([*argv, "own", "--callback", "my_callbacks:Stops"]) == 0
    assert rows(plain) == rows(own)
    assert continual_rl.main([*argv, "own"]) == 0  # also without it


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Counts", "'Counts': module:Class is expected, of a stable-baselines3 callback of your own"),
        ("my_callbacks:Missing", "'my_callbacks:Missing' cannot be imported"),
        ("no_module:Counts", "'no_module:Counts' cannot be imported"),
        ("pathlib:Path", "'pathlib:Path' is no subclass of stable_baselines3.common.callbacks.BaseCallback"),
        ("my_callbacks:Needs", "'my_callbacks:Needs' is made without arguments, and cannot be (missing a required"),
        ("my_callbacks:Unfinished", "'my_callbacks:Unfinished' has no _on_step"),
    ],
)
def test_bad_names(argv: list[str], capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        continual_rl.main([*argv, "runs", "--callback", name])
    assert stop.value.code == 2
    assert f"--callback: {message}" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_one_that_breaks_when_it_is_made(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert continual_rl.main([*argv, "runs", "--callback", "my_callbacks:Breaks"]) == 2
    assert "--callback: 'my_callbacks:Breaks' cannot be made (KeyError: 'what')" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_options_of_several_words_add_up() -> None:
    experiment, _ = parse("--instruments spectra --instruments units policy".split())
    assert experiment.run.instruments == ("spectra", "units", "policy")
    assert parse([])[0].run.instruments == ("default",)
