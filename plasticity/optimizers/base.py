"""Code shared by our optimizers: the step method and checks of settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class StepByStep(Optimizer):
    """Base of our optimizers. Subclasses implement :meth:`update_`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: re-evaluates the loss and its gradients. Its result is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update_()
        return loss

    def update_(self) -> None:
        """Update the weights. Called under ``torch.no_grad``."""
        raise NotImplementedError


def check_fraction(setting: str, *values: float) -> None:
    """Raises:
    ValueError: a value is below 0, or 1 or more.
    """
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"{setting}: a number of at least 0 and below 1 is needed, got {value}")


def check_positive(setting: str, value: float, *, or_zero: bool = False) -> None:
    """Raises:
    ValueError: ``value`` is not finite, is negative or, unless ``or_zero``, is 0.
    """
    if not (0 < value < float("inf") or (or_zero and value == 0)):
        raise ValueError(f"{setting}: a finite number {'of at least' if or_zero else 'above'} 0 is needed, got {value}")
