"""The same tasks learned by a loop that is not ours: plain torch, the penalty by autograd of its definition."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from neoteny.runners import continual_supervised
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.supervised import SUPERVISED

SAMPLES, TASKS, EPOCHS, BATCH, RATE, SEED = 128, 3, 10, 32, 1e-3, 7
Penalty = Callable[[nn.Sequential, list[Tensor]], Tensor | float]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Sequential:
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, *second, nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def spectral(network: nn.Sequential, _: list[Tensor]) -> Tensor:
    """0.01 · Σ (σ₁² − 1)² + ‖b‖⁴ of the hidden layers, σ₁ by a singular value decomposition."""
    *hidden, _ = [layer for layer in network if isinstance(layer, nn.Linear | nn.Conv2d)]
    norms = torch.stack([torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in hidden])
    biases = torch.stack([layer.bias.square().sum() for layer in hidden])
    return 1e-2 * ((norms**2 - 1).square() + biases**2).sum()


def l2_init(network: nn.Sequential, first: list[Tensor]) -> Tensor:
    """0.01 · ‖θ − θ₀‖² of all layers."""
    return 1e-2 * torch.stack([(p - q).square().sum() for p, q in zip(network.parameters(), first, strict=True)]).sum()


PENALTIES: dict[str, tuple[Penalty, list[str]]] = {
    "none": (lambda *_: 0.0, []),
    "spectral": (spectral, ["--reg.strength", "1e-2"]),
    "l2-init": (l2_init, ["--reg.strength", "1e-2", "--reg.heads", "include"]),
}


NETS: dict[str, Callable[[], nn.Sequential]] = {"mlp": mlp, "cnn": cnn}


def independent(net: str, penalty: Penalty) -> list[tuple[float, float]]:
    """The accuracy at the end of each task, and the loss in the last pass through its examples."""
    digits = load_digits()
    train = np.arange(len(digits.target)) % 5 != 4
    pictures = digits.images[train].astype(np.float32)
    chosen = np.sort(np.random.default_rng([0, 0]).permutation(len(pictures))[:SAMPLES])
    x = torch.tensor((pictures[chosen] - pictures[chosen].mean()) / pictures[chosen].std())[:, None]
    torch.manual_seed(int(np.random.SeedSequence([SEED, 0], spawn_key=(1,)).generate_state(1)[0]))
    network = NETS[net]()
    first = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    found = []
    for task in range(TASKS):
        draws = np.random.default_rng([0, task, 1])
        y = digits.target[train][chosen].copy()
        places = draws.permutation(SAMPLES)
        y[places] = draws.integers(10, size=SAMPLES)
        labels = torch.tensor(y)
        for epoch in range(EPOCHS):
            losses = []
            drawn = np.random.default_rng(np.random.SeedSequence([SEED, task, epoch], spawn_key=(2,)))
            order = torch.tensor(drawn.permutation(SAMPLES))
            for batch in order.split(BATCH):
                loss = functional.cross_entropy(network(x[batch]), labels[batch])
                optimizer.zero_grad()
                (loss + penalty(network, first)).backward()
                losses.append(loss.item())
                optimizer.step()
        found.append((float((network(x).argmax(1) == labels).float().mean()), float(np.mean(losses))))
    return found


@pytest.mark.parametrize("reg", PENALTIES)
@pytest.mark.parametrize("net", NETS)
def test_accuracies_are_those_of_a_loop_that_is_not_ours(net: str, reg: str, tmp_path: Path) -> None:
    penalty, settings = PENALTIES[reg]
    sizes = [
        "--net",
        net,
        "--net.learning_rate",
        str(RATE),
        "--data.samples",
        str(SAMPLES),
        "--num-tasks",
        str(TASKS),
        "--epochs",
        str(EPOCHS),
        "--seed",
        str(SEED),
    ]
    argv = [*sizes, "--reg", reg, *settings, "--instruments", "none", "--out", str(tmp_path)]
    assert continual_supervised.main(argv) == 0
    with (parse(argv, program=SUPERVISED)[0].folder / "tasks.csv").open(newline="") as lines:
        ours = [(float(row["accuracy_final"]), float(row["loss_final"])) for row in csv.DictReader(lines)]
    theirs = independent(net, penalty)
    assert [accuracy for accuracy, _ in ours] == [accuracy for accuracy, _ in theirs]
    near = 3e-4 if reg == "spectral" else 1e-4  # σ₁ is an estimate
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], rel=near)
    without = independent(net, PENALTIES["none"][0])
    assert reg == "none" or abs(ours[-1][1] - without[-1][1]) > 1e-3  # so that a penalty that does nothing is found
