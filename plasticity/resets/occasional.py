"""Base class of methods that act at task switches, at every N-th update, or both."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from neoteny.plasticity.method import Method
from neoteny.plasticity.schedule import check_every, due, new_counter


@dataclass(kw_only=True, eq=False)
class Occasional(Method):
    """A method that runs :meth:`act` at task switches, at every N-th update, or both.

    Attributes:
        every: act after every N-th update; 0 (the default) to act at switches only.
        at_switch: whether to act at task switches.

    Raises:
        ValueError: ``every`` is not an integer of at least 0.
    """

    every: int = 0
    at_switch: bool = True
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)

    def __post_init__(self) -> None:
        check_every(self.every)

    def act(self) -> None:
        """What to do. Called under ``torch.no_grad``."""
        raise NotImplementedError

    def after_step(self) -> None:
        super().after_step()
        if due(self._updates, self.every):
            self._act()

    def on_switch(self) -> None:
        super().on_switch()
        if self.at_switch:
            self._act()

    @torch.no_grad()
    def _act(self) -> None:
        self.act()

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"updates": self._updates}
