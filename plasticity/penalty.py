"""The base class of penalties: methods that add the gradient of a term λ·R(θ)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from neoteny.plasticity.joining import InLoss, Joins
from neoteny.plasticity.layers import Computed, Part
from neoteny.plasticity.method import Method, Removable


@dataclass(kw_only=True, eq=False)
class Penalty(Method):
    """A regularizer λ·R(θ), whose gradient is added to the task's gradient at each update.

    By default it is added *after* gradient clipping. Its pull on the weights is then λ∇R(θ) whether or not the task's
    gradient was clipped: where that was divided by c, λ weighs c times as much against the task as in the loss. With
    ``joins="in-loss"`` the sum of both is clipped, exactly as if λ·R(θ) were added to the loss. Where nothing is
    clipped the two are the same.

    Attributes:
        strength: λ ≥ 0. At 0, training is bit for bit the same as without the penalty.
        joins: after-clipping adds the gradient just before the optimizer steps; in-loss adds it in the backward pass,
            so that clipping sees the sum. The same where nothing is clipped (SAC).

    Raises:
        ValueError: ``strength`` is negative or not finite, ``joins`` is none of these, or, when the optimizer steps,
            in-loss was chosen and a ``GradScaler`` scales the loss.
    """

    writes_weights: ClassVar[bool] = False

    strength: float = 1e-4
    joins: Joins = "after-clipping"
    _in_loss: InLoss | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength: a finite number of at least 0 is needed, got {self.strength}")
        if self.joins not in get_args(Joins):
            raise ValueError(f"joins: one of {', '.join(get_args(Joins))} is needed, got {self.joins!r}")

    def connect(self, module: nn.Module) -> list[Removable]:
        if self.joins == "after-clipping":
            return []
        self._in_loss = InLoss(self._label, self.optimizer, self._join)
        return [self._in_loss]

    def value(self) -> Tensor:
        """R(θ), without λ, as a differentiable scalar. :meth:`add_grad_` must add the gradient of exactly this."""
        raise NotImplementedError

    def add_grad_(self) -> None:
        """Add λ·∇R(θ) to the gradients. The default uses autograd; subclasses use a closed form where there is one.

        A closed form adds to ``part.grad`` of the :meth:`live_parts`.

        Raises:
            TypeError: :meth:`value` is no scalar that depends on weights.
        """
        if parameters := list({id(p): p for part in self.live_parts() for p in part.parameters}.values()):
            with torch.enable_grad():
                value = self.value()
            if not (isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad):
                got = f"a tensor of {[*value.shape]}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                got += " without a gradient" * (isinstance(value, Tensor) and not value.requires_grad)
                raise TypeError(f"{type(self).__name__}.value(): a scalar that depends on weights is needed, got {got}")
            gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(gradients_of(parameters), gradients, alpha=self.strength)

    def _join(self) -> None:
        if self.strength:
            with torch.no_grad():
                self.add_grad_()
                for computed in self._computed:
                    computed.settle_()

    def before_step(self) -> None:
        """Add the gradient, unless it joined in the backward pass."""
        if self.strength and not (self._in_loss and self._in_loss.joined()):
            self._join()

    def after_closure(self, loss: Any) -> Any:
        """The loss with λ·R(θ) added: a line search compares losses."""
        if not self.strength:
            return loss
        self.before_step()
        with torch.no_grad():
            return loss + self.strength * self.value() if isinstance(loss, (Tensor, float, int)) else loss

    def live_parts(self) -> list[Part | Computed]:
        """The weights and biases of :attr:`layers` that are not frozen at the moment."""
        return [part for layer in self.layers for part in layer.parts.values() if part.live]

    def trainable(self) -> list[Tensor]:
        """The tensors of :meth:`live_parts`: parameters, or views of a part of one."""
        return [part.value for part in self.live_parts()]


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of ``parameters``. A parameter without a gradient gets one of zeros, for the penalty to add to."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in parameters]  # type: ignore[misc]
