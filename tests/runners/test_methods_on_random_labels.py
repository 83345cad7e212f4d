"""What each method is good for in a short test of plasticity: ten times random labels of 64 digits.

At this learning rate a network without a method learns the first tasks by heart and the last ones hardly. The bounds of
methods that help are far above that: switched off or broken, they fail. Those of others say that they do not help here,
at these settings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from thinning import some

from neoteny import configs
from neoteny.agents.supervised import Examples, Learner
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.supervised import SUPERVISED, SupervisedExperiment

SMALL = "--data.samples 64 --num-tasks 10 --epochs 40 --net.learning_rate 1e-2 --net.hidden [32,32] --net.batch_size 16"
#: What a network without a method does not reach in the last three tasks.
LITTLE = 0.45


class Bounds(NamedTuple):
    """Of accuracies at the ends of tasks.

    Attributes:
        low, high: of the mean over the last three.
        first: at least so much in the first.
        options: on the command line.
    """

    low: float
    high: float = 1.0
    first: float = 0.95
    options: str = ""


HELPS, LITTLE_HELP = Bounds(0.9), Bounds(0.0, LITTLE)
METHODS = {
    "none": LITTLE_HELP,
    "spectral": Bounds(0.95, options="--reg.strength 1e-2"),
    "spectral-heads": HELPS,
    "spectral-target2": Bounds(0.55),
    "spectral-spectrum": Bounds(0.9, options="--reg.strength 1e-2"),
    "l2": Bounds(0.5, 0.95, options="--reg.strength 1e-2"),
    "l2-init": Bounds(0.95, options="--reg.strength 1e-2"),
    "wasserstein": Bounds(0.5, options="--reg.strength 1e-2"),
    "parseval": HELPS,
    "spectral-norm": Bounds(0.65, 0.95, first=0.6),
    "normalize-and-project": Bounds(0.8),
    "weight-clipping": LITTLE_HELP,
    "redo": Bounds(0.0, options="--reg.every 100"),  # from seed to seed anything
    "continual-backprop": LITTLE_HELP,
    "self-normalized-resets": LITTLE_HELP,
    "layer-reset": HELPS,
    "shrink-and-perturb": HELPS,
    "plasticity-injection": HELPS,
    "layer-norm": HELPS,
    "crelu": HELPS,
    "fourier": HELPS,
    "trac": Bounds(0.0, first=0.0),  # from seed to seed anything
    "upgd": LITTLE_HELP,
    "muon": HELPS,
    "adam-equal-betas": LITTLE_HELP,
}


def accuracies(reg: str, options: str = "", fresh: bool = False) -> list[float]:
    """At the end of each task."""
    experiment = parse([*SMALL.split(), "--reg", reg, *options.split()], program=SUPERVISED)[0]
    assert isinstance(experiment, SupervisedExperiment)
    found = []
    learner: Learner | None = None
    for visit in experiment.sequence.visits:
        data = experiment.sequence.task(visit.index)
        examples = Examples(torch.from_numpy(data.x), torch.from_numpy(data.y))
        if learner is None or fresh:
            learner = experiment.make_learner(visit.index)
        else:
            learner.on_switch()
        for number in range(experiment.sequence.epochs):
            order = np.random.default_rng([visit.index, number]).permutation(len(examples))
            learner.learn(examples, torch.from_numpy(order))
        found.append(float(learner.look(examples).scores.mean()))
    return found


@pytest.mark.parametrize(
    ("reg", "bounds"),
    some({reg: (reg, bounds) for reg, bounds in METHODS.items()}, "none", "spectral", "l2-init", "layer-norm"),
)
def test_accuracy_on_the_last_tasks(reg: str, bounds: Bounds) -> None:
    found = accuracies(reg, bounds.options)
    assert found[0] >= bounds.first
    assert bounds.low <= np.mean(found[-3:]) <= bounds.high, found


def test_fresh_networks_learn_every_task() -> None:
    assert min(accuracies("none", fresh=True)) >= 0.98


@pytest.mark.parametrize("reg", some(["spectral", "shrink-and-perturb", "layer-norm"], "shrink-and-perturb"))
def test_methods_that_are_switched_off_do_not_help(reg: str) -> None:
    off = {
        "spectral": "--reg.strength 0",
        "shrink-and-perturb": "--reg.at_switch false --reg.every 1000000",
        "layer-norm": "--net.layer_norm false",
    }
    assert np.mean(accuracies(reg, off[reg])[-3:]) <= LITTLE < METHODS[reg].low


def test_every_method_has_bounds() -> None:
    assert {*METHODS} == {*configs.names("regs")}
