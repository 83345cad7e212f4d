"""A tiny run, and what it is compared by; for the tests of what befalls its files."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neoteny.runners import continual_rl, continual_supervised
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.program import REINFORCEMENT
from neoteny.runners.experiments.supervised import SUPERVISED

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
#: A network on examples, of which a run has eight segments too.
NETWORK = "--data.samples 32 --num-tasks 4 --epochs 8 --net.hidden [16] --net.batch_size 8 --segment-steps 128".split()
PENDULUM = SEQUENCE.replace("CartPole-v1", "Pendulum-v1")


def command(folder: Path, agent: str = "ppo", *more: str) -> list[str]:
    """The command line of a run of eight segments; of a network on examples, if ``agent`` is ``mlp``."""
    if agent == "mlp":
        return [*NETWORK, "--net", "mlp", "--out", str(folder / "runs"), *more]
    (folder / "tiny.yaml").write_text(PENDULUM if agent == "sac" else SEQUENCE)
    settings = ["--agent", agent, *AGENTS[agent], *SMALL, "--out", str(folder / "runs")]
    return ["--env", str(folder / "tiny.yaml"), *settings, *more]


def of(folder: Path, agent: str = "ppo", *more: str) -> Path:
    """The run's own folder."""
    program = SUPERVISED if agent == "mlp" else REINFORCEMENT
    path: Path = parse(command(folder, agent, *more), program=program)[0].folder
    return path


def program(argv: list[str]) -> Path:
    """The file of the program that a command line is for."""
    return Path(continual_supervised.__file__) if "--net" in argv else PROGRAM


def main(argv: list[str]) -> int:
    """Run a command line with the program that it is for."""
    return continual_supervised.main(argv) if "--net" in argv else continual_rl.main(argv)


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
