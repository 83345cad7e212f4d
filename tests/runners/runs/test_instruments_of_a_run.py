"""Instruments in whole runs: what is logged, when, and that it changes nothing."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from thinning import some

from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.measures import GROUPS, looks_per_task, schedule
from neoteny.runners.measures.groups import COLUMNS

ROOT = Path(__file__).parents[3]
SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 2048}
  - {env: CartPole-v1, steps: 2048, shifts: [{shift: dynamics, set: {length: 1.0}}]}
"""
PPO = ["--agent", "ppo", "--num-envs", "8", "--agent.n_steps", "32", "--agent.network.hidden", "[16, 16]"]
DQN = ["--agent", "dqn", "--num-envs", "4", "--agent.network.hidden", "[16]", "--agent.learning_starts", "100"]


@pytest.fixture
def run(tmp_path):
    """Runs the command line; its folder."""
    env = tmp_path / "poles.yaml"
    env.write_text(SEQUENCE)

    def go(out: str, *argv: str) -> Path:
        arguments = ["--env", str(env), "--out", str(tmp_path / out), *argv]
        assert continual_rl.main(arguments) == 0
        return parse(arguments, "")[0].folder

    return go


def rows(folder: Path, file: str) -> list[dict[str, str]]:
    """A table without the columns that tell the time."""
    with (folder / file).open(newline="") as lines:
        table = list(csv.DictReader(lines))
    return [{k: v for k, v in row.items() if "second" not in k and not k.startswith("time/")} for row in table]


def measured(row: dict[str, str]) -> set[str]:
    """The keys of instruments that a row of progress.csv has a value for."""
    return {key for key, value in row.items() if value and key.partition("/")[0] in GROUPS}


@pytest.mark.parametrize("agent", [PPO, pytest.param(DQN, marks=pytest.mark.full)], ids=["ppo", "dqn"])
def test_a_run_without_instruments_learns_the_same(run, agent):
    on, off = run("on", *agent), run("off", *agent, "--instruments", "none")
    one, other = (load_file(max(folder.glob("checkpoints/*.safetensors"))) for folder in (on, off))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    for file in ("tasks.csv", "progress.csv"):
        with_them, without = rows(on, file), rows(off, file)
        common = without[0].keys()
        assert common < with_them[0].keys()
        assert [{k: row[k] for k in common} for row in with_them] == without
        more = with_them[0].keys() - common
        assert all(key.partition("/")[0] in GROUPS or key in COLUMNS or key.startswith("switch_") for key in more)


