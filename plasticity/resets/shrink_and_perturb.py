"""Shrink-and-perturb: scales the weights down and adds newly initialized ones, scaled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neoteny.plasticity.layers import Computed, Part
from neoteny.plasticity.resets.initial import another_draw
from neoteny.plasticity.resets.occasional import Occasional
from neoteny.plasticity.resets.units import forget_
from neoteny.plasticity.schedule import new_counter
from neoteny.plasticity.survey import Heads


@dataclass(kw_only=True, eq=False)
class ShrinkAndPerturb(Occasional):
    """p ← a·p + b·p', with p' a new draw from the layer's initial distribution, at switches or every N updates.

    Ash & Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020 (arXiv 1910.08475), who add Gaussian noise.
    Here the noise has each layer's initial scale, so one b fits all layers, as in D'Oro et al., ICLR 2023, who
    interpolate with b = 1 − a. The initial distribution is estimated from the weights when attached, see
    :func:`~neoteny.plasticity.resets.initial.another_draw`; this is correct for independent and for orthogonal weights
    of any gain. Scales and shifts of normalization layers change too, towards 1 and 0 if these were their initial
    values.

    The optimizer state (moments and step count) of exactly the changed parameters is reset, as at a new round in the
    paper. For small changes at nearly every update, use ``keep`` instead.

    Cost: one copy of the weights in memory; no cost at other updates.

    Attributes:
        shrink: a, from 0 to 1.
        perturb: b, at least 0.
        moments: ``reset`` or ``keep`` the optimizer's moments.

    Raises:
        ValueError: a setting is out of range.
    """

    name: ClassVar[str] = "shrink-and-perturb"

    heads: Heads = "include"
    shrink: float = 0.8
    perturb: float = 0.2
    moments: Literal["reset", "keep"] = "reset"
    _initial: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _times: Tensor = field(default_factory=new_counter, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.shrink <= 1:
            raise ValueError(f"shrink: a number from 0 to 1 is needed, got {self.shrink}")
        if not 0 <= self.perturb < float("inf"):
            raise ValueError(f"perturb: a finite number of at least 0 is needed, got {self.perturb}")
        if self.moments not in ("reset", "keep"):
            raise ValueError(f"moments: 'reset' or 'keep' is needed, got {self.moments!r}")
        super().__post_init__()

    def setup(self) -> None:
        self._initial = {
            name: part.value.detach().clone(memory_format=torch.contiguous_format)
            for name, part in self._named().items()
        }

    def _named(self) -> dict[str, Part | Computed]:
        return {name: part for layer in self.layers for name, part in layer.parts.items()}

    def act(self) -> None:
        """Shrink and perturb now."""
        self._times += 1
        for name, part in self._named().items():
            if part.live:
                another = another_draw(self._initial[name], self.generator)
                part.value.mul_(self.shrink).add_(another, alpha=self.perturb)
                if self.moments == "reset":
                    for parameter in part.parameters:
                        forget_(self.optimizer, parameter)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"times": self._times, **self._initial}

    def scalars(self) -> dict[str, Tensor]:
        return {"perturbations": self._times}
