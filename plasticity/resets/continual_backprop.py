"""Continual backprop: resets the least useful mature units, a few at a time.

Dohare, Hernandez-Garcia, Lan, Rahman, Mahmood & Sutton, "Loss of plasticity in deep continual learning", Nature 632,
2024 (arXiv 2306.13812).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Layer
from neoteny.plasticity.resets.link import Link
from neoteny.plasticity.resets.units import UnitMethod
from neoteny.plasticity.schedule import new_counter


@dataclass(kw_only=True, eq=False)
class ContinualBackprop(UnitMethod):
    """u_i ← η·u_i + (1 − η)·E|h_i|·Σ_k |w_ik|, and the units with the lowest utility are replaced at rate ρ.

    The utility of a unit that enters the next layer several times (CReLU) is the sum over these entries.

    Every update adds ρ times a layer's number of mature units to a count; when it reaches 1 or more, that many whole
    units are replaced. A new unit has freshly initialized incoming weights, outgoing weights of 0, and Adam moments of
    0. The old unit's mean activation f_i (a running average with the same η) is added to the next layer's bias:
    b ← b + Σ_i w_i·f_i. This is exact if the activation equals its mean; for a convolution the mean is over positions
    too. The expectation is over the forward passes since the last update. Utilities and means are bias-corrected.

    Cost per update: the mean and mean magnitude of the activations, and row sums of the outgoing weights. Maturity is
    counted on the host, so the device is synchronized only when new weights are copied to it.

    The authors' Adam has a step count per entry, torch's one per tensor: use equal betas. They use weight decay of 1e-4
    beside it. The bias correction, 1 − η^age, is 1 to rounding for all units older than ``maturity`` = 10,000, in their
    code as here. See docs/methods.md.

    Attributes:
        replacement_rate: ρ, from 0 (never) to 1.
        decay: η, at least 0 and below 1.
        maturity: number of updates during which a new unit cannot be replaced.

    Raises:
        ValueError: a setting is out of range.
    """

    name: ClassVar[str] = "continual-backprop"

    replacement_rate: float = 1e-4
    decay: float = 0.99
    maturity: int = 10_000
    _updates: Tensor = field(default_factory=new_counter, init=False, repr=False)
    _utility: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _mean: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _born: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _owed: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _mature: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _young: dict[str, deque[tuple[int, int]]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.replacement_rate <= 1:
            raise ValueError(f"replacement_rate: a number from 0 to 1 is needed, got {self.replacement_rate}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: a number of at least 0 and below 1 is needed, got {self.decay}")
        if not self.maturity >= 0 or self.maturity % 1:
            raise ValueError(f"maturity: an integer of at least 0 is needed, got {self.maturity}")

    def setup(self) -> None:
        super().setup()
        for layer in self.layers:
            zeros = layer.weight.detach().flatten(1)[:, 0] * 0
            self._utility[layer.name], self._mean[layer.name] = zeros, zeros[:, None].clone()
            self._born[layer.name] = torch.zeros_like(zeros, dtype=torch.int64)
            self._owed[layer.name] = torch.zeros((), dtype=torch.float64)
            self._mature[layer.name], self._young[layer.name] = 0, deque([(0, len(zeros))])

    def watching(self) -> bool:
        return self.replacement_rate > 0

    def blank(self, units: Tensor) -> Tensor:
        return torch.zeros_like(units).repeat(2, 1).unsqueeze(2)

    def observe(self, name: str, activations: Tensor) -> None:
        self.note(name, torch.stack([activations, activations.abs()]).mean((1, 4)))

    def after_update(self) -> None:
        self._updates += 1
        noted = self.noted()
        for layer in self.ready():
            if layer.name in noted:
                sums, passes = noted[layer.name]
                mean, magnitude = sums if passes == 1 else sums / passes
                if self._mean[layer.name].shape != mean.shape:  # how often a unit enters is only known now
                    self._mean[layer.name] = torch.zeros_like(mean)
                self._mean[layer.name].lerp_(mean, 1 - self.decay)
                worth = (magnitude * self._outgoing(layer, mean.shape[1])).sum(1)
                self._utility[layer.name].lerp_(worth, 1 - self.decay)
                if count := self._due(layer.name):
                    self._replace_(layer, count)

    def _by_consumer(self, layer: Layer) -> list[list[Link]]:
        """The links of a layer, grouped by consumer; a group has one link per time that a unit enters the consumer."""
        names = dict.fromkeys(link.name for link in self.wiring.links[layer.name])
        return [[link for link in self.wiring.links[layer.name] if link.name == name] for name in names]

    def _outgoing(self, layer: Layer, entries: int) -> Tensor:
        """Σ_k |w_ik| over all outgoing weights of each unit, (units, entries)."""
        sums = []
        for links in self._by_consumer(layer):
            parts = [link.outgoing(link.consumer.weight) for link in links]  # type: ignore[arg-type]
            each = torch.stack([part.abs().transpose(0, 1).flatten(1).sum(1) for part in parts], 1)
            sums.append(each if len(links) == entries else each.sum(1, keepdim=True) / entries)
        return sums[0] if len(sums) == 1 else sum(sums[1:], sums[0])

    def _due(self, name: str) -> int:
        """How many units of a layer to replace now."""
        now, young = int(self._updates), self._young[name]
        while young and now - young[0][0] > self.maturity:
            self._mature[name] += young.popleft()[1]
        self._owed[name] += self.replacement_rate * self._mature[name]
        count = min(int(self._owed[name]), self._mature[name])
        if count:
            self._owed[name] -= count
            self._mature[name] -= count
            young.append((now, count))
        return count

    def _replace_(self, layer: Layer, count: int) -> None:
        born, mean, utility = (kept[layer.name] for kept in (self._born, self._mean, self._utility))
        age = self._updates.to(born.device) - born
        start = 1 - self.decay ** age.to(mean)
        score = torch.where(age > self.maturity, utility / start, torch.inf)
        units = score.topk(count, largest=False).indices
        self._keep_mean_(layer, units, (mean / start[:, None])[units])
        self.reset_(layer, units)
        for kept, value in ((utility, 0), (mean, 0), (born, int(self._updates))):
            kept.index_fill_(0, units, value)

    def _keep_mean_(self, layer: Layer, units: Tensor, mean: Tensor) -> None:
        """Add the contribution of the units' ``mean`` activation, (units, entries), to the biases of the next layers.
        Layers that the units enter a different number of times than the observed layer are skipped."""
        for links in self._by_consumer(layer):
            bias: Tensor | None = links[0].consumer.bias  # type: ignore[assignment]
            if bias is not None and bias.requires_grad and len(links) == mean.shape[1]:
                for link, given in zip(links, mean.unbind(1), strict=True):
                    weights = link.outgoing(link.consumer.weight).transpose(0, 1)[units]  # type: ignore[arg-type]
                    bias += given @ weights.flatten(2).sum(2)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for kind, kept in (("mean", self._mean), ("notes", self._notes)):
            for name, mine in kept.items():
                saved = state.get(f"{kind}.{name}", mine)
                if saved.shape[:-1] == mine.shape[:-1]:  # how often a unit enters is only known after a pass
                    kept[name] = torch.zeros_like(saved, device=mine.device)
        super().load_state_dict(state)
        for name, born in self._born.items():
            now, counts = int(self._updates), sorted(Counter(born.tolist()).items())
            self._mature[name] = sum(count for step, count in counts if now - step > self.maturity)
            self._young[name] = deque((step, count) for step, count in counts if now - step <= self.maturity)

    def state(self) -> dict[str, Tensor]:
        kept = {"utility": self._utility, "mean": self._mean, "born": self._born, "owed": self._owed}
        tensors = {f"{kind}.{name}": t for kind, of in kept.items() for name, t in of.items()}
        return super().state() | {"updates": self._updates} | tensors
