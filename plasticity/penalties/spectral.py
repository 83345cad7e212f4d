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
from neoteny.plasticity.power_iteration import power_iteration_, warm_up_


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

    σ₁ is estimated by one step of power iteration per update on stored vectors, which are constants in the gradient:
    ∂R/∂W = 2k(σ^k − t^k)σ^{k−1} u vᵀ and ∂R/∂b = 2k(‖b‖²)^{k−1} b. A convolution is its kernel reshaped to
    (out, in · kernel), whose σ₁ bounds the operator's up to a constant. No autograd graph is built, and there is no
    device synchronization.

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
    _u: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _v: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.k >= 1 or self.k % 1:
            raise ValueError(f"k: an integer of at least 1 is needed, got {self.k}")
        if not 0 <= self.target < float("inf"):
            raise ValueError(f"target: a finite number of at least 0 is needed, got {self.target}")

    def setup(self) -> None:
        for layer in self._matrix_layers():
            rows, columns = layer.matrix.shape
            for vectors, size in ((self._u, rows), (self._v, columns)):
                draw = torch.randn(size, generator=self.generator).to(layer.weight)
                vectors.append(draw / draw.norm())
        if self._u:
            warm_up_([layer.matrix for layer in self._matrix_layers()], self._u, self._v)

    def _matrix_layers(self) -> list[Layer]:
        return [layer for layer in self.layers if not layer.is_norm]

    def _live(self) -> tuple[list[Part | Computed], list[Part | Computed], list[Part]]:
        """Weight matrices, scales and biases that are not frozen at the moment."""
        weights = [layer.weights for layer in self._matrix_layers() if layer.weights.live]
        scales = [layer.weights for layer in self.layers if layer.is_norm and layer.weights.live]
        biases = [layer.biases for layer in self.layers if layer.biases is not None and layer.biases.live]
        return weights, scales, biases

    def _vectors(self) -> tuple[list[Tensor], list[Tensor]]:
        """u and v of the weights returned by :meth:`_live`."""
        live = [layer.weights.live for layer in self._matrix_layers()]
        u, v = ([x for x, on in zip(side, live, strict=True) if on] for side in (self._u, self._v))
        return u, v

    def _singular_values(self, weights: list[Tensor]) -> list[Tensor]:
        """The penalized singular values of each matrix."""
        _, v = self._vectors()
        return [torch.linalg.vector_norm(w.flatten(1) @ right) for w, right in zip(weights, v, strict=True)]

    def _pull_weights_(self, weights: list[Part | Computed], factor: float) -> None:
        """Add factor · (σ^k − t^k)σ^{k−1} u vᵀ to their gradients."""
        u, v = self._vectors()
        sigma = power_iteration_([w.value.flatten(1) for w in weights], u, v)
        pull = factor * (sigma**self.k - self.target**self.k) * sigma ** (self.k - 1)
        pulled = torch._foreach_mul(u, list(pull.unbind()))
        for weight, left, right in zip(weights, pulled, v, strict=True):
            gradient = weight.grad
            if gradient.is_contiguous():
                gradient.flatten(1).addr_(left, right)
            else:
                gradient.add_(torch.outer(left, right).view_as(gradient))

    def value(self) -> Tensor:
        weights, scales, biases = ([part.value for part in parts] for parts in self._live())
        sigma = [s.flatten() for s in self._singular_values(weights)]
        return spectral_penalty(torch.cat(sigma) if sigma else torch.zeros(0), biases, scales, self.k, self.target)

    @torch.no_grad()
    def add_grad_(self) -> None:
        weights, scales, biases = self._live()
        factor = 2 * self.k * self.strength
        if weights:
            self._pull_weights_(weights, factor)
        if biases:
            values = [b.value for b in biases]
            squares = torch.stack(torch._foreach_norm(values)).square()
            pull = factor * squares ** (self.k - 1)
            pulls = [p.expand_as(b) for p, b in zip(pull.unbind(), values, strict=True)]
            torch._foreach_addcmul_([b.grad for b in biases], values, pulls)
        if scales:
            away = torch._foreach_sub([scale.value for scale in scales], 1)
            torch._foreach_add_([scale.grad for scale in scales], away, alpha=2 * self.strength)

    def state(self) -> dict[str, Tensor]:
        names = [layer.name for layer in self._matrix_layers()]
        return super().state() | {
            f"{side}.{name}": vector
            for side, vectors in (("u", self._u), ("v", self._v))
            for name, vector in zip(names, vectors, strict=True)
        }

    @torch.no_grad()
    def sigma(self) -> dict[str, Tensor]:
        """The current estimate of each layer's largest singular value, by layer name."""
        pairs = zip(self._matrix_layers(), self._v, strict=True)
        return {layer.name: (layer.matrix @ v).norm() for layer, v in pairs}

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}
