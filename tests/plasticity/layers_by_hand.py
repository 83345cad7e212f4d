"""Layers with weights to work numbers out by hand from, and an update of any network."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

DOUBLE = torch.float64


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None, dtype=DOUBLE)
    layer.weight.data.copy_(torch.tensor(weight))
    if bias is not None:
        layer.bias.data.copy_(torch.tensor(bias))
    return layer


def adam(module: nn.Module, **settings: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=1e-2, **settings)


def update(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    optimizer.zero_grad()
    network(inputs).square().mean().backward()
    optimizer.step()


def mlp(*widths: int, last: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *last)


class Parts(nn.Module):
    """Its submodules are its attributes, registered in the order given."""

    def __init__(self, **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
