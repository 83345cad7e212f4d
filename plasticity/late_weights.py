"""Warns of weights that a method misses because they began to be trained after it was attached."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from neoteny.plasticity.notice import warn
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
        self.held = self._held()
        self.stepping = False
        _watch_all_optimizers(self)

    def _held(self) -> list[int]:
        return [id(p) for group in self.optimizer.param_groups for p in group["params"]]

    def begin_step(self) -> None:
        """The method's optimizer is about to step."""
        self.stepping = True
        if self.held == (held := self._held()):
            return
        self.held = held
        now, before = self.look(), {layer.name: layer for layer in self.known.layers}
        known = before.keys() | self.known.others.keys()
        late = [name for name in (*(layer.name for layer in now.chosen), *now.others) if name not in known]
        kept = {layer.name: layer.weights.parameters for layer in now.layers}
        lost = [layer for layer in self.known.chosen if layer.name not in kept]
        late += [n for n, layer in before.items() if n in kept and not _same(kept[n], layer.weights.parameters)]
        self.known = now
        if late:
            self._warn(f"was attached before its optimizer got {', '.join(late)}, and does not act on them")
        if lost:
            names = ", ".join(layer.name for layer in lost)
            warn(f"{self.method} still acts on {names}, which its optimizer does not train any more")

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
        warn(f"{self.method} {what}. Attach a new instance to the optimizer that trains them, and remove() the old one")

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


def _same(ones: list[nn.Parameter], others: list[nn.Parameter]) -> bool:
    return [id(p) for p in ones] == [id(p) for p in others]
