"""A penalty on the distance between the current and the initial distribution of each layer's weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Computed, Part
from neoteny.plasticity.penalty import Penalty
from neoteny.plasticity.schedule import check_every, due, new_counter
from neoteny.plasticity.survey import Heads


def pair(weight: Tensor, target: Tensor) -> Tensor:
    """The entries of ``target``, reordered like those of ``weight``: its smallest where ``weight`` is smallest.

    This is the reordering nearest to ``weight``, in any norm. O(n log n).
    """
    order = weight.flatten().argsort(stable=True)
    return torch.empty_like(target).flatten().scatter_(0, order, target.flatten().sort().values).view_as(weight)


@dataclass(kw_only=True, eq=False)
class Wasserstein(Penalty):
    """R(θ) = Σ_p Σ_i (p_(i) − p⁰_(i))² over weights and biases p, where p_(i) is the i-th smallest entry.

    p⁰ is p when attached. A tensor's term is n times the squared 2-Wasserstein distance between its n entries and its
    n initial entries. This constrains less than L2-init: single weights are free, only their distribution is pulled to
    the initial one.
    Lewandowski et al., "Directions of Curvature as an Explanation for Loss of Plasticity", 2023 (arXiv 2312.00246),
    and in the first version of "Learning Continually by Spectral Regularization" (arXiv 2406.06811v1).

    ∂R/∂p = 2(p − p⁰ in the order of p). This needs one sort per tensor, which costs more than the update of a wide
    layer. Between two sorts each entry stays paired with the same initial entry. The order changes slowly, and any
    pairing gives an upper bound on R, exact at each sort. The scales and shifts of normalization layers count as
    weights and biases.

    Attributes:
        every: sort at every N-th update. The paper uses 1.
    """

    name: ClassVar[str] = "wasserstein"

    heads: Heads = "include"
    every: int = 1
    _paired: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_every(self.every, least=1)

    def setup(self) -> None:
        self._paired = {
            name: part.value.detach().clone(memory_format=torch.contiguous_format)
            for layer in self.layers
            for name, part in layer.parts.items()
        }

    def _live(self) -> list[tuple[str, Part | Computed]]:
        return [(name, part) for layer in self.layers for name, part in layer.parts.items() if part.live]

    def value(self) -> Tensor:
        live = [(part.value, self._paired[name]) for name, part in self._live()]
        terms = [p.flatten().sort().values - paired.flatten().sort().values for p, paired in live]
        return sum((t.square().sum() for t in terms), torch.zeros(()))

    @torch.no_grad()
    def add_grad_(self) -> None:
        live = self._live()
        if due(self._updates, self.every):
            for name, part in live:
                self._paired[name].copy_(pair(part.value, self._paired[name]))
        if live:
            gradients = [part.grad for _, part in live]
            torch._foreach_add_(gradients, [part.value for _, part in live], alpha=2 * self.strength)
            torch._foreach_add_(gradients, [self._paired[name] for name, _ in live], alpha=-2 * self.strength)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"updates": self._updates, **self._paired}

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}
