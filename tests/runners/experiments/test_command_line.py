"""What the main program does with a wrong command line, and what it shows on request."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from neoteny.plasticity import L2, Compose
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse

PROGRAM = Path(continual_rl.__file__)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


TASK = "tasks: [{env: MiniGrid-Empty-5x5-v0, steps: 1000}]"

WRONG = {
    "unknown env": (["--env", "minigrid-sec"], ["--env", "minigrid-sec", "did you mean 'minigrid-seq'"]),
    "unknown agent": (["--agent", "pppo"], ["--agent", "pppo", "did you mean 'ppo'"]),
    "unknown reg": (["--reg", "spectal"], ["--reg", "spectal", "l2-init", "did you mean 'spectral'"]),
    "unknown part of reg": (["--reg", "l2+spectal"], ["--reg", "'spectal'", "l2-init", "did you mean 'spectral'"]),
    "empty part of reg": (["--reg", "spectral+"], ["--reg", "''", "l2-init"]),
    "part of reg named twice": (["--reg", "l2+spectral+l2"], ["--reg", "'l2' is named twice", "'l2+spectral+l2'"]),
    "setting of a part": (
        ["--reg", "l2+spectral", "--reg.methods.spectral.strenth", "1"],
        ["reg.methods.spectral.strenth", "did you mean 'strength'"],
    ),
    "setting of an unknown part": (
        ["--reg", "l2+spectral", "--reg.methods.spectal.strength", "1"],
        ["--reg.methods", "'spectal'", "did you mean 'spectral'"],
    ),
    "setting beside parts": (["--reg", "l2+spectral", "--reg.strength", "1"], ["beside methods", "strength"]),
    "unknown option": (["--sed", "1"], ["--sed", "did you mean '--seed'"]),
    "unknown setting": (["--reg", "spectral", "--reg.strenth", "1"], ["reg.strenth", "did you mean 'strength'"]),
    "abbreviation": (["--agent.learning_rat", "1"], ["agent.learning_rat", "did you mean 'learning_rate'"]),
    "nested setting": (["--agent.network.hiden", "[8]"], ["agent.network.hiden"]),
    "wrong type": (["--agent.learning_rate", "fast"], ["agent.learning_rate", "valid number", "'fast'"]),
    "negative strength": (["--reg", "spectral", "--reg.strength", "-1"], ["reg.strength", "at least 0", "-1"]),
    "unknown joining": (["--reg", "spectral", "--reg.joins", "x"], ["reg.joins", "after-clipping", "in-loss", "'x'"]),
    "joining of a reset": (["--reg", "redo", "--reg.joins", "in-loss"], ["reg.joins", "tau"]),
    "no YAML": (["--reg", "spectral", "--reg.strength", "[1"], ["--reg.strength", "YAML", "'[1'"]),
    "no such head": (["--reg", "spectral", "--reg.heads", "[foo]"], ["heads", "'foo'", "mlp_extractor.policy_net.0"]),
    "too few steps": (["--num-envs", "1", "--agent.n_steps", "1"], ["n_steps", "greater than 1"]),
    "strength of none": (["--reg.strength", "1"], ["reg", "none", "strength"]),
    "normalized cells": (
        ["--agent.normalize.observation", "true"],
        ["agent.normalize.observation", "real-valued", "7×7×3"],
    ),
    "sac on grids": (["--agent", "sac"], ["sac needs Box actions", "Discrete(7)", "choose dqn or ppo"]),
    "hidden restart": (
        "--env pendulum-gravity --agent sac --env.switches hidden --agent.at_switch.exploration restart".split(),
        ["agent.at_switch.exploration", "'restart'", "hidden"],
    ),
    "zero envs": (["--num-envs", "0"], ["agent.num_envs", "greater than 0", "0"]),
    "no number": (["--seed", "x"], ["--seed", "valid integer", "'x'"]),
    "zero tasks": (["--num-tasks", "0"], ["--num-tasks", "at least 1", "0"]),
    "zero steps": (["--steps-per-task", "0"], ["--steps-per-task", "at least 1", "0"]),
    "half a step": (["--steps-per-task", "1.5"], ["--steps-per-task", "invalid int", "'1.5'"]),
    "half a task": (["--num-tasks", "25e-1"], ["--num-tasks", "invalid int", "'25e-1'"]),
    "half a step to a checkpoint": (["--segment-steps", "1.5"], ["--segment-steps", "valid integer", "1.5"]),
    "no such device": (["--device", "cuda:7"], ["--device", "cuda:7", "cpu"]),
    "no device": (["--device", "toaster"], ["--device", "toaster", "cpu"]),
    "no such file": (["--env", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
}

FILES = {
    "unknown key": (f"{TASK}\ncylces: 2", ["cylces", "did you mean 'cycles'"]),
    "unknown task key": ("tasks: [{env: MiniGrid-Empty-5x5-v0, step: 9}]", ["env.tasks.0.step"]),
    "wrong type": ("tasks: [{env: MiniGrid-Empty-5x5-v0, steps: many}]", ["env.tasks.0.steps", "'many'"]),
    "no tasks": ("tasks: []", ["env.tasks", "at least 1"]),
    "tasks missing": ("cycles: 2", ["env.tasks", "required"]),
    "unknown environment": ("tasks: [{env: MiniGrid-Emty-5x5-v0, steps: 9}]", ["did you mean 'MiniGrid-Empty-5x5-v0'"]),
    "unknown backend": ("tasks: [{env: MiniGrid-Empty-5x5-v0, steps: 9, backend: none}]", ["backend", "'none'"]),
    "wrong kwargs": ("tasks: [{env: MiniGrid-Empty-5x5-v0, steps: 9, kwargs: {sise: 5}}]", ["cannot be made", "sise"]),
    "unknown shift": (
        "tasks: [{env: MiniGrid-Empty-5x5-v0, steps: 9, shifts: [permute-observations]}]",
        ["shift", "did you mean 'permute-observation'"],
    ),
    "not a mapping": ("- 1", ["mapping"]),
    "not YAML": ("{", ["not valid YAML"]),
}


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which the program refuses ``argv``."""
    try:
        code: object = continual_rl.main(argv)
    except SystemExit as error:
        code = error.code
    assert code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(("argv", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_command_line(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = refused(argv, capsys)
    assert all(part in message for part in said), message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "said"), FILES.values(), ids=FILES.keys())
def test_wrong_file(text, said, tmp_path, capsys):
    file = write(tmp_path / "mine.yaml", text)
    message = refused(["--env", file, "--out", str(tmp_path / "runs")], capsys)
    assert all(part in message for part in said), message
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_out_that_cannot_be_written(tmp_path, capsys):
    """A file where the folder should be: unlike a permission, root cannot pass it."""
    write(tmp_path / "runs", "")
    assert "cannot be written" in refused(["--out", str(tmp_path / "runs")], capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_without_permission(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert "cannot be written" in refused(["--out", str(tmp_path / "runs")], capsys)


def test_python_without_the_dependencies(tmp_path):
    """-S leaves site-packages out, as a system's Python would be."""
    result = subprocess.run(
        [sys.executable, "-S", "-E", str(PROGRAM)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 2
    assert "make install" in result.stderr
    assert "Traceback" not in result.stderr


def test_print_config_is_complete_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert continual_rl.main(["--print-config", "--reg", "spectral", "--reg.strength", "3e-4", "--seed", "5"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["reg"] == {
        "method": "spectral",
        "heads": "exempt",
        "strength": 3e-4,
        "joins": "after-clipping",
        "k": 2,
        "target": 1,
    }
    assert shown["seed"] == 5
    assert shown["agent"]["network"]["hidden"]
    assert len(shown["env"]["tasks"]) >= 6
    assert not list(tmp_path.iterdir())


def test_counts_with_an_exponent(capsys):
    argv = "--print-config --steps-per-task 2.5e3 --num-tasks 1e1 --segment-steps 1e5 --num-envs 1e1 --seed 1e1".split()
    assert continual_rl.main(argv) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    counts = [shown["env"]["tasks"][0]["steps"], shown["env"]["num_tasks"], shown["segment_steps"], shown["seed"]]
    assert [*counts, shown["agent"]["num_envs"]] == [2500, 10, 100_000, 10, 10]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"method": "spectral", "strength": 1e-3}),
        (["--reg.critic.strength", "0"], {"actor": {"strength": 1e-3}, "critic": {"strength": 0}}),
        (["--reg.critic.strength=0"], {"actor": {"strength": 1e-3}, "critic": {"strength": 0}}),
        (["--reg.critic", "null"], {"actor": {"strength": 1e-3}, "critic": {"method": "none"}}),
    ],
)
def test_roles(options, expected, capsys):
    assert continual_rl.main(["--print-config", "--reg", "spectral", *options]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["reg"]
    flat = {f"{k}.{k2}": v2 for k, v in shown.items() if isinstance(v, dict) for k2, v2 in v.items()} | shown
    for key, value in expected.items():
        for inner, wanted in value.items() if isinstance(value, dict) else [("", value)]:
            assert flat[f"{key}.{inner}".strip(".")] == wanted


def test_methods_joined_by_plus(tmp_path, capsys):
    """In the order given, presets and files, each with its own settings, under a label that tells them apart."""
    mine = write(tmp_path / "mine.yaml", "{method: l2, strength: 0.25}")
    reg = ["--reg", f"spectral+{mine}+none+l2-init", "--reg.methods.l2-init.strength", "0.5"]
    assert continual_rl.main(["--print-config", *reg]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["reg"]["methods"]
    assert [(part["method"], part["strength"]) for part in shown] == [
        ("spectral", 1e-3),
        ("l2", 0.25),
        ("l2-init", 0.5),
    ]
    experiment, _ = parse(reg, "")
    assert isinstance(experiment.reg, Compose)
    assert experiment.folder.parent.name == "ppo-spectral+mine+none+l2-init,methods.l2-init.strength=0.5"


def test_methods_joined_by_plus_have_roles(capsys):
    assert continual_rl.main(["--print-config", "--reg", "spectral+l2", "--reg.critic", "null"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["reg"]
    assert [part["method"] for part in shown["actor"]["methods"]] == ["spectral", "l2"]
    assert shown["critic"] == {"method": "none"}


def test_file_with_a_plus_in_its_name(tmp_path):
    experiment, _ = parse(["--reg", write(tmp_path / "l2+more.yaml", "{method: l2}")], "")
    assert isinstance(experiment.reg, L2)
    assert experiment.labels["reg"] == "l2+more"


def test_help_lists_the_settings_of_all_parts(capsys):
    with pytest.raises(SystemExit):
        continual_rl.main(["--reg", "spectral+l2-init", "--help"])
    text = capsys.readouterr().out
    for option in ("--reg.methods.spectral.k", "--reg.methods.l2-init.strength"):
        assert option in text


def test_help_lists_the_settings_of_what_is_chosen(capsys):
    with pytest.raises(SystemExit) as stop:
        continual_rl.main(["--reg", "l2-init", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--env", "--reg.strength", "--agent.learning_rate", "--num-envs", "minigrid-permute"):
        assert option in text
    assert "--reg.k" not in text


@pytest.mark.parametrize(
    ("options", "steps"), [("", 5000), ("--segment-steps 7e3", 7000), ("--env.segment_steps 3000", 3000)]
)
def test_a_sequence_can_say_how_long_segments_are(options, steps, tmp_path):
    file = tmp_path / "slow.yaml"
    file.write_text("segment_steps: 5000\ntasks: [{env: CartPole-v1, steps: 20000}]\n")
    experiment = parse(["--env", str(file), *options.split()], "")[0]
    assert max(segment.steps for segment in experiment.segments) <= steps
    assert experiment.plain["segment_steps"] == steps
    file.write_text(file.read_text().replace("segment_steps: 5000\n", ""))
    same = parse(["--env", str(file), *options.split(), f"--segment-steps={steps}"], "")[0]
    assert {**experiment.plain, "labels": 0} == {**same.plain, "labels": 0}
