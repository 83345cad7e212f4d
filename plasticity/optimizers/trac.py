"""TRAC: a parameter-free optimizer that tunes the distance of the weights from their initial values online."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from neoteny.plasticity.optimizers.base import StepByStep, check_fraction, check_positive

#: Step width of the sum in :func:`erfi`, at which the sum is exact to float64 precision.
WIDTH = 0.25


def erfi(x: Tensor) -> Tensor:
    """The imaginary error function, erfi(x) = 2/√π ∫₀ˣ exp(t²) dt, which torch lacks; elementwise, any shape.

    (4/π) Σ exp(−k²h²) sinh(2khx) / k over odd k, with h = :data:`WIDTH`: Rybicki's series for Dawson's integral
    (Computers in Physics 3, 1989) times 2/√π exp(x²). The relative error is below 1e-13 in float64 wherever the value
    is a finite float64, also for small x. Computed in float64, returned in the dtype of ``x``.
    """
    exact = x.double()
    steps = torch.arange(1, int(34 / WIDTH), 2, dtype=torch.float64, device=x.device) * WIDTH
    size = exact.abs().unsqueeze(-1)
    terms = torch.exp((2 * size - steps) * steps) * -torch.expm1(-4 * size * steps) / steps  # 2 exp(…) sinh(…) / k
    return (exact.sign() * terms.sum(-1) * (2 * WIDTH / math.pi)).to(x.dtype)


#: erfi(1/√2)
UNIT = float(erfi(torch.tensor(1 / math.sqrt(2), dtype=torch.float64)))


def tune(variance: Tensor, sigma: Tensor, h: Tensor, discounts: Tensor, s_init: float, eps: float) -> list[Tensor]:
    """One update of the tuners, one per discount βᵢ, which bet against the sign of h.

        vᵢ ← βᵢ²vᵢ + h²     σᵢ ← βᵢσᵢ − h     sᵢ = s_init · erfi(σᵢ / (√2 √vᵢ + ε)) / erfi(1/√2)

    Args:
        variance, sigma, discounts: v, σ and β, of shape (tuners).
        h: the gradient along the displacement from the reference, ⟨g, θ_base − θ_ref⟩; a scalar.
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
    """Adam (or any optimizer), with the displacement from the initial weights scaled by an online tuner.

    Muppidi, Zhang & Yang, "Fast TRAC: A Parameter-Free Optimizer for Lifelong Reinforcement Learning", NeurIPS 2024
    (arXiv 2405.16642), as in the authors' code:

        θ ← θ_ref + S · (θ_base − θ_ref),      S = max(0, Σᵢ sᵢ), see :func:`tune`
        θ_base − θ_ref = (θ − θ_ref) / (S_before + ε) + the step of the base optimizer

    After a task switch the gradient points back along the displacement, S falls, and the weights return towards the
    reference. S starts at s_init, so the weights hardly move in the first dozens of updates.

    The reference is the weights at the first update, or at the first one after ``state.clear()``. It is not stored
    itself: the state holds the ``offset`` θ − θ_ref of each entry, beside the base optimizer's moments. So a change of
    the weights from outside (projection, perturbation, reset) moves the reference along and is not undone, and writing
    new weights and zeroing their state makes the new weights the reference. If nothing else changes the weights, this
    equals the authors' code, up to rounding.

    Cost: one more tensor per parameter than the base optimizer, and about ten elementwise passes.

    Args:
        params: parameters or parameter groups, as for torch's optimizers.
        lr: learning rate of the base optimizer.
        discounts: βᵢ, one tuner each.
        s_init: the initial scale.
        eps: ε of the tuners; Adam's is in ``base_settings``.
        base: the optimizer whose steps are scaled.
        base_settings: its settings, such as ``{"betas": (0.9, 0.99)}``.

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
        # A new mapping, so that state dicts taken earlier keep their values.
        self.state["trac"] = {"variance": variance, "sigma": sigma, "scale": scale}  # type: ignore[index]
        torch._foreach_add_(way, torch._foreach_sub(parameters, before))  # θ_base − θ_ref
        torch._foreach_mul_(way, scale)
        torch._foreach_copy_(parameters, torch._foreach_add(before, torch._foreach_sub(way, offsets)))
        torch._foreach_copy_(offsets, way)

    def scalars(self) -> dict[str, Tensor]:
        """``scale``: S."""
        return {"scale": self.state["trac"]["scale"]} if "trac" in self.state else {}  # type: ignore[index]

    def _tuner(self, like: Tensor) -> list[Tensor]:
        """v, σ and S, on the device of the parameters."""
        if (self._discounts.device, self._discounts.dtype) != (like.device, like.dtype):
            self._discounts = torch.tensor(self.discounts, dtype=like.dtype, device=like.device)
        if "trac" in self.state:
            return [t.to(like.device) for t in self.state["trac"].values()]  # type: ignore[index]
        zeros = like.new_zeros(len(self.discounts))
        return [zeros, torch.full_like(zeros, 1e-8), like.new_zeros(())]  # σ as in the authors' code
