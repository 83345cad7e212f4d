"""Projections: after each update the weights are projected onto a set that keeps them trainable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from neoteny.plasticity.layers import Layer, smaller_gram, wide
from neoteny.plasticity.method import Method
from neoteny.plasticity.schedule import check_every, due, new_counter
from neoteny.plasticity.singular_values import Tracker
from neoteny.plasticity.survey import Heads

#: The exact σ₁ is rounded up by this many machine epsilons, so that no rounding error leaves a weight above its bound.
ROUNDING = 100


@dataclass(kw_only=True, eq=False)
class SpectralNorm(Method):
    """W ← W / max(1, σ₁(W) / bound) after each update: no layer's largest singular value is above the bound.

    Gouk, Frank, Pfahringer & Cree, "Regularisation of Neural Networks by Enforcing Lipschitz Continuity" (arXiv
    1804.04368), algorithm 1. The weights themselves are projected; Miyato et al. (arXiv 1802.05957) reparameterize
    instead. A convolution is its kernel reshaped to (out, in · kernel). Biases and normalization layers are not
    changed.

    Exactness: at every N-th update (``exact_every``) σ₁ is computed from the eigenvalues of the smaller Gram matrix.
    σ₁ ≤ bound then holds for any W, to the last digit in float32 and float64. With ``exact_every`` = 1, the default, it
    holds after every update. In between, σ₁ is an estimate from below (see :mod:`neoteny.plasticity.singular_values`),
    and σ₁ may exceed the bound: over PPO on CartPole by 0.9 % in the first hundred updates, by 0.6 % later.

    Cost: m·n·min(m, n) for the Gram matrix and about 4/3·min(m, n)³ for its eigenvalues, at every N-th update; with N
    above 1, also a step of tracking at every update. On a GPU both wait for the device.

    Attributes:
        bound: the largest σ₁ allowed. At infinity, training is bit for bit the same as without the method.
        exact_every: N; 0 for the estimate alone, which gives no strict bound.

    Raises:
        ValueError: ``bound`` is not positive, or ``exact_every`` is not an integer of at least 0.
    """

    name: ClassVar[str] = "spectral-norm"
    acts_on_norms: ClassVar[bool] = False

    bound: float = 1.0
    exact_every: int = 1
    _tracker: Tracker | None = field(default=None, init=False, repr=False)
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"bound: a number above 0 is needed, got {self.bound}")
        check_every(self.exact_every, setting="exact_every")

    def setup(self) -> None:
        if self.exact_every != 1:
            self._tracker = Tracker(self._matrices(), self.generator, longest=1)

    @torch.no_grad()
    def weights_replaced(self) -> None:
        if self._tracker:
            self._tracker.settle(self._matrices())

    def _matrices(self) -> dict[str, Tensor]:
        return {layer.name: layer.matrix.detach() for layer in self.layers}

    def _sigma(self, matrices: dict[str, Tensor], exact: bool) -> dict[str, Tensor]:
        """σ₁, or an estimate from below, by layer name.

        Raises:
            LinAlgError: the weights are not finite.
        """
        found = {}
        if tracker := self._tracker:
            moved = [x for x in self.layers if all(p.grad is not None for p in x.weights.parameters)]
            tracker.follow({x.name: x.weights.grad.flatten(1) for x in moved})
            if tracker.due():
                tracker.renew(matrices)
            found = dict(zip(tracker.names, tracker.sigma.unbind(), strict=True))
        return {name: largest(matrix) for name, matrix in matrices.items()} if exact else found

    @torch.no_grad()
    def after_step(self) -> None:
        exact = due(self._updates, self.exact_every)
        live = [layer for layer in self.layers if layer.weights.live]
        if self.bound == float("inf") or not live:
            return
        try:
            sigma = self._sigma(self._matrices(), exact)
        except torch.linalg.LinAlgError:  # the training loop has to detect that
            return
        factors = [(self.bound / sigma[layer.name]).clamp(max=1).to(layer.weight.dtype) for layer in live]
        torch._foreach_mul_([layer.weight for layer in live], factors)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"updates": self._updates} | (self._tracker.state() if self._tracker else {})

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        try:
            return {"sigma_max": torch.stack([largest(matrix) for matrix in self._matrices().values()]).max()}
        except torch.linalg.LinAlgError:
            return {"sigma_max": torch.tensor(float("nan"))}


def largest(matrix: Tensor) -> Tensor:
    """σ₁ from the eigenvalues of the smaller Gram matrix, rounded up; in float32 at least.

    Raises:
        LinAlgError: ``matrix`` is not finite.
    """
    sigma = torch.linalg.eigvalsh(smaller_gram(wide(matrix)))[-1].clamp_min(0).sqrt()
    return sigma * (1 + ROUNDING * torch.finfo(sigma.dtype).eps)


@dataclass(kw_only=True, eq=False)
class WeightClipping(Method):
    """p ← clip(p, −κs, κs) after each update, for weights and biases, s = 1/√(inputs of one output).

    s is the bound of the uniform distribution that torch draws Linear and Conv weights and biases from. Elsayed, Lan,
    Lyle & Mahmood, "Weight Clipping for Deep Continual and Reinforcement Learning", RLC 2024 (arXiv 2407.01704). As
    there, s is that of the uniform distribution under other initializations too. Attaching changes nothing; the first
    update clips entries that start outside. Normalization layers have no such s and are not changed.

    Cost: two elementwise passes.

    Attributes:
        kappa: κ; the authors use 3 with PPO. At infinity, training is bit for bit the same as without the method.

    Raises:
        ValueError: ``kappa`` is not positive.
    """

    name: ClassVar[str] = "weight-clipping"
    acts_on_norms: ClassVar[bool] = False

    heads: Heads = "include"
    kappa: float = 3.0

    def __post_init__(self) -> None:
        if not self.kappa > 0:
            raise ValueError(f"kappa: a number above 0 is needed, got {self.kappa}")

    def refuse(self, layer: Layer) -> str:
        embedding = isinstance(layer.owner, (nn.Embedding, nn.EmbeddingBag))
        return "embedding" if embedding else super().refuse(layer)

    def bounds(self) -> tuple[list[Tensor], list[float]]:
        """The tensors to clip, and κs for each."""
        pairs = [
            (part.value, self.kappa / layer.matrix.shape[1] ** 0.5)
            for layer in self.layers
            for part in layer.parts.values()
            if part.live
        ]
        return [p for p, _ in pairs], [bound for _, bound in pairs]

    @torch.no_grad()
    def after_step(self) -> None:
        tensors, bounds = self.bounds()
        if tensors and self.kappa < float("inf"):
            torch._foreach_clamp_max_(tensors, bounds)
            torch._foreach_clamp_min_(tensors, [-bound for bound in bounds])

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        tensors, bounds = self.bounds()
        at = [(p.abs() >= bound).flatten() for p, bound in zip(tensors, bounds, strict=True)]
        return {"at_bound": torch.cat(at).float().mean() if at else torch.zeros(())}


@dataclass(kw_only=True, eq=False)
class NormalizeAndProject(Method):
    """W ← W ‖W⁰‖_F / ‖W‖_F after each update: every layer keeps the norm it had when attached.

    In a network with normalization layers, growing weight norms only decay the effective learning rate; this method
    keeps it constant. Lyle et al., "Normalization and Effective Learning Rates in
    Reinforcement Learning", NeurIPS 2024 (arXiv 2407.01800). The *normalize* half is part of the network:
    use ``layer_norm``. Without it this method still runs, but changes the network's function.

    A layer's bias is scaled by the same factor, so that the output of the normalization layer after it stays exactly
    the same (the paper has no biases before a normalization layer). Scales and shifts of normalization layers are not
    changed; combine with `l2-init` to pull them to their initial values. Weights that are initially zero are not
    changed either.

    Cost: one norm and one product per weight.

    Attributes:
        every: project after every N-th update; 0 for never. The paper's method is 1.
    """

    name: ClassVar[str] = "normalize-and-project"
    acts_on_norms: ClassVar[bool] = False

    every: int = 1
    _norms: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)
    _factors: Tensor = field(default_factory=lambda: torch.ones(0), init=False, repr=False)
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)

    def __post_init__(self) -> None:
        check_every(self.every)

    def setup(self) -> None:
        if self.layers:
            self._norms = torch.stack(torch._foreach_norm([layer.weight for layer in self.layers]))
            self._factors = torch.ones_like(self._norms)

    @torch.no_grad()
    def after_step(self) -> None:
        live = [i for i, layer in enumerate(self.layers) if layer.weights.live]
        if not due(self._updates, self.every) or not live:
            return
        norms = torch.stack(torch._foreach_norm([layer.weight for layer in self.layers]))
        possible = (norms > 0) & (self._norms > 0)
        self._factors.copy_(torch.where(possible, self._norms / norms, 1.0))
        factors = self._factors.unbind()
        both = [(part, factors[i]) for i in live for part in self.layers[i].parts.values()]
        scaled = [(part.value, factor) for part, factor in both if part.live]
        torch._foreach_mul_([p for p, _ in scaled], [factor for _, factor in scaled])

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"updates": self._updates, "norms": self._norms, "factors": self._factors}

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        return {"factor_min": self._factors.min(), "factor_max": self._factors.max()}