@pytest.mark.parametrize("agent", some({"ppo": PPO, "dqn": DQN}, "ppo"))
def test_what_is_logged_of_each_task(run, agent):
    folder = run("runs", *agent)
    tasks, progress = rows(folder, "tasks.csv"), rows(folder, "progress.csv")
    assert progress == rows(run("again", *agent), "progress.csv")
    for row in tasks:
        assert all(row[column] for column in COLUMNS)
        assert row["switch_value_error"]
        end = next(line for line in progress[::-1] if line["step"] == row["step"])
        assert float(row["policy_entropy"]) == float(end["policy/entropy"])
        norms = [float(end[key]) for key in end if key.startswith("spectral_norm/")]
        assert float(row["spectral_norm_max"]) == max(norms)
    firsts = [line for line in progress if line["switch/entropy"]]
    first = 256 if agent is PPO else 1024
    assert [int(line["step"]) for line in firsts] == [-(-first // 1024) * 1024, 2048 + -(-first // 1024) * 1024]
    assert [float(line["switch/entropy"]) for line in firsts] == [float(row["switch_entropy"]) for row in tasks]
    tags = set(EventAccumulator(str(folder)).Reload().Tags()["scalars"])
    assert {"switch/value_error", "value/churn", "gradient_diversity/critic", "condition_number/value_net"} & tags


def test_first_improvement_is_in_environment_steps(run):
    """With 8 environments a multiple of 8, later than the first rollout, and no later than the task's end."""
    folder = run("runs", *PPO)
    found = [int(row["switch_first_improvement"]) for row in rows(folder, "tasks.csv")]
    assert all(256 < steps <= 2048 and steps % 8 == 0 for steps in found)


def test_instruments_may_be_others_when_a_run_goes_on(run, capsys):
    folder = run("runs", *PPO)
    assert run("runs", *PPO, "--instruments", "spectra") == folder
    with pytest.raises(SystemExit) as stop:
        run("runs", *PPO, "--instruments", "spektra")
    assert stop.value.code == 2
    assert "--instruments: 'spektra' is not known; choose from" in (error := capsys.readouterr().err)
    assert "did you mean 'spectra'?" in error
    with pytest.raises(SystemExit):
        run("runs", *PPO, "--instruments", "none", "units")
    assert "--instruments: none: it cannot stand beside others, got none units" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "looks"),
    some({"short": (2048, 2), "ten": (10240, 10), "odd": (15360, 8), "long": (40960, 10)}, "short", "odd"),
)
def test_looks_are_spread_over_a_task_and_its_end_is_one(run, monkeypatch, steps, looks):
    """With looks that cost nothing, of 2, 10, 15 and 40 stretches of 1,024 steps."""
    monkeypatch.setattr(schedule, "LOOK", 0.0)
    monkeypatch.setattr(schedule, "LOOK_SPEED", 1e30)
    folder = run("runs", *PPO, "--steps-per-task", str(steps), "--num-tasks", "1", "--agent.n_epochs", "1")
    progress = rows(folder, "progress.csv")
    seen = [int(row["step"]) for row in progress if "spectral_norm/value_net" in measured(row)]
    assert len(seen) == looks
    assert seen[-1] == steps


def test_looks_follow_from_the_work(run, monkeypatch):
    experiment, _ = parse(["--env", "cartpole-dynamics", *PPO])
    with_env = experiment.make_env()
    agent = experiment.make_agent(with_env, 0)
    looks = [looks_per_task(agent, steps, experiment.rollout) for steps in (1, 10_000, 100_000, 10**9)]
    assert looks == sorted(looks)
    assert looks[0] == 1
    assert looks[-1] == schedule.LOOKS_PER_TASK
    monkeypatch.setattr(schedule, "LOOK", 1e9)
    assert looks_per_task(agent, 10**9, experiment.rollout) == 1


def test_examples_of_the_page_run(capsys):
    """Those that need torch only; of the others, which are about runs, what they import is there."""
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/instruments.md").read_text(), re.DOTALL):
        if not code.startswith("import torch"):
            code = "\n".join(re.findall(r"^(?:from|import) .*", code, re.MULTILINE))
        exec(compile(code, "instruments.md", "exec"), {})
    assert re.match(r"\d+\.\d+\n\d+\.\d+ tensor\(", capsys.readouterr().out)


def test_docs_list_every_key(run):
    text = (ROOT / "docs/instruments.md").read_text().partition("## Metrics")[2]
    listed = set(re.findall(r"^\|[^|]*\| `(\w+)/", text, re.MULTILINE))
    assert listed == GROUPS.keys()
    keys = set(re.findall(r"`((?:policy|value|switch)/\w+)`", text))
    for agent in (PPO, DQN):
        found = {key for row in rows(run(agent[1], *agent), "progress.csv") for key in measured(row)}
        assert {key for key in found if key.partition("/")[0] in ("policy", "value", "switch")} <= keys
    columns = {f"switch_{key.removeprefix('switch/')}" for key in keys if key.startswith("switch/")}
    assert {*COLUMNS, "switch_entropy"} <= set(re.findall(r"`(\w+)`", text))
    assert {key for key in rows(run("ppo", *PPO), "tasks.csv")[0] if key.startswith("switch_")} <= columns
