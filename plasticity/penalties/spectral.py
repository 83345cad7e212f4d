"""Spectral regularization: keeps the largest singular value of each layer near one.

Lewandowski et al., "Learning Continually by Spectral Regularization", ICLR 2025 (arXiv 2406.06811). A
re-implementation from the paper's abstract, its public reviews and other re-implementations: no code was released.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Computed, Layer, Part
from neoteny.plasticity.penalty import Penalty
from neoteny.plasticity.singular_values import Tracker


def spectral_penalty(sigma: Tensor, biases: list[Tensor], scales: list[Tensor], k: int, target: float = 1.0) -> Tensor:
    """R = Σ_l (σ_l^k − t^k)² + Σ_l (‖b_l‖²)^k + Σ_i (γ_i − 1)².

    Args:
        sigma: singular values, shape (L).
        biases: bias vectors b, and the shifts of normalization layers.
        scales: the scales γ of normalization layers, each regularized towards 1.
        k: the exponent.
        target: t.
    """
    total = ((sigma**k - target**k) ** 2).sum()
    for bias in biases:
        total = total + bias.square().sum() ** k
    for scale in scales:
        total = total + ((scale - 1) ** 2).sum()
    return total


@dataclass(kw_only=True, eq=False)
class Spectral(Penalty):
    """R(θ) = Σ_l [(σ₁(W_l)^k − t^k)² + (‖b_l‖²)^k] + Σ_i (γ_i − 1)², with γ_i the scales of normalization layers.

    σ₁ and its vectors are tracked by :class:`neoteny.plasticity.singular_values.Tracker`, which renews them at every
    update, or at every second while σ₁ hardly changes. They are constants in the gradient:
    ∂R/∂W = 2k(σ^k − t^k)σ^{k−1} u vᵀ and ∂R/∂b = 2k(‖b‖²)^{k−1} b. Of equal singular values one is pulled, as in the
    paper. A convolution is its kernel reshaped to (out, in · kernel), whose σ₁ bounds the operator's up to a constant.
    No autograd graph is built. On a GPU, a step of tracking waits for the device.

    Output heads are exempt by default: a head of spectral norm 1 cannot represent large values.

    Attributes:
        strength: λ.
        k: the exponent, at least 1.
        target: t ≥ 0, the target of the singular values. The paper uses 1; later work also uses 2.

    Raises:
        ValueError: ``strength`` or ``target`` is negative or not finite, or ``k`` is not an integer of at least 1.
    """

    name: ClassVar[str] = "spectral"

    k: int = 2
    target: float = 1.0
    _tracker: Tracker = field(init=False, repr=False)
    _pulls: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _right: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.k >= 1 or self.k % 1:
            raise ValueError(f"k: an integer of at least 1 is needed, got {self.k}")
        if not 0 <= self.target < float("inf"):
            raise ValueError(f"target: a finite number of at least 0 is needed, got {self.target}")

    def setup(self) -> None:
        self._tracker = Tracker(self._matrices(), self.generator)
        if self._tracker.names:
            self._renew()

    @torch.no_grad()
    def weights_replaced(self) -> None:
        if self._tracker.names:
            self._tracker.settle(self._matrices())
            self._renew()

    def _matrix_layers(self) -> list[Layer]:
        return [layer for layer in self.layers if not layer.is_norm]

    def _matrices(self) -> dict[str, Tensor]:
        return {layer.name: layer.matrix.detach() for layer in self._matrix_layers()}

    def _live(self) -> tuple[list[Layer], list[Part | Computed], list[Part]]:
        """Layers with matrices, scales and biases that are not frozen at the moment."""
        live = [layer for layer in self.layers if layer.weights.live]
        biases = [layer.biases for layer in self.layers if layer.biases is not None and layer.biases.live]
        return [x for x in live if not x.is_norm], [x.weights for x in live if x.is_norm], biases

    def _penalty(self, sigma: list[Tensor]) -> Tensor:
        """R(θ), with these singular values."""
        _, scales, biases = self._live()
        every = torch.cat([s.reshape(-1) for s in sigma]) if sigma else torch.zeros(0)
        return spectral_penalty(every, [b.value for b in biases], [s.value for s in scales], self.k, self.target)

    def _pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """u and v of each layer."""
        tracker = self._tracker
        return dict(zip(tracker.names, zip(tracker.u, tracker.v, strict=True), strict=True))

    def _singular_values(self, layers: list[Layer]) -> list[Tensor]:
        """The penalized singular values of each matrix."""
        pairs = self._pairs()
        return [(u @ layer.matrix.to(u.dtype) @ v) for layer in layers for u, v in [pairs[layer.name]]]

    def _renew(self) -> None:
        """Set the pulls (σ^k − t^k)σ^{k−1} u and the vectors v."""
        tracker = self._tracker
        sigma = tracker.sigma
        size = (sigma**self.k - self.target**self.k) * sigma ** (self.k - 1)
        self._pulls = dict(zip(tracker.names, torch._foreach_mul(tracker.u, list(size.unbind())), strict=True))
        self._right = dict(zip(tracker.names, tracker.v, strict=True))

    def _pull_weights_(self, layers: list[Layer], factor: float) -> None:
        """Add factor · (σ^k − t^k)σ^{k−1} u vᵀ to their gradients."""
        if self._tracker.due():
            self._tracker.renew(self._matrices())
            self._renew()
        found = {}
        for layer in layers:
            gradient = layer.weights.grad
            pull, right = self._pulls[layer.name].to(gradient.dtype), self._right[layer.name].to(gradient.dtype)
            found[layer.name] = matrix = gradient.flatten(1)
            matrix.addr_(pull, right, alpha=factor)
            if matrix.data_ptr() != gradient.data_ptr():  # it is a copy
                gradient.copy_(matrix.view_as(gradient))
        self._tracker.follow(found)

    def value(self) -> Tensor:
        return self._penalty(self._singular_values(self._live()[0]))

    @torch.no_grad()
    def add_grad_(self) -> None:
        layers, scales, biases = self._live()
        factor = 2 * self.k * self.strength
        if layers:
            self._pull_weights_(layers, factor)
        if biases:
            values = [b.value for b in biases]
            sizes = torch._foreach_pow(torch._foreach_norm(values), 2 * (self.k - 1))
            torch._foreach_add_([b.grad for b in biases], torch._foreach_mul(values, sizes), alpha=factor)
        if scales:
            away = torch._foreach_sub([scale.value for scale in scales], 1)
            torch._foreach_add_([scale.grad for scale in scales], away, alpha=2 * self.strength)

    def state(self) -> dict[str, Tensor]:
        return super().state() | self._tracker.state() | {f"pull.{name}": pull for name, pull in self._pulls.items()}

    @torch.no_grad()
    def sigma(self) -> dict[str, Tensor]:
        """An estimate of each layer's largest singular value, for the weights as they are now, by layer name."""
        found = self._tracker.look(self._matrices()).unbind()
        return dict(zip(self._tracker.names, found, strict=True))

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        found = self.sigma()
        now = [found[layer.name] for layer in self._live()[0]]
        return {"penalty": self.strength * self._penalty(now)} | ({"sigma_max": torch.stack(now).max()} if now else {})
