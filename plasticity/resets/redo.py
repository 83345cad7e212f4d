"""ReDo: resets dormant units.

Sokar, Agarwal, Castro & Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023 (arXiv
2302.12902).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.metrics import dormant_units
from neoteny.plasticity.resets.units import UnitMethod
from neoteny.plasticity.schedule import check_every, due, new_counter


@dataclass(kw_only=True, eq=False)
class ReDo(UnitMethod):
    """Every N updates, a unit whose score s_i = E|h_i| / mean_j E|h_j| is at most τ is reset (definition 3.1).

    Incoming weights and bias are re-initialized, outgoing weights become 0, and Adam's moments of these entries are
    cleared. The expectation is over the forward passes of the one update after which units are reset, as in the paper,
    whose batches have 64 samples; all other updates only look at the routes of units. A layer in which all units are
    silent has no scores above 0, and is reset as a whole.

    Attributes:
        tau: τ ≥ 0.
        every: updates between two resets; 0 for never. The paper uses 1000.

    Raises:
        ValueError: ``tau`` is negative or not finite, or ``every`` is not an integer of at least 0.
    """

    name: ClassVar[str] = "redo"

    tau: float = 0.025
    every: int = 1000
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)
    _dormant: Tensor = field(default_factory=lambda: torch.zeros(()), init=False, repr=False)

    def __post_init__(self) -> None:
        check_every(self.every)
        if not 0 <= self.tau < float("inf"):
            raise ValueError(f"tau: a finite number of at least 0 is needed, got {self.tau}")

    def setup(self) -> None:
        super().setup()
        self._dormant = torch.zeros_like(self._resets)

    def watching(self) -> bool:
        return self.every > 0 and (int(self._updates) + 1) % self.every == 0

    def blank(self, units: Tensor) -> Tensor:
        return torch.zeros_like(units)

    def observe(self, name: str, activations: Tensor) -> None:
        self.note(name, activations.abs().sum((0, 2, 3)))

    def after_update(self) -> None:
        noted = self.noted()
        if due(self._updates, self.every):
            layers = [layer for layer in self.ready() if layer.name in noted]
            masks = [(layer, dormant_units(noted[layer.name][0], self.tau)) for layer in layers]
            for layer, mask in masks:
                self.reset_(layer, mask)
            if masks:
                self._dormant.copy_(torch.cat([mask for _, mask in masks]).float().mean())

    def scalars(self) -> dict[str, Tensor]:
        """``dormant``: the fraction of dormant units, as last measured."""
        return super().scalars() | {"dormant": self._dormant.clone()}

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"updates": self._updates, "dormant": self._dormant}
