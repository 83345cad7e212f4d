"""Warns of weights that a method misses because they began to be trained after it was attached."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from neoteny.plasticity.survey import Survey


class Watch:
    """Watches for late weights: a new parameter group, or another optimizer that steps a method's weights.

    A layer that was frozen when the method was attached is no late one: the method acts on it once it is trained.

    Args:
        method: the method's name.
        optimizer: the optimizer that it is attached to.
        known: what that optimizer trained then.
        look: makes a survey of what it trains now.
    """

    def __init__(self, method: str, optimizer: Optimizer, known: Survey, look: Callable[[], Survey]):
        self.method, self.optimizer, self.known, self.look = method, optimizer, known, look
        self.count = self._count()
        self.stepping = False
        _watch_all_optimizers(self)

    def _count(self) -> int:
        return sum(len(group["params"]) for group in self.optimizer.param_groups)

    def begin_step(self) -> None:
        """The method's optimizer is about to step."""
        self.stepping = True
        if self.count == (count := self._count()):
            return
        self.count = count
        now = self.look()
        known = {layer.name for layer in self.known.layers} | self.known.others.keys()
        late = [name for name in (*(layer.name for layer in now.chosen), *now.others) if name not in known]
        self.known = now
        if late:
            self._warn(f"was attached before its optimizer got {', '.join(late)}, and does not act on them")

    def end_step(self) -> None:
        """It has stepped."""
        self.stepping = False

    def meet(self, other: Optimizer) -> None:
        """``other`` has stepped, for the first time."""
        if other is self.optimizer or self.stepping:  # some optimizers are made of others
            return
        held = {id(p) for group in other.param_groups for p in group["params"]}
        layers = self.known.chosen
        shared = [
            layer.name or "its weight" for layer in layers if any(id(p) in held for p in layer.weights.parameters)
        ]
        if shared:
            self._warn(f"does not act when another optimizer ({type(other).__name__}) trains {', '.join(shared)}")

    def _warn(self, what: str) -> None:
        warnings.warn(
            f"{self.method} {what}. Attach a new instance to the optimizer that trains them, and remove() the old one",
            stacklevel=6,
        )

    def remove(self) -> None:
        """Stop watching."""
        _watches.discard(self)


_watches: weakref.WeakSet[Watch] = weakref.WeakSet()
_met: weakref.WeakSet[Optimizer] = weakref.WeakSet()
_hooks: list[Any] = []


def _watch_all_optimizers(watch: Watch) -> None:
    if not _hooks:
        _hooks.append(register_optimizer_step_post_hook(_on_step))
    _met.clear()
    _watches.add(watch)


def _on_step(optimizer: Optimizer, *_: Any) -> None:
    if optimizer not in _met:
        _met.add(optimizer)
        for watch in list(_watches):
            watch.meet(optimizer)
