"""When a reset of the whole network happens: at task switches, at every N-th update, or both."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from neoteny.plasticity.method import Method
from neoteny.plasticity.schedule import check_every, due, new_counter


@dataclass(kw_only=True, eq=False)
class Occasional(Method):
    """A method that does one thing, :meth:`act`, now and then.

    Attributes:
        every: act after every N-th update; 0 (the default) for none but those at switches.
        at_switch: whether a switch is an occasion.

    Raises:
        ValueError: ``every`` is no integer of at least 0.
    """

    every: int = 0
    at_switch: bool = True
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)

    def __post_init__(self) -> None:
        check_every(self.every)

    def act(self) -> None:
        """What is done. Called without gradients."""
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
