"""Penalties on the distance of the weights from a fixed point: the origin (L2) or their initial values (L2-init)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Computed, Part
from neoteny.plasticity.penalty import Penalty
from neoteny.plasticity.survey import Heads


@dataclass(kw_only=True, eq=False)
class L2(Penalty):
    """R(θ) = Σ_l ‖W_l‖²_F + ‖b_l‖², over all matrices and their biases; ∂R/∂θ = 2θ.

    The scales and shifts of normalization layers are not penalized: at 0 they would switch their layer off.
    """

    name: ClassVar[str] = "l2"
    acts_on_norms: ClassVar[bool] = False

    heads: Heads = "include"

    def value(self) -> Tensor:
        return sum((p.square().sum() for p in self.trainable()), torch.zeros(()))

    @torch.no_grad()
    def add_grad_(self) -> None:
        if parts := self.live_parts():
            torch._foreach_add_([p.grad for p in parts], [p.value for p in parts], alpha=2 * self.strength)

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}


@dataclass(kw_only=True, eq=False)
class L2Init(Penalty):
    """R(θ) = ‖θ − θ₀‖², θ₀ the weights when attached; ∂R/∂θ = 2(θ − θ₀).

    Kumar, Marklund & Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization",
    2023 (arXiv 2308.11958), equation 1.
    """

    name: ClassVar[str] = "l2-init"

    heads: Heads = "include"
    _initial: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def setup(self) -> None:
        self._initial = {
            name: part.value.detach().clone() for layer in self.layers for name, part in layer.parts.items()
        }

    def _pairs(self) -> tuple[list[Part | Computed], list[Tensor]]:
        """The live parts, and their initial values."""
        live = {name: p for layer in self.layers for name, p in layer.parts.items() if p.live}
        return list(live.values()), [self._initial[name] for name in live]

    def value(self) -> Tensor:
        return sum(((p.value - p0).square().sum() for p, p0 in zip(*self._pairs(), strict=True)), torch.zeros(()))

    @torch.no_grad()
    def add_grad_(self) -> None:
        parts, initial = self._pairs()
        if parts:
            gradients = [p.grad for p in parts]
            ways = torch._foreach_sub([p.value for p in parts], initial)  # first: of small ones nothing is rounded away
            torch._foreach_add_(gradients, ways, alpha=2 * self.strength)

    def state(self) -> dict[str, Tensor]:
        return super().state() | self._initial

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}
