"""The command that a report has for a run makes that run, or there is none."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from neoteny.runners import sweep
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.base import AnyExperiment
from neoteny.runners.experiments.program import REINFORCEMENT
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.reports.settings import command
from neoteny.runners.reports.sources import Run

RUNS = {
    "agents": """--env cartpole-rotate --agent ppo-trac --reg spectral+l2 --agent.learning_rate 0.02
        --agent.network.hidden '[8, 8]' --reg.methods.l2.strength 3e-5 --num-tasks 3 --steps-per-task 512 --seed 3""",
    "fresh": "--env minigrid-seq --agent ppo --fresh --evaluate-all",
    "nulls": "--env minigrid-seq --agent.target_kl null --reg spectral --reg.critic null --segment-steps 50000",
    "slow": "--env atari-seq-small --agent ppo-atari --threads 2 --precision high",
    "networks": """--data digits --data.samples 32 --change random-labels --change.share 0.5 --net mlp
        --net.hidden '[8]' --reg spectral --reg.strength 0.02 --epochs 2 --tasks-seed 4 --num-tasks 2 --seed 0
        --data.test_samples null""",
}


def run_of(words: str) -> tuple[AnyExperiment, Run]:
    experiment, _ = parse(shlex.split(words), program=SUPERVISED if "--data" in words else REINFORCEMENT)
    plain = json.loads(json.dumps(experiment.plain))
    return experiment, Run("a-method", experiment.run.seed, Path(), settings=plain)


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_a_run_is_made_again(words: str) -> None:
    wanted, run = run_of(words)
    python, file, *argv = shlex.split(command([run]))
    assert (python, file) == ("python", "runners/sweep.py")
    options, rest = sweep.make_parser("sweep.py").parse_known_args(argv)
    (planned,) = sweep.plan(options, rest, "sweep.py").runs
    assert planned.experiment.plain == wanted.plain


def test_what_was_given_by_path_has_no_command(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("tasks: [{env: CartPole-v1, steps: 512}]")
    assert command([run_of(f"--env {own}")[1]]) == ""
