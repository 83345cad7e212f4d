"""Runs of every agent that are killed and started again give the numbers of runs that never were."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from thinning import some

from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.runs.recorder import Recorder

PENDULUM = """
tasks:
  - {env: Pendulum-v1, steps: 256, shifts: [{shift: noise-observation, std: 0.1}]}
  - {env: Pendulum-v1, steps: 256, shifts: [{shift: dynamics, set: {g: {uniform: [4, 9]}}, ramp: 300}]}
"""
CARTPOLE = """
tasks:
  - {env: CartPole-v1, steps: 256, shifts: [{shift: sticky-actions, probability: 0.3}]}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: dynamics, set: {length: 1}, ramp: 200}, permute-observation]}
switches: task-id
order: shuffled
cycles: 2
"""
HIDDEN = CARTPOLE.replace("permute-observation", "{shift: offset-observation, std: 1}").replace("task-id", "hidden")
CARTPOLE = CARTPOLE.replace(", permute-observation", "")

MISSIONS = """
tasks:
  - {env: MiniGrid-GoToDoor-5x5-v0, steps: 256, mission: shown}
  - {env: BabyAI-GoToLocal-v0, steps: 256, mission: shown, backend: gymnasium}
switches: task-id
"""

SMALL = "--agent.network.hidden [16] --agent.batch_size 32 --segment-steps 160".split()
REPLAY = "--agent.buffer_size 400 --agent.learning_starts 40 --agent.gradient_steps 1 --agent.train_freq 1".split()
CASES = {
    "dqn": (CARTPOLE, ["--agent", "dqn", "--num-envs", "4", *REPLAY]),
    "dqn, cleared": (
        CARTPOLE,
        ["--agent", "dqn", "--num-envs", "4", *REPLAY, "--agent.at_switch.replay", "clear", "--agent.double", "true"],
    ),
    "dqn, hidden": (HIDDEN, ["--agent", "dqn", "--num-envs", "4", *REPLAY, "--agent.at_switch.exploration", "keep"]),
    "sac": (PENDULUM, ["--agent", "sac", "--num-envs", "2", *REPLAY, "--agent.at_switch.exploration", "restart"]),
    "sac, normalized": (
        PENDULUM,
        ["--agent", "sac", "--num-envs", "2", *REPLAY, "--agent.normalize.observation", "true"],
    ),
    "ppo, normalized": (
        HIDDEN,
        "--num-envs 4 --agent.n_steps 16 --agent.normalize.observation true --agent.normalize.reward true".split(),
    ),
    "recurrent-ppo": (
        CARTPOLE,
        "--agent recurrent-ppo --num-envs 4 --agent.n_steps 16 --agent.network.lstm_hidden_size 8 "
        "--agent.at_switch.optimizer reset".split(),
    ),
    "ppo, forgetting": (
        CARTPOLE,
        "--num-envs 4 --agent.n_steps 16 --agent.normalize.observation true --agent.at_switch.normalization reset "
        "--agent.at_switch.optimizer reset".split(),
    ),
    "ppo, missions": (MISSIONS, "--num-envs 4 --agent.n_steps 16".split()),
}


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def rows(folder: Path, file: str) -> list[dict[str, str]]:
    with (folder / file).open(newline="") as lines:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(lines)]


@pytest.mark.parametrize(("sequence", "options"), some(CASES, "sac, normalized"))
def test_killed_and_resumed(sequence: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(sequence, ["--reg", "spectral", *options], tmp_path, monkeypatch)


def compare(sequence: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed twice and resumed has the tables and the agent of one that never was."""
    file = tmp_path / "tiny.yaml"
    file.write_text(sequence)

    def command(out: str) -> tuple[list[str], Path]:
        argv = ["--env", str(file), *SMALL, *options, "--out", str(tmp_path / out)]
        return argv, parse(argv, "")[0].folder

    argv, whole = command("whole")
    assert continual_rl.main(argv) == 0
    argv, resumed = command("resumed")
    original = Recorder._on_rollout_end
    for step in (230, 350):
        with monkeypatch.context() as patch:

            def end(self: Recorder, step: int = step) -> None:
                original(self)
                if self.num_timesteps >= step:
                    raise Killed

            patch.setattr(Recorder, "_on_rollout_end", end)
            with pytest.raises(Killed):
                continual_rl.main(argv)
    assert continual_rl.main(argv) == 0
    for table in ("tasks.csv", "progress.csv"):
        assert rows(resumed, table) == rows(whole, table)
    first, second = (max((folder / "checkpoints").glob("*.safetensors")) for folder in (whole, resumed))
    ours, theirs = map(load_file, (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


METHOD = """
from dataclasses import dataclass

from neoteny.plasticity import Method


@dataclass(kw_only=True, eq=False)
class Steady(Method):
    \"\"\"Scales gradients by how they compare with their running mean; less and less.\"\"\"

    name = "steady"

    def setup(self):
        self.count = 0
        self.means = {}

    def before_step(self):
        self.count += 1
        for layer in self.layers:
            norm = layer.weight.grad.norm()
            self.means[layer.name] = self.means.get(layer.name, norm).lerp(norm, 0.1)
            layer.weight.grad.mul_(1 + self.means[layer.name] / (1 + norm) / self.count)

    def scalars(self):
        return {"mean": sum(self.means.values())}
"""


@pytest.mark.full
@pytest.mark.parametrize("case", ["dqn", "sac", "ppo, forgetting"])
def test_a_method_of_ones_own_goes_on_too(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts in a plain number and keeps tensors in a dict, and says nothing of either."""
    sequence, options = CASES[case]
    (tmp_path / "my_steady.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    compare(sequence, ["--reg", "my_steady:Steady", *options], tmp_path, monkeypatch)


def test_fresh_agents_explore_anew_in_every_task_also_where_switches_are_hidden(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(HIDDEN)
    options = ["--agent", "dqn", "--num-envs", "4", *REPLAY, "--agent.exploration_fraction", "1", "--fresh"]
    argv = ["--env", str(file), *SMALL, *options, "--out", str(tmp_path / "runs")]
    assert continual_rl.main(argv) == 0
    rates = [float(row["rollout/exploration_rate"]) for row in rows(parse(argv, "")[0].folder, "progress.csv")]
    assert rates == rates[:2] * 4  # two segments in each of four visits
    assert 1 > rates[0] > rates[1]
