"""A small network with whatever methods meet, and training that is the same whoever trains."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from method_zoo import PENALTIES, make, parts
from torch import Tensor, nn

from neoteny.plasticity import METHODS, Method

every_method = pytest.mark.parametrize("name", [*METHODS, "compose"])
every_penalty = pytest.mark.parametrize("name", PENALTIES)


class Network(nn.Module):
    """Two branches; the loss of :func:`train` reaches the first only. Plus a parameter that no layer owns."""

    def __init__(self, seed: int, width: int = 8):
        super().__init__()
        self.first = nn.Sequential(
            nn.Linear(3, width),
            nn.LayerNorm(width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
        )
        self.second = nn.Sequential(
            nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, width), nn.Linear(width, 1)
        )
        self.log_std = nn.Parameter(torch.zeros(2))
        generator = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            p.data.normal_(generator=generator)


def adam(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=1e-2)


def train(network: Network, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Step number i has the same data whoever takes it."""
    for step in steps:
        inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(step)).to(network.log_std.dtype)
        optimizer.zero_grad()
        loss = (network.first(inputs) - inputs[:, :2].square()).square().mean() + network.log_std.exp().sum()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()


def attached(name: str, **settings: Any) -> tuple[Network, torch.optim.Optimizer, Method]:
    network = Network(seed=0)
    optimizer = adam(network)
    method = make(name, **settings)
    method.attach(network, optimizer)
    return network, optimizer, method


def grads(network: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in network.named_parameters()}


def assert_same(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> None:
    """Nothing differs, apart from the parts that plasticity injection keeps beside a network's own."""
    one, other = ({k: t for k, t in of.items() if not re.search(r"\.(added|removed)\.", k)} for of in (one, other))
    assert one.keys() == other.keys()
    different = [k for k, t in one.items() if not (t is other[k] is None or torch.equal(t, other[k]))]
    assert not different


def before_step(method: Method) -> None:
    for part in parts(method):
        part.before_step()


def plain(steps: range = range(5)) -> Network:
    network = Network(seed=0)
    train(network, adam(network), steps)
    return network


@dataclass(kw_only=True, eq=False)
class Recorder(Method):
    name: ClassVar[str] = "recorder"

    events: list[tuple[Any, ...]]
    sign: str = ""

    def setup(self) -> None:
        self.events.append((self.sign + "setup", [layer.name for layer in self.layers]))

    def before_step(self) -> None:
        weight = self.layers[0].weight
        self.events.append((self.sign + "before", weight.item(), weight.grad.item()))

    def after_step(self) -> None:
        self.events.append((self.sign + "after", self.layers[0].weight.item()))

    def on_switch(self) -> None:
        self.events.append((self.sign + "switch",))

    def scalars(self) -> dict[str, Tensor]:
        return {"events": torch.tensor(len(self.events))}
