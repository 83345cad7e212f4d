"""Training loops of many kinds, each with a place for a term of the loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from method_zoo import make
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity import Penalty

INPUTS, TARGETS = (torch.randn(32, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 2))
#: Far below the norms of the gradients, and far above.
NORMS = {"clipped": 0.05, "not clipped": 1e9}


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2)).double()


def adam(net: nn.Module) -> Optimizer:
    return torch.optim.Adam(net.parameters(), lr=0.01)


def loss_of(net: nn.Module, part: slice = slice(None)) -> Tensor:
    return (net(INPUTS[part]) - TARGETS[part]).square().sum() / len(INPUTS)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def in_loss(name: str = "spectral", **settings: Any) -> Any:
    return make(name, joins="in-loss", heads="include", strength=0.3, **settings)


class Term:
    """λ·R(θ) as a term of the loss. Its penalty acts on the network, but only its value and its state are used."""

    def __init__(self, net: nn.Module, name: str = "spectral"):
        self.penalty: Any = make(name, heads="include", strength=0.3)
        self.penalty.attach(net, adam(net)).remove()

    def __call__(self) -> Tensor:
        parameters = [p for layer in self.penalty.layers for p in (layer.weight, layer.bias)]
        before = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        self.penalty.add_grad_()  # tracked state moves on
        for p, gradient in zip(parameters, before, strict=True):
            p.grad = gradient
        return self.penalty.strength * self.penalty.value()


def clip(net: nn.Module, norm: float) -> None:
    nn.utils.clip_grad_norm_(net.parameters(), norm)


# Loops: each gets a network, its optimizer, a clipping norm, and a term of the loss or nothing ----------------------


def plain(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    for _ in range(5):
        optimizer.zero_grad()
        (loss_of(net) + term()).backward()
        clip(net, norm)
        optimizer.step()


def zero_after(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    for _ in range(5):
        (loss_of(net) + term()).backward()
        clip(net, norm)
        optimizer.step()
        optimizer.zero_grad()


def zero_twice(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(net) + term()
        optimizer.zero_grad()
        loss.backward()
        clip(net, norm)
        optimizer.step()
        optimizer.zero_grad()


def zero_in_place(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    for _ in range(5):
        optimizer.zero_grad(set_to_none=False)
        (loss_of(net) + term()).backward()
        clip(net, norm)
        optimizer.step()


def several_passes(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    for _ in range(5):
        optimizer.zero_grad()
        for i in range(4):
            (loss_of(net, slice(8 * i, 8 * i + 8)) + (term() if i == 0 else 0)).backward()
        clip(net, norm)
        optimizer.step()


def another_loss_between(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    """As in SAC, whose actor's loss reaches the critic."""
    for _ in range(5):
        optimizer.zero_grad()
        (loss_of(net) + term()).backward()
        clip(net, norm)
        optimizer.step()
        net(INPUTS).mean().backward()


def gradients_of_gradients(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    for _ in range(5):
        optimizer.zero_grad()
        first = torch.autograd.grad(loss_of(net), list(net.parameters()), create_graph=True)
        (loss_of(net) + sum(g.square().sum() for g in first) + term()).backward()
        clip(net, norm)
        optimizer.step()


def part_without_a_gradient(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    assert isinstance(net, nn.Sequential)
    for _ in range(5):
        optimizer.zero_grad()
        (net[:2](INPUTS).square().mean() + term()).backward()
        clip(net, norm)
        optimizer.step()


def closure(net: nn.Module, optimizer: Optimizer, norm: float, term: Any) -> None:
    def compute() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(net) + term()
        loss.backward()
        clip(net, norm)
        return loss

    for _ in range(3):
        optimizer.step(compute)


LOOPS = {
    loop.__name__: loop
    for loop in (
        plain,
        zero_after,
        zero_twice,
        zero_in_place,
        several_passes,
        another_loss_between,
        gradients_of_gradients,
        part_without_a_gradient,
        closure,
    )
}


@dataclass(kw_only=True, eq=False)
class Counting(Penalty):
    """‖W‖⁴ by autograd, and how often it was added."""

    name: ClassVar[str] = "counting"
    added: int = field(default=0, init=False)

    def value(self) -> Tensor:
        return torch.stack([(layer.weight**4).sum() for layer in self.layers]).sum()

    def add_grad_(self) -> None:
        self.added += 1
        super().add_grad_()
