"""A tiny run, and what it is compared by; for the tests of what befalls its files."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse

PROGRAM = Path(continual_rl.__file__)
SEQUENCE = "tasks: [{env: CartPole-v1, steps: 256}, {env: CartPole-v1, steps: 256}]\ncycles: 2\n"
SMALL = "--num-envs 4 --agent.batch_size 32 --agent.network.hidden [16] --segment-steps 128".split()
ON_POLICY = "--agent.n_steps 16".split()
REPLAY = "--agent.buffer_size 400 --agent.learning_starts 40 --agent.gradient_steps 1 --agent.train_freq 1".split()
AGENTS = {
    "ppo": ON_POLICY,
    "recurrent-ppo": [*ON_POLICY, "--agent.network.lstm_hidden_size", "8"],
    "dqn": REPLAY,
    "sac": REPLAY,
}
PENDULUM = SEQUENCE.replace("CartPole-v1", "Pendulum-v1")


def command(folder: Path, agent: str = "ppo", *more: str) -> list[str]:
    """The command line of a run of eight segments."""
    (folder / "tiny.yaml").write_text(PENDULUM if agent == "sac" else SEQUENCE)
    settings = ["--agent", agent, *AGENTS[agent], *SMALL, "--out", str(folder / "runs")]
    return ["--env", str(folder / "tiny.yaml"), *settings, *more]


def of(folder: Path, agent: str = "ppo", *more: str) -> Path:
    """The run's own folder."""
    return parse(command(folder, agent, *more), "")[0].folder


def equal(one: Path, other: Path) -> bool:
    """Whether two runs have the same tables, but for the time that they took, and the same agent."""

    def rows(folder: Path, name: str) -> list[dict[str, str]]:
        with (folder / name).open(newline="") as lines:
            return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(lines)]

    agents = [load_file(max((folder / "checkpoints").glob("*.safetensors"))) for folder in (one, other)]
    return all(rows(one, name) == rows(other, name) for name in ("tasks.csv", "progress.csv")) and all(
        torch.equal(agents[0][key], agents[1][key]) for key in agents[0].keys() | agents[1].keys()
    )


def scalars(folder: Path) -> dict[str, list[str]]:
    """TensorBoard's, without those that tell the time."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "second" not in tag and not tag.startswith("time/")]
    return {tag: [f"{event.step} {event.value}" for event in events.Scalars(tag)] for tag in tags}
