"""Attribution names what was damaged on purpose. ``make attribution`` does it at length, and prints the tables."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
import torch

from neoteny.runners import attribute, continual_rl
from neoteny.runners.attribution import named, read
from neoteny.runners.attribution.shares import Attribution
from neoteny.runners.experiments import parse
from neoteny.runners.runs import load_run

pytestmark = pytest.mark.slow

#: How many agents are damaged in each way; at length, all parts are asked about.
AGENTS = int(os.environ.get("ATTRIBUTION", "0"))
PARTS = ("actor-head", "critic-head", "actor-torso", "critic-torso", "optimizer")

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: STEPS, shifts: [{shift: rotate-observation, scales: [2.4, 3, 0.21, 3]}]}
  - {env: CartPole-v1, steps: 6144, shifts: [{shift: rotate-observation, scales: [2.4, 3, 0.21, 3]}]}
"""
#: Learns a task in 6000 steps, in a second.
AGENT = (
    "--agent ppo --num-envs 8 --agent.n_steps 32 --agent.batch_size 128 --agent.n_epochs 20 --agent.target_kl null "
    "--agent.learning_rate 5e-3 --agent.gamma 0.98 --agent.gae_lambda 0.8 --agent.network.activation relu"
).split()


def make_deterministic(agent):
    """One action, whatever is seen."""
    agent.policy.action_net.weight.zero_()
    agent.policy.action_net.bias.copy_(torch.tensor([50.0, 0.0]))


def shift_values(agent):
    agent.policy.value_net.bias.sub_(1000)


def kill_units(agent):
    """Every unit of the actor's last hidden layer is silent."""
    agent.policy.mlp_extractor.policy_net[2].bias.fill_(-100)


def enlarge_second_moments(agent):
    for state in agent.policy.optimizer.state.values():
        state["exp_avg_sq"].mul_(1e6)


DAMAGES = {
    "actor-head": make_deterministic,
    "critic-head": shift_values,
    "actor-torso": kill_units,
    "optimizer": enlarge_second_moments,
}


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """The folder of a run that has learned its first task for so many steps, and has a second."""
    folder = tmp_path_factory.mktemp("runs")

    def make(seed: int, steps: int) -> Path:
        (folder / "rotate.yaml").write_text(SEQUENCE.replace("STEPS", str(steps)))
        argv = ["--env", str(folder / "rotate.yaml"), *AGENT, "--seed", str(seed), "--out", str(folder / str(steps))]
        assert continual_rl.main([*argv, "--keep-agents"]) == 0
        return parse(argv, "")[0].folder

    return make


def study(run: Path, task: int, seeds: int, parts: tuple[str, ...]) -> Attribution:
    """What the program finds."""
    argv = [str(run), "--task", str(task), "--seeds", str(seeds), "--jobs", "1", "--only", *parts]
    assert attribute.main(argv) == 0
    with (run / f"attribution/task-{task:04d}/trials.csv").open(newline="") as lines:
        return read(list(csv.DictReader(lines)))[2]


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(AGENTS or 1))
@pytest.mark.parametrize("part", DAMAGES if AGENTS else ("actor-head",))
def test_the_damaged_part_is_named(part, seed, make_run, tmp_path):
    run = shutil.copytree(make_run(seed, 256), tmp_path / "run")
    agent = load_run(run, 1).agent
    with torch.no_grad():
        DAMAGES[part](agent)
    agent.save(run / "agents/task-0001.safetensors")
    others, trials = (PARTS, 4) if AGENTS else ((part, PARTS[PARTS.index(part) - 1]), 3)
    assert named(study(run, 2, trials, others))[0] == part


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(AGENTS or 1))
def test_an_undamaged_agent_has_no_loss_in_its_first_task(seed, make_run):
    found = study(make_run(seed, 6144), 1, 4, PARTS if AGENTS else PARTS[:2])
    assert found.areas["everything"].middle > 60  # it has learned, by three times what chance gives
    assert found.shares == {}
