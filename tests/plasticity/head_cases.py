"""Networks with and without a forward, and which of their layers are taken as heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from layers_by_hand import Parts
from torch import Tensor, nn

from neoteny.plasticity import select_layers


def found(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> tuple[set[str], str]:
    """The heads, and the warning, if any."""
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=1.0)
    every = {layer.name for layer in select_layers(module, optimizer, "include")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = {layer.name for layer in select_layers(module, optimizer)}
    assert len(caught) <= 1
    return every - chosen, "".join(str(each.message) for each in caught)


class Wired(Parts):
    """Parts with a forward."""

    def __init__(self, wire: Callable[[Any, Tensor], Any], **parts: nn.Module):
        super().__init__(**parts)
        self.wire = wire

    def forward(self, x: Tensor) -> Any:
        return self.wire(self, x)


Wire = Callable[[Any, Tensor], Any]
Make = Callable[[], dict[str, nn.Module]]


def both(n: Any, x: Tensor) -> Any:
    return n.actor(x), n.critic(x)


def encoded(n: Any, x: Tensor) -> Any:
    h = n.encoder(x)
    return n.actor(h), n.critic(h)


def two_towers(n: Any, x: Tensor) -> Any:
    return n.action_net(n.pi(x)), n.value_net(n.vf(x))


def functional(n: Any, x: Tensor) -> Any:
    h = F.relu(n.fc2(torch.relu(n.fc1(x))))
    return n.mean(h), n.log_std(h).clamp(-20, 2)


def pooled(n: Any, x: Tensor) -> Any:
    h = n.trunk(x)
    return n.policy(h).flatten(1), n.value(h.mean((2, 3)))
