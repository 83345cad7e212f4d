"""TRAC: how far the weights are from where they began is tuned while they learn, without a setting to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from neoteny.plasticity.optimizers.base import StepByStep, check_fraction, check_positive

#: With this width of the steps the sum in :func:`erfi` is as exact as float64 is.
WIDTH = 0.25


def erfi(x: Tensor) -> Tensor:
    """The imaginary error function, erfi(x) = 2/√π ∫₀ˣ exp(t²) dt, which torch lacks; elementwise, any shape.

    (4/π) Σ exp(−k²h²) sinh(2khx) / k over odd k, with h = :data:`WIDTH`: Rybicki's series for Dawson's integral
    (Computers in Physics 3, 1989) times 2/√π exp(x²). The relative error is below 1e-13 in float64 wherever the value
    is a finite float64, for small x too. Computed in float64, returned in the dtype of ``x``.
    """
    exact = x.double()
    steps = torch.arange(1, int(34 / WIDTH), 2, dtype=torch.float64, device=x.device) * WIDTH
    size = exact.abs().unsqueeze(-1)
    terms = torch.exp((2 * size - steps) * steps) * -torch.expm1(-4 * size * steps) / steps  # 2 exp(…) sinh(…) / k
    return (exact.sign() * terms.sum(-1) * (2 * WIDTH / math.pi)).to(x.dtype)


#: erfi(1/√2)
UNIT = float(erfi(torch.tensor(1 / math.sqrt(2), dtype=torch.float64)))


def tune(variance: Tensor, sigma: Tensor, h: Tensor, discounts: Tensor, s_init: float, eps: float) -> list[Tensor]:
    """One round of the tuners, one per discount βᵢ, which bet against the sign of h.

        vᵢ ← βᵢ²vᵢ + h²     σᵢ ← βᵢσᵢ − h     sᵢ = s_init · erfi(σᵢ / (√2 √vᵢ + ε)) / erfi(1/√2)

    Args:
        variance, sigma, discounts: v, σ and β, of shape (tuners).
        h: the gradient along the way from the reference, ⟨g, θ_base − θ_ref⟩; a scalar.
        s_init: the scale at σ = √v.
        eps: ε.

    Returns:
        The new v and σ, and S = max(0, Σ sᵢ), a scalar.
    """
    variance = variance * discounts**2 + h**2
    sigma = sigma * discounts - h
    scales = erfi(sigma / (math.sqrt(2) * variance.sqrt() + eps)) * (s_init / UNIT)
    return [variance, sigma, scales.sum().clamp_min(0)]


class TRAC(StepByStep):
    """Adam (or any optimizer), with the way from the initial weights scaled by what has paid off.

    Muppidi, Zhang & Yang, "Fast TRAC: A Parameter-Free Optimizer for Lifelong Reinforcement Learning", NeurIPS 2024
    (arXiv 2405.16642), as in the authors' code:

        θ ← θ_ref + S · (θ_base − θ_ref),      S = max(0, Σᵢ sᵢ), see :func:`tune`
        θ_base − θ_ref = (θ − θ_ref) / (S_before + ε) + the step that the base optimizer takes

    After a switch the gradient points back along the way come, S falls, and the weights return towards the reference.
    S begins at s_init, so nearly nothing moves in the first dozens of updates.

    The reference is the weights at the first update, or at the first after ``state.clear()``. It is not kept as such:
    what is kept for each entry is its ``offset`` θ − θ_ref, beside the base optimizer's moments. Hence whatever is done
    to weights from outside (projections, perturbations, resets) moves the reference along and is not undone; and
    whoever writes new weights and zeroes their moments has thereby made the new weights their reference. As long as
    nobody else touches the weights this is the authors' code, up to rounding.

    Cost: one tensor per parameter beside those of the base, and some ten elementwise passes.

    Args:
        params: what is trained, as torch's optimizers take it.
        lr: learning rate of the base.
        discounts: βᵢ, one tuner each.
        s_init: the scale to begin with.
        eps: ε, of the tuners; Adam's is a setting of the base.
        base: the optimizer whose steps are scaled.
        base_settings: its settings, ``{"betas": (0.9, 0.99)}``.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        discounts: tuple[float, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
        s_init: float = 1e-8,
        eps: float = 1e-8,
        base: type[Optimizer] = torch.optim.Adam,
        base_settings: Mapping[str, Any] | None = None,
    ):
        if not discounts:
            raise ValueError("discounts: at least one is needed, got none")
        check_fraction("discounts", *discounts)
        check_positive("s_init", s_init)
        check_positive("eps", eps)
        super().__init__(params, {"lr": lr})
        fast = {"fused": True} if issubclass(base, torch.optim.Adam) else {}
        self.base = base(self.param_groups, **{"lr": lr, **fast, **(base_settings or {})})  # the same groups
        self.defaults |= self.base.defaults
        self.discounts, self.s_init, self.eps = tuple(discounts), s_init, eps
        self._discounts = torch.tensor(self.discounts, dtype=torch.float64)

    def __getstate__(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("base", "discounts", "_discounts", "s_init", "eps")}
        return super().__getstate__() | own

    def update_(self) -> None:
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if parameters:
            self._step(parameters)

    def _step(self, parameters: list[Tensor]) -> None:
        before = [p.clone() for p in parameters]
        known = [self.state.get(p, {}).get("offset") for p in parameters]
        offsets = [torch.zeros_like(p) if o is None else o for p, o in zip(parameters, known, strict=True)]
        variance, sigma, scale = self._tuner(parameters[0])
        way = torch._foreach_mul(offsets, 1 / (scale + self.eps))
        gradients = [p.grad for p in parameters if p.grad is not None]
        h = torch.stack([x.sum() for x in torch._foreach_mul(way, gradients)]).sum()  # before a base may write to them
        self.base.param_groups, self.base.state = self.param_groups, self.state
        self.base.step()
        for p, offset in zip(parameters, offsets, strict=True):  # only now: Adam takes any state for its own
            self.state[p]["offset"] = offset
        variance, sigma, scale = tune(variance, sigma, h, self._discounts, self.s_init, self.eps)
        # A new mapping, not new contents: state dicts taken before keep what they had.
        self.state["trac"] = {"variance": variance, "sigma": sigma, "scale": scale}  # type: ignore[index]
        torch._foreach_add_(way, torch._foreach_sub(parameters, before))  # θ_base − θ_ref
        torch._foreach_mul_(way, scale)
        torch._foreach_copy_(parameters, torch._foreach_add(before, torch._foreach_sub(way, offsets)))
        torch._foreach_copy_(offsets, way)

    def scalars(self) -> dict[str, Tensor]:
        """``scale``: S."""
        return {"scale": self.state["trac"]["scale"]} if "trac" in self.state else {}  # type: ignore[index]

    def _tuner(self, like: Tensor) -> list[Tensor]:
        """v, σ and S, where the parameters are."""
        if (self._discounts.device, self._discounts.dtype) != (like.device, like.dtype):
            self._discounts = torch.tensor(self.discounts, dtype=like.dtype, device=like.device)
        if "trac" in self.state:
            return [t.to(like.device) for t in self.state["trac"].values()]  # type: ignore[index]
        zeros = like.new_zeros(len(self.discounts))
        return [zeros, torch.full_like(zeros, 1e-8), like.new_zeros(())]  # σ as in the authors' code
