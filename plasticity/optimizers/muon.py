"""Muon for hidden matrices, Adam for the rest, as one optimizer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from neoteny.plasticity.layers import Part
from neoteny.plasticity.notice import warn
from neoteny.plasticity.optimizers.base import StepByStep, check_fraction, check_positive
from neoteny.plasticity.survey import Heads, select_layers


class Muon(StepByStep):
    """Muon (orthogonalized updates) for the weights of hidden Linear layers, Adam for all other parameters.

        B ← μB + (1 − μ)G        W ← (1 − lr·decay) W − lr · 0.2 √max(m, n) · orthogonal((1 − μ)G + μB)

    for an m × n matrix W with gradient G. orthogonal(·) keeps the singular vectors and brings the singular values near
    1, by five Newton–Schulz iterations. Jordan et al., https://kellerjordan.github.io/posts/muon/ (2024). The
    factor 0.2 √max(m, n) gives the step the root mean square of Adam's, so one learning rate fits both: Liu et al.,
    "Muon is Scalable for LLM Training" (arXiv 2502.16982). The computation is done by ``torch.optim.Muon``.

    Parameters alone do not tell which layer is an output head. So Adam trains everything until :meth:`choose_hidden` is
    called with the network; our agents do that. Biases, normalization layers, convolutions, heads and parameters
    outside such layers stay with Adam.

    Cost: slightly more than 20·m·n·min(m, n) operations per matrix and update, in bfloat16; one moment less in memory.

    Args:
        params: parameters or parameter groups, as for torch's optimizers.
        lr: learning rate of both.
        momentum: μ.
        nesterov: step along (1 − μ)G + μB instead of B.
        weight_decay: decoupled, for the hidden matrices. torch's default is 0.1, ours is Adam's.
        ns_steps: Newton–Schulz iterations.
        betas, eps: Adam's.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        check_fraction("momentum", momentum)
        check_fraction("betas", *betas)
        check_positive("weight_decay", weight_decay, or_zero=True)
        if not 1 <= ns_steps < 100:
            raise ValueError(f"ns_steps: an integer from 1 to 99 is needed, got {ns_steps}")
        super().__init__(params, {"lr": lr})
        self.adam = torch.optim.Adam(self.param_groups, lr=lr, betas=betas, eps=eps, fused=True)  # the same groups
        self.defaults |= self.adam.defaults
        one = [torch.zeros(1, 1)]  # torch's Muon takes no empty list
        same = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "ns_steps": ns_steps}
        self.muon = torch.optim.Muon(one, lr=lr, adjust_lr_fn="match_rms_adamw", **same)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"adam": self.adam, "muon": self.muon}

    def prepare(self, module: nn.Module, *, seed: int, output_layers: Collection[str] | None = None) -> None:
        """See :meth:`choose_hidden`."""
        self.choose_hidden(module, output_layers=output_layers)

    def choose_hidden(
        self, module: nn.Module, heads: Heads = "exempt", output_layers: Collection[str] | None = None
    ) -> list[str]:
        """From now on Muon trains the hidden Linear layers of ``module``. Returns their names; warns if there are none.

        They move to a new parameter group, at the end, with the learning rate of the group they were in, so call this
        before loading a state. Their optimizer state, if any, is cleared.

        Args:
            module: the network.
            heads: as for methods, which output layers stay with Adam.
            output_layers: the output heads, if known; None to find them.

        Raises:
            ValueError: this was called before, or a layer does not exist.
        """
        if any("ns_steps" in group for group in self.param_groups):
            raise ValueError("choose_hidden: the hidden layers of this optimizer were chosen already")
        found = select_layers(module, self, heads, output_layers=output_layers)
        layers = [layer for layer in found if isinstance(layer.owner, nn.Linear) and isinstance(layer.weights, Part)]
        chosen = {id(layer.weight) for layer in layers}
        for group in list(self.param_groups):
            hidden = [p for p in group["params"] if id(p) in chosen]
            if hidden:
                group["params"] = [p for p in group["params"] if id(p) not in chosen]
                self.param_groups.append({"params": hidden, **self.muon.defaults, "lr": group["lr"]})
                for weight in hidden:
                    self.state.pop(weight, None)
        if not layers:
            warn(f"muon: {type(module).__name__} has no hidden Linear layer that it could train; all is left to Adam")
        return [layer.name for layer in layers]

    def update_(self) -> None:
        for part, hidden in ((self.adam, False), (self.muon, True)):
            part.param_groups = [group for group in self.param_groups if ("ns_steps" in group) == hidden]
            part.state = self.state
            part.step()

    def scalars(self) -> dict[str, Tensor]:
        """``momentum``: the largest Frobenius norm of Muon's momentum buffers."""
        states = [self.state[p] for group in self.param_groups if "ns_steps" in group for p in group["params"]]
        kept = [state["momentum_buffer"] for state in states if "momentum_buffer" in state]
        return {"momentum": torch.stack(torch._foreach_norm(kept)).max()} if kept else {}
