"""Self-normalized resets: resets units that have been silent for unusually long.

Farias & Jozefiak, "Self-Normalized Resets for Plasticity in Continual Learning", ICLR 2025 (arXiv 2410.20098).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Layer
from neoteny.plasticity.resets.units import UnitMethod
from neoteny.plasticity.schedule import check_every, due, new_counter

#: Inter-firing times are counted in bins (2^(b−1), 2^b] updates, b = 0, 1, ….
BINS = 24


def silence_threshold(histogram: Tensor, eta: float, patience: int) -> Tensor:
    """The (1 − η) quantile of each unit's inter-firing times, rounded up to a power of two.

    Args:
        histogram: counts of the times 1, 2, 3–4, 5–8, …; (units, bins).
        eta: η. With fewer than 1 / η recorded times the quantile cannot be estimated.
        patience: the threshold of units with fewer recorded times.

    Returns:
        The thresholds in updates, (units).
    """
    total = histogram.sum(1, keepdim=True)
    bins = (histogram.cumsum(1) < (1 - eta) * total).sum(1)
    return torch.where(total[:, 0] * eta >= 1, 2.0**bins, float(patience))


@dataclass(kw_only=True, eq=False)
class SelfNormalizedResets(UnitMethod):
    """A unit is reset when the time since it last fired exceeds the (1 − η) quantile of its inter-firing times.

    This tests, at level η, the hypothesis that the unit still fires as before. Each unit is compared with its own past,
    so a unit that fires rarely is not taken for dead. A unit fires in an update if it is positive for any input of the
    forward passes since the last update. This is meant for activations that are 0 when off, such as ReLU.

    Approximations of this implementation, not of the paper: the distribution is a histogram with bins in powers of two,
    and its quantile is rounded up; a unit with fewer than 1/η recorded times may be silent for ``patience`` updates; a
    reset clears the unit's histogram; and units are tested every N updates instead of at each. Times are in updates,
    and firing in two successive updates is a time of 1. The authors' code counts samples, leaves such times out of the
    quantile, and keeps every threshold at 100 samples or more; docs/methods.md lists all differences.

    Cost per update: the maximum of each unit's activations, and about six operations on one vector of all units.

    Attributes:
        eta: η, above 0 and below 1.
        every: updates between two tests; 0 for never.
        patience: updates of silence allowed for a unit with too few recorded times, at least 1.

    Raises:
        ValueError: a setting is out of range.
    """

    name: ClassVar[str] = "self-normalized-resets"

    eta: float = 0.01
    every: int = 64
    patience: int = 1000
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)
    _silent: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)
    _times: Tensor = field(default_factory=lambda: torch.zeros(0, BINS), init=False, repr=False)
    _seen: tuple[list[str], Tensor] = field(default_factory=lambda: ([], torch.zeros(0)), init=False, repr=False)

    def __post_init__(self) -> None:
        check_every(self.every)
        if not 0 < self.eta < 1:
            raise ValueError(f"eta: a number above 0 and below 1 is needed, got {self.eta}")
        if not self.patience >= 1 or self.patience % 1:
            raise ValueError(f"patience: an integer of at least 1 is needed, got {self.patience}")

    def setup(self) -> None:
        super().setup()
        units = sum(len(layer.weight) for layer in self.layers)
        self._silent = torch.zeros(units, device=self._resets.device)
        self._times = torch.zeros(units, BINS, device=self._resets.device)

    def watching(self) -> bool:
        return self.every > 0

    def blank(self, units: Tensor) -> Tensor:
        return torch.zeros_like(units, dtype=torch.bool)

    def observe(self, name: str, activations: Tensor) -> None:
        self.note(name, activations.amax((0, 2, 3)) > 0, torch.logical_or)

    def after_update(self) -> None:
        if noted := self.noted():
            self._record({name: fired for name, (fired, _) in noted.items()})
        if due(self._updates, self.every):
            tested = self._silent > silence_threshold(self._times, self.eta, self.patience)
            ready, reset = {layer.name for layer in self.ready()}, torch.zeros_like(tested)
            masks = {layer.name: mask for layer, mask in self._by_layer(tested)}
            for layer, part in self._by_layer(reset):
                part |= masks[layer.name] & (layer.name in ready)
            for layer in self.ready():
                self.reset_(layer, masks[layer.name])
            self._times.masked_fill_(reset[:, None], 0)
            self._silent.masked_fill_(reset, 0)

    def _by_layer(self, units: Tensor) -> Iterator[tuple[Layer, Tensor]]:
        return zip(self.layers, units.split([len(layer.weight) for layer in self.layers]), strict=True)

    def _record(self, noted: dict[str, Tensor]) -> None:
        """Count one more update of silence, and record the inter-firing times of the units that fired."""
        none = {layer.name: mask for layer, mask in self._by_layer(self._silent < 0)}
        fired = torch.cat([noted.get(name, none[name]) for name in none])
        if self._seen[0] != list(noted):
            seen = [torch.full((len(mask),), float(name in noted)) for name, mask in none.items()]
            self._seen = (list(noted), torch.cat(seen).to(self._silent))
        self._silent += self._seen[1]  # now the time since the last firing
        bins = self._silent.log2().ceil().clamp_(0, BINS - 1).long()
        self._times.scatter_add_(1, bins[:, None], fired[:, None].to(self._times))
        self._silent.masked_fill_(fired, 0)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"updates": self._updates, "silent": self._silent, "times": self._times}
