"""Penalties on all singular values of a layer at once: orthogonality, and the whole-spectrum form of `spectral`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Layer, smaller_gram, wide
from neoteny.plasticity.penalties.spectral import Spectral
from neoteny.plasticity.penalty import Penalty
from neoteny.plasticity.schedule import check_every, is_first, new_counter


def update_pulls_(pulls: list[Tensor], weights: list[Tensor], level: float, power: int) -> None:
    """pull ← Σ_i (σ_i^{2j} − level) σ_i^{2j−1} u_i v_iᵀ of each weight, j = ``power``, as (G^j − level·I) G^{j−1} W.

    No decomposition: j + 1 matrix products.

    Args:
        pulls: outputs, in the shapes of the weights; contiguous.
        weights: each (out, in) or (out, in, *kernel), seen as (out, in · kernel).
        level: the target of σ^{2j}.
    """
    for pull, weight in zip(pulls, weights, strict=True):
        matrix = weight.flatten(1)
        gram = smaller_gram(matrix)
        lower = torch.linalg.matrix_power(gram, power - 1) if power > 1 else None
        middle = gram if lower is None else gram @ lower
        middle.diagonal().sub_(level)
        if lower is not None:
            middle = middle @ lower
        left, right = (middle, matrix) if len(matrix) <= matrix.shape[1] else (matrix, middle)
        torch.mm(left, right, out=pull.flatten(1))


@dataclass(kw_only=True, eq=False)
class WholeSpectrum(Penalty):
    """A penalty on all singular values of a layer at once.

    Attributes:
        every: N; the gradient is computed at the first of every N updates, and added at each. The papers use 1.

    Raises:
        ValueError: ``every`` is not an integer of at least 1.
    """

    every: int = 1
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)
    _pulls: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_every(self.every, least=1)

    def setup(self) -> None:
        self._pulls = {
            layer.name: torch.zeros_like(layer.weight, memory_format=torch.contiguous_format)
            for layer in self.layers
            if not layer.is_norm
        }

    @torch.no_grad()
    def weights_replaced(self) -> None:
        for pull in self._pulls.values():
            pull.zero_()

    def _pull_(self, level: float, power: int, factor: float) -> None:
        """Add factor · pull (see :func:`update_pulls_`) to the gradients of the weights that are not frozen."""
        live = [layer for layer in self.layers if layer.name in self._pulls and layer.weights.live]
        pulls = [self._pulls[layer.name] for layer in live]
        if is_first(self._updates, self.every):
            update_pulls_(pulls, [layer.weight for layer in live], level, power)
        if live:
            torch._foreach_add_([layer.weights.grad for layer in live], pulls, alpha=factor)

    def state(self) -> dict[str, Tensor]:
        return Penalty.state(self) | {"updates": self._updates, **self._pulls}  # no vectors, as Spectral has


@dataclass(kw_only=True, eq=False)
class Parseval(WholeSpectrum):
    """R(θ) = Σ_l ‖G_l − s·I‖²_F, G_l the smaller of W_l W_lᵀ and W_lᵀ W_l: orthogonal rows (or columns) of length √s.

    ∂R/∂W = 4(G − sI)W, or 4W(G − sI). A convolution is its kernel reshaped to (out, in · kernel). Chung, Cherif,
    Precup & Meger, "Parseval Regularization for Continual Reinforcement Learning", NeurIPS 2024 (arXiv 2412.07224),
    on every layer but the last. The paper always uses W Wᵀ; for a tall W this differs only by a constant, with the same
    gradient. Biases and normalization layers are not penalized; the paper's extra diagonal layers would be part of the
    network.

    The eigenvalues of G are the squares of W's singular values: R = Σ_i (σ_i² − s)². This is
    :class:`SpectralSpectrum` at k = 2 without biases and normalization layers.

    Cost: two matrix products, 4·m·n·min(m, n) operations per layer, as many as training the layer on a minibatch of
    ⅔·min(m, n) samples.

    Attributes:
        scale: s. An orthogonal initialization of gain √2 has s = 2, as in the authors' code.
    """

    name: ClassVar[str] = "parseval"
    acts_on_norms: ClassVar[bool] = False

    strength: float = 1e-3
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale: a finite number of at least 0 is needed, got {self.scale}")

    def value(self) -> Tensor:
        total = torch.zeros(())
        for layer in self.layers:
            if not layer.weights.live:
                continue
            gram = smaller_gram(layer.matrix)
            total = total + (gram - self.scale * torch.eye(len(gram)).to(gram)).square().sum()
        return total

    @torch.no_grad()
    def add_grad_(self) -> None:
        self._pull_(self.scale, power=1, factor=4 * self.strength)

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}


@dataclass(kw_only=True, eq=False)
class SpectralSpectrum(WholeSpectrum, Spectral):
    """R(θ) = Σ_l [Σ_i (σ_i(W_l)^k − t^k)² + (‖b_l‖²)^k]: `spectral` on all singular values, not only the largest.

    With G as in :class:`Parseval`, ∂R/∂W = 2k(G^{k/2} − t^k I) G^{k/2−1} W. This is exact and needs no
    decomposition, but k must be even. The paper penalizes the largest singular value only, since the smallest hardly
    moves by itself; this variant, with its `target`, is for comparison. Cost: k/2 + 1 matrix products per layer.

    Attributes:
        k: the exponent, even.
    """

    name: ClassVar[str] = "spectral-spectrum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k % 2:
            raise ValueError(f"k: an even integer of at least 2 is needed, got {self.k}")

    def _singular_values(self, layers: list[Layer]) -> list[Tensor]:
        return [torch.linalg.svdvals(wide(layer.matrix)) for layer in layers]

    def _pull_weights_(self, layers: list[Layer], factor: float) -> None:
        self._pull_(self.target**self.k, self.k // 2, factor)

    def sigma(self) -> dict[str, Tensor]:
        return {x.name: torch.linalg.matrix_norm(wide(x.matrix.detach()), ord=2) for x in self._matrix_layers()}

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"penalty": self.strength * self.value()}
