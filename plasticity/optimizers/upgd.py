"""UPGD: protects useful weights and perturbs the others."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from neoteny.plasticity.optimizers.base import StepByStep, check_fraction, check_positive
from neoteny.plasticity.seeding import own_seed


class UPGD(StepByStep):
    """AdaUPGD: Adam with added Gaussian noise, where more useful weights take smaller steps and get less noise.

    Elsayed & Mahmood, "Addressing Loss of Plasticity and Catastrophic Forgetting in Continual Learning", ICLR 2024
    (arXiv 2404.00781), in the adaptive variant used for reinforcement learning (section 4.5):

        u ← βᵤu − (1 − βᵤ) g·w          û = u / (1 − βᵤᵗ)          gate = 2·(1 − sigmoid(û / max û))
        w ← (1 − lr·decay) w − lr · gate · (m̂ / (√v̂ + ε) + ξ)        ξ ~ N(0, σ²)

    −g·w is, to first order, the increase of the loss if the weight were set to 0; m̂ and v̂ are Adam's moments; the
    maximum is over all weights. This is the paper's algorithm 5 with two additions from the authors' code: the factor
    2, so that a weight of utility 0 takes Adam's step, and the weight decay. Their code divides by max u, not max û, so
    that nearly all gates are either open or closed in the first 1/(1 − βᵤ) updates; here it is max û, as in the paper.
    If no weight has positive utility, all gates are open (in their code they are then reversed).

    Noise is drawn from the optimizer's own generator, seeded by ``seed``, whose state is part of ``state_dict()``.
    ``state.clear()`` does not reset it.

    Cost: one more tensor per parameter than Adam; noise for every weight and about ten elementwise passes per update.

    Args:
        params: parameters or parameter groups, as for torch's optimizers.
        lr: learning rate.
        betas: decay rates of Adam's moments.
        eps: ε.
        beta_utility: βᵤ, decay rate of the utility trace.
        sigma: σ, standard deviation of the noise, in units of the learning rate.
        weight_decay: decoupled, as in AdamW.
        seed: seed of the noise. If None, the seed given to :meth:`prepare`, else 0.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-5,
        beta_utility: float = 0.999,
        sigma: float = 1e-3,
        weight_decay: float = 1e-3,
        seed: int | None = None,
    ):
        check_fraction("betas", *betas)
        check_fraction("beta_utility", beta_utility)
        for name, value in (("lr", lr), ("eps", eps), ("sigma", sigma), ("weight_decay", weight_decay)):
            check_positive(name, value, or_zero=True)
        settings = {"betas": betas, "eps": eps, "beta_utility": beta_utility, "sigma": sigma}
        super().__init__(params, {"lr": lr, **settings, "weight_decay": weight_decay})
        self._seed = seed
        self.chance = torch.Generator().manual_seed(own_seed("UPGD", seed or 0))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_seed": self._seed, "chance": self.chance}

    def prepare(self, module: nn.Module, *, seed: int, output_layers: Collection[str] | None = None) -> None:
        """Use the agent's seed, if none was given."""
        if self._seed is None:
            self.chance.manual_seed(own_seed("UPGD", seed))

    def update_(self) -> None:
        groups = [(g, live) for g in self.param_groups if (live := [p for p in g["params"] if p.grad is not None])]
        if groups:
            utilities = [self._traces(group, parameters) for group, parameters in groups]
            highest = torch.stack([u.max() for group in utilities for u in group]).max()
            generator = self._generator(groups[0][1][0].device)
            for (group, parameters), utility in zip(groups, utilities, strict=True):
                self._update(group, parameters, utility, highest, generator)

    def _generator(self, device: torch.device) -> torch.Generator:
        """The generator of this update's noise, seeded from :attr:`chance`, which is always on the CPU."""
        seed = int(torch.randint(2**62, (), generator=self.chance))
        return torch.Generator(device).manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"chance": self.chance.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "chance"})
        self.chance.set_state(state_dict["chance"].cpu())

    @torch.no_grad()
    def scalars(self) -> dict[str, Tensor]:
        """``gate``: the mean over all weights. 1 is Adam's step; the most useful weight takes 0.54 of it."""
        held = [p for group in self.param_groups for p in group["params"] if self.state.get(p)]
        parameters = [p for p in held if self.state[p]["step"] > 0]  # the state of the others was reset
        if not parameters:
            return {}
        beta, steps = self.param_groups[0]["beta_utility"], self._of(parameters, "step")
        utility = torch._foreach_div(self._of(parameters, "utility"), self._corrections(steps, beta))
        flat = torch.cat([u.flatten() for u in utility])
        return {"gate": 2 * torch.sigmoid(-flat / flat.max().clamp_min(torch.finfo(flat.dtype).tiny)).mean()}

    def _traces(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        """Update the utility traces and Adam's moments. Returns the bias-corrected utilities û."""
        for p in parameters:
            if not self.state[p]:
                self.state[p]["step"] = torch.tensor(0.0)  # on the CPU, as Adam's
                self.state[p] |= {key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq", "utility")}
        gradients = [p.grad for p in parameters if p.grad is not None]
        steps, first, second, utility = (self._of(parameters, k) for k in ("step", "exp_avg", "exp_avg_sq", "utility"))
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(first, gradients, 1 - group["betas"][0])
        torch._foreach_mul_(second, group["betas"][1])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - group["betas"][1])
        torch._foreach_mul_(utility, group["beta_utility"])
        torch._foreach_addcmul_(utility, gradients, parameters, group["beta_utility"] - 1)
        return list(torch._foreach_div(utility, self._corrections(steps, group["beta_utility"])))

    def _update(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        utility: list[Tensor],
        highest: Tensor,
        generator: torch.Generator,
    ) -> None:
        steps, first, second = (self._of(parameters, k) for k in ("step", "exp_avg", "exp_avg_sq"))
        scale = highest.clamp_min(torch.finfo(highest.dtype).tiny)  # avoids 0 / 0 where all utilities are 0
        gates = [torch.sigmoid_(-u / scale) for u in utility]  # 1 − sigmoid(x) = sigmoid(−x)
        width = torch._foreach_sqrt(torch._foreach_div(second, self._corrections(steps, group["betas"][1])))
        torch._foreach_add_(width, group["eps"])
        moves = torch._foreach_div(first, self._corrections(steps, group["betas"][0]))
        torch._foreach_div_(moves, width)
        if group["sigma"]:
            like = [{"dtype": p.dtype, "device": p.device} for p in parameters]
            noise = [torch.randn(p.shape, generator=generator, **d) for p, d in zip(parameters, like, strict=True)]  # type: ignore[call-overload]
            torch._foreach_add_(moves, noise, alpha=group["sigma"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcmul_(parameters, moves, gates, -2 * group["lr"])

    def _of(self, parameters: list[Tensor], key: str) -> list[Tensor]:
        return [self.state[p][key] for p in parameters]

    @staticmethod
    def _corrections(steps: list[Tensor], beta: float) -> list[float]:
        return [1 - beta ** step.item() for step in steps]  # on the CPU: no device synchronization
