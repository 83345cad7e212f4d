"""Penalties on the distance of the weights from a fixed point: the origin (L2) or their initial values (L2-init)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Heads
from neoteny.plasticity.method import Penalty, gradients_of


@dataclass(kw_only=True, eq=False)
class L2(Penalty):
    """R(θ) = Σ_l ‖W_l‖²_F + ‖b_l‖², over Linear and Conv layers; ∂R/∂θ = 2θ.

    The scales and shifts of normalization layers are not penalized: at 0 they would switch their layer off.
    """

    name: ClassVar[str] = "l2"

    heads: Heads = "include"

    def setup(self) -> None:
        self.layers = [layer for layer in self.layers if not layer.is_norm]

    def value(self) -> Tensor:
        return sum((p.square().sum() for p in self.trainable()), torch.zeros(()))

    @torch.no_grad()
    def add_grad_(self) -> None:
        if parameters := self.trainable():
            torch._foreach_add_(gradients_of(parameters), parameters, alpha=2 * self.strength)

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
        for layer in self.layers:
            self._initial[f"{layer.name}.weight"] = layer.weight.detach().clone()
            if layer.bias is not None:
                self._initial[f"{layer.name}.bias"] = layer.bias.detach().clone()

    def _pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        named = {f"{layer.name}.{kind}": getattr(layer, kind) for layer in self.layers for kind in ("weight", "bias")}
        live = {k: p for k, p in named.items() if p is not None and p.requires_grad}
        return list(live.values()), [self._initial[k] for k in live]

    def value(self) -> Tensor:
        return sum(((p - p0).square().sum() for p, p0 in zip(*self._pairs(), strict=True)), torch.zeros(()))

    @torch.no_grad()
    def add_grad_(self) -> None:
        parameters, initial = self._pairs()
        if parameters:
            gradients = gradients_of(parameters)
            torch._foreach_add_(gradients, parameters, alpha=2 * self.strength)
            torch._foreach_add_(gradients, initial, alpha=-2 * self.strength)

    def state(self) -> dict[str, Tensor]:
        return super().state() | self._initial

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}
