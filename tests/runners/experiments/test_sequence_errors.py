"""Sequences that cannot be run are refused before anything is written, in words that help."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from neoteny.runners import continual_rl

GRID, POLE = "MiniGrid-Empty-5x5-v0", "CartPole-v1"


def task(env: str, rest: str = "", steps: int = 9) -> str:
    return f"{{env: {env!r}, steps: {steps}{rest and ', ' + rest}}}"


def shifted(env: str, shift: str) -> str:
    return f"tasks: [{task(GRID)}, {task(env, f'shifts: [{{{shift}}}]')}]"


def noisy(ramp: int) -> str:
    return f"tasks: [{task(POLE, f'shifts: [{{shift: noise-observation, std: 1, ramp: {ramp}}}]')}]"


SEQUENCES = {
    # spaces that cannot be shared
    "observations": (
        f"tasks: [{task(GRID)}, {task(POLE)}]",
        ["tasks:", "no observation space", f"{GRID}'s Box(7×7×3 uint8, 0 to 10)", f"{POLE}'s Box(4 float32", "axes"],
    ),
    "actions": (
        f"tasks: [{task(POLE)}, {task('Pendulum-v1')}]",
        ["tasks:", "no action space", f"{POLE}'s Discrete(2)", "Pendulum-v1's Box(1 float32, -2 to 2)"],
    ),
    "task-id": (
        f"tasks: [{task('FrozenLake-v1')}]\nswitches: task-id",
        ["switches:", "task-id needs Box observations", "Discrete(16)"],
    ),
    # environments that are not there
    "unknown environment": (f"tasks: [{task('CartPol-v1')}]", ["env:", "'CartPol-v1'", "did you mean 'CartPole-v1'"]),
    "unknown environment of a family": (
        f"tasks: [{task('MinAtar/Breakot-v1')}]",
        ["env:", "'MinAtar/Breakot-v1'", "did you mean 'MinAtar/Breakout-v1'"],
    ),
    "second environment unknown": (f"tasks: [{task(GRID)}, {task('Nope-v0')}]", ["env:", "'Nope-v0'"]),
    "unknown module": (f"tasks: [{task('no_such_module:Nope-v0')}]", ["env:", "'no_such_module'", "be imported"]),
    "broken environment": (f"tasks: [{task('MetaWorld/Hammer-v3')}]", ["env:", "goals drift", "Meta-World/"]),
    "not in EnvPool": (
        f"tasks: [{task('neoteny/TwoGoals-v0', 'backend: envpool')}]", ["backend:", "EnvPool has no 'neoteny/Tw"],
    ),
    "no vector environment": (
        f"tasks: [{task('Acrobot-v1', 'backend: vector')}]", ["backend:", "'Acrobot-v1'", "choose gymnasium or async"],
    ),
    # durations
    "negative steps": (f"tasks: [{task(GRID, steps=-5)}]", ["env.tasks.0.steps:", "greater than 0", "-5"]),
    "zero steps": (f"tasks: [{task(GRID)}, {task(GRID, steps=0)}]", ["env.tasks.1.steps:", "greater than 0"]),
    "negative ramp": (noisy(-1), ["env.tasks.0.shifts.0:", "noise-observation.ramp:", "equal to 0", "-1"]),
    "negative cycles": (f"tasks: [{task(GRID)}]\ncycles: -1", ["env.cycles:", "greater than 0", "-1"]),
    "negative number of tasks": (f"tasks: [{task(GRID)}]\nnum_tasks: -2", ["env.num_tasks:", "greater than 0", "-2"]),
    "no end": (f"tasks: [{task(GRID)}]\ncycles: null", ["num-tasks:", "no end"]),
    # shifts that do not fit
    "noise on cells": (shifted(GRID, "shift: noise-observation, std: 1"), ["noise-observation:", "real numbers or"]),
    "permuted cart-pole": (shifted(POLE, "shift: permute-observation"), ["permute-observation:", "same bounds"]),
    "offset of another length": (
        shifted(POLE, "shift: offset-observation, value: [1, 2]"), ["offset-observation.value:", "(4,)", "got 2"],
    ),
    "slip on a vector": (shifted("Pendulum-v1", "shift: slip, probability: 0.1"), ["slip:", "Discrete action", "Box("]),
    "slip among others": (
        shifted(GRID, "shift: slip, probability: 0.1, among: [7]"), ["slip.among:", "7 is not an action", "0 to 6"],
    ),
    "no goal": (shifted(GRID, "shift: goal, goal: 1"), ["goal:", "no parameter 'goal'"]),
    "no such parameter": (
        shifted(POLE, "shift: dynamics, set: {gravty: 1}"), ["dynamics.set:", "'gravty'", "did you mean 'gravity'"],
    ),
    "no such parameter in a worker": (
        f"tasks: [{task(POLE, 'backend: async, shifts: [{shift: dynamics, set: {gravty: 1}}]')}]",
        ["dynamics.set:", "'gravty'", "did you mean 'gravity'"],
    ),
    "dynamics in EnvPool": (
        f"tasks: [{task(POLE, 'backend: envpool, shifts: [{shift: dynamics, set: {gravity: 1}}]')}]",
        ["dynamics.set:", "gravity", "EnvPool cannot change", "backend: auto"],
    ),
    # actions that are not there
    "offered actions": (f"tasks: [{task(GRID, 'actions: [0, 9]')}]", ["actions:", "0 to 6", "got 9"]),
    "no-op": (f"tasks: [{task(POLE, 'noop: 2')}]", ["noop:", "0 to 1", "got 2"]),
}  # fmt: skip


def refused(text: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    try:
        code: object = continual_rl.main(["--env", str(file), "--out", str(tmp_path / "runs"), "--num-envs", "2"])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "Traceback" not in captured.err + captured.out
    assert all(part in captured.err for part in said), captured.err
    assert len(captured.err.splitlines()) <= 2, captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("text", "said"), SEQUENCES.values(), ids=SEQUENCES.keys())
def test_refused(text: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(text, said, tmp_path, capsys)


@pytest.mark.parametrize(
    ("env", "package", "user", "said"),
    [
        ("MinAtar/Breakout-v1", "minatar", "neoteny.envs.suites.minatar", ["env:", "pip install 'neoteny[minatar]'"]),
        (
            "Meta-World/hammer-v3",
            "metaworld",
            "neoteny.envs.suites.metaworld",
            ["env:", "'neoteny[metaworld]'"],
        ),
        ("Ant-v5", "mujoco", "gymnasium.envs.mujoco", ["env:", "pip install 'neoteny[mujoco]'"]),
    ],
    ids=["minatar", "metaworld", "mujoco"],
)
def test_missing_extra(
    env: str,
    package: str,
    user: str,
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith(user)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # what makes its import fail
    refused(f"tasks: [{task(env, 'backend: gymnasium')}]", [*said, repr(env)], tmp_path, capsys)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--env.tasks.0.steps=5", "env.tasks.0.steps"),
        ("--env.cycles=-1", "env.cycles: input should be greater than 0, got -1"),
        ("--env.order=random", "env.order: input should be 'given', 'shuffled' or 'sampled', got 'random'"),
        ("--env.switches=told", "env.switches: input should be 'hidden', 'signalled' or 'task-id', got 'told'"),
        ("--steps-per-task=-5", "--steps-per-task: at least 1 is needed, got -5"),
        ("--num-tasks=-1", "--num-tasks: at least 1 is needed, got -1"),
    ],
)
def test_wrong_option(option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        continual_rl.main([option, "--out", str(tmp_path / "runs")])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())
