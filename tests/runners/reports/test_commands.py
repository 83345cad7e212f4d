"""The command that a report has for a run makes that run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from neoteny.runners import sweep
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.program import REINFORCEMENT, Program
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.reports.settings import command
from neoteny.runners.reports.sources import Run

AGENTS = """--env cartpole-rotate --agent ppo-trac --reg spectral+l2 --agent.learning_rate 0.02
    --agent.network.hidden '[8, 8]'
    --reg.methods.l2.strength 3e-5 --num-tasks 3 --steps-per-task 512 --seed 3"""
FRESH = "--env minigrid-seq --agent ppo --fresh --evaluate-all"
NETWORKS = """--data digits --data.samples 32 --change random-labels --change.share 0.5 --net mlp --net.hidden '[8]'
    --reg spectral --reg.strength 0.02 --epochs 2 --tasks-seed 4 --num-tasks 2 --seed 0"""


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (AGENTS, REINFORCEMENT),
        (FRESH, REINFORCEMENT),
        (NETWORKS, SUPERVISED),
    ],
    ids=["agents", "fresh", "networks"],
)
def test_a_run_is_made_again(words: str, program: Program) -> None:
    wanted, _ = parse(shlex.split(words), program=program)
    run = Run("a-method", wanted.run.seed, Path(), settings=json.loads(json.dumps(wanted.plain)))
    python, file, *argv = shlex.split(command([run]))
    assert (python, file) == ("python", "runners/sweep.py")
    options, rest = sweep.make_parser("sweep.py").parse_known_args(argv)
    (planned,) = sweep.plan(options, rest, "sweep.py").runs
    assert planned.experiment.plain == wanted.plain
