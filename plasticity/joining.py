"""How a penalty's gradient joins the task's: as the optimizer steps, or in the backward pass, as a loss term's does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from neoteny.plasticity.notice import warn

#: after-clipping: just before the optimizer steps. in-loss: with the backward pass, so that clipping sees the sum.
Joins = Literal["after-clipping", "in-loss"]


class _ZeroGrad:
    """Takes the place of an optimizer's ``zero_grad`` while there are hooks to call after it."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.replaced = vars(optimizer).get("zero_grad")
        self.zero_grad = optimizer.zero_grad
        self.hooks: list[ZeroGradHook] = []
        optimizer.zero_grad = self  # type: ignore[method-assign]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.zero_grad(*args, **kwargs)
        for hook in list(self.hooks):
            hook.call()

    def remove(self, hook: ZeroGradHook) -> None:
        if hook in self.hooks:
            self.hooks.remove(hook)
        if not self.hooks and vars(self.optimizer).get("zero_grad") is self:
            del self.optimizer.zero_grad
            if self.replaced is not None:
                self.optimizer.zero_grad = self.replaced


class ZeroGradHook:
    """Calls a function after each ``optimizer.zero_grad()``, until it is removed. torch has hooks for ``step`` only.

    Like those it is not copied or pickled with the optimizer, and several may be removed in any order.
    """

    def __init__(self, optimizer: Optimizer, call: Callable[[], None]):
        self.call = call
        current = optimizer.zero_grad
        self._place = current if isinstance(current, _ZeroGrad) else _ZeroGrad(optimizer)
        self._place.hooks.append(self)

    def remove(self) -> None:
        self._place.remove(self)


class InLoss:
    """Adds a penalty's gradient at the end of the first backward pass after each ``optimizer.zero_grad()``.

    For the sum of the gradients, and so for clipping, this is the same as a term in the loss. Further passes before the
    step belong to the same update. Passes after a step and before ``zero_grad`` do not count, since their gradients are
    discarded (SAC's loss of the actor reaches the critic too).

    Args:
        name: the penalty's, for messages.
        optimizer: trains the network.
        add: adds the penalty's gradient to the gradients.
    """

    def __init__(self, name: str, optimizer: Optimizer, add: Callable[[], None]):
        self._name, self._optimizer, self._add = name, optimizer, add
        self._due, self._joined = True, False  # at once: some loops call zero_grad after the step
        self._warned = False
        self._start = ZeroGradHook(optimizer, self._begin)
        self._watched: dict[int, RemovableHandle] = {}
        self._watch()

    def _watch(self) -> None:
        """Hook the optimizer's parameters, also those added or unfrozen since."""
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                if p.requires_grad and id(p) not in self._watched:
                    self._watched[id(p)] = p.register_post_accumulate_grad_hook(self._arrived)

    def remove(self) -> None:
        self._start.remove()
        for handle in self._watched.values():
            handle.remove()

    def _begin(self) -> None:
        self._due, self._joined = True, False
        self._watch()

    def _arrived(self, _: Tensor) -> None:
        """A gradient was written. If it is the first of an update, add the penalty's once all are."""
        if self._due:
            self._due, self._joined = False, True
            at_end = Variable._execution_engine.queue_callback
            at_end(lambda: at_end(self._add))  # twice: after DistributedDataParallel has written its averages

    def joined(self) -> bool:
        """Whether the gradient was added since the last call. Warns, once, if not.

        Raises:
            ValueError: the loss was scaled, and the added gradient was not.
        """
        if under_scaler():
            raise ValueError(
                "joins: in-loss does not work with a GradScaler, which divides the penalty's gradient by the loss's "
                "scale; use after-clipping"
            )
        was, self._due, self._joined = self._joined, False, False
        if not was and not self._warned:
            self._warned = True
            warn(
                f"{self._name}: joins is in-loss, but the optimizer steps without a backward pass after its "
                "zero_grad() (gradients are cleared or written in another way), so the penalty joins after clipping"
            )
        return was


def under_scaler() -> bool:
    """Whether an enabled ``GradScaler`` makes this step. Most optimizers are not told, so the stack is searched."""
    frame: FrameType | None = sys._getframe()
    while frame := frame.f_back if frame else None:
        if frame.f_code is torch.amp.GradScaler.step.__code__:
            return bool(frame.f_locals["self"].is_enabled())
    return False


def is_nested(optimizer: Optimizer) -> bool:
    """Whether the step under way was called by another step of the same optimizer.

    torch calls the hooks once for each class whose ``step`` is called: twice where a subclass calls ``super().step()``.
    """
    if sum("step" in vars(cls) for cls in type(optimizer).__mro__) <= 2:  # its own, and that of Optimizer
        return False
    hooked, steps = type(optimizer).step.__code__, 0
    frame: FrameType | None = sys._getframe()
    while frame := frame.f_back if frame else None:
        steps += frame.f_code is hooked and frame.f_locals["args"][0] is optimizer
    return steps > 1


def is_skipped(optimizer: Optimizer) -> bool:
    """Whether a GradScaler has found gradients that are not finite, and the step will change nothing.

    Other optimizers are not called then; those that unscale on their own (``fused=True``) are, and told.
    """
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


@torch.no_grad()
def unscale_(optimizer: Optimizer) -> None:
    """Divide the gradients by a GradScaler's scale, where the optimizer would do that itself inside ``step``.

    ``GradScaler.step`` unscales beforehand, except for optimizers that can do it on their own (``fused=True``), which
    it gives the scale as ``grad_scale``. A penalty that joins before that would be divided by it.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    torch._foreach_div_(gradients, scale.to(gradients[0].device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]
