"""Layer reset: re-initializes the last layers.

Nikishin, Schwarzer, D'Oro, Bacon & Courville, "The Primacy Bias in Deep Reinforcement Learning", ICML 2022 (arXiv
2205.07802).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from neoteny.plasticity.layers import Layer
from neoteny.plasticity.resets.initial import draw, fresh
from neoteny.plasticity.resets.occasional import Occasional
from neoteny.plasticity.resets.units import UnitMethod, forget_
from neoteny.plasticity.survey import Heads


@dataclass(kw_only=True, eq=False)
class LayerReset(Occasional, UnitMethod):
    """Re-initializes the last k layers, with biases, the norms after them, and their optimizer state.

    The number of layers between a layer and the output is that of the longest route in the training passes so far. A
    network with several outputs (actor and critic) has several last layers. New weights are drawn like the initial
    ones: orthogonal if those were, else uniform with the same mean square. The target networks of DQN and SAC follow by
    their usual updates; the paper resets them too.

    Cost: a look at each layer's input in training passes, for new routes.

    Attributes:
        heads: ``include`` by default, so that the output layer counts as the last layer.
        last: k, the number of layers to reset; all if there are fewer. The paper resets 1 in DQN-like agents that learn
            from images, and all in SAC.

    Raises:
        ValueError: ``last`` is not an integer of at least 1.
    """

    name: ClassVar[str] = "layer-reset"

    heads: Heads = "include"
    last: int = 1
    _heights: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _own_norms: list[Layer] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.last >= 1 or self.last % 1:
            raise ValueError(f"last: an integer of at least 1 is needed, got {self.last}")

    def setup(self) -> None:
        self._own_norms = [layer for layer in self.layers if layer.is_norm]
        super().setup()
        self._heights = {layer.name: torch.tensor(-1) for layer in [*self.layers, *self._own_norms]}

    def rewired(self) -> None:
        heights = self.wiring.heights(set(self._heights))
        for layer in self.layers:
            if layer.name in heights:
                for name in (layer.name, *(norm.name for norm in self.norms_of(layer))):
                    if name in self._heights:
                        self._heights[name].clamp_(min=heights[layer.name])  # routes seen before loading count too

    def watching(self) -> bool:
        return False

    def acting(self) -> bool:
        return self.every > 0 or self.at_switch

    def refusals(self) -> dict[str, str]:
        """Layers of other types, and those that no pass has called; a whole layer may be summed with others."""
        found = super().refusals()
        return {name: why for name, why in found.items() if name in self._refused or name not in self.wiring.successors}

    def act(self) -> None:
        """Re-initialize the last layers that have been used and are not frozen."""
        for layer in [*self.layers, *self._own_norms]:
            if 0 <= int(self._heights[layer.name]) < self.last and layer.weight.requires_grad:
                for parameter, value in self._anew(layer):
                    parameter.copy_(value)
                    forget_(self.optimizer, parameter)
                self._resets += 1

    def _anew(self, layer: Layer) -> list[tuple[Tensor, Tensor]]:
        if layer.is_norm:
            new = [torch.ones_like(layer.weight), torch.zeros_like(layer.weight)]
        else:
            scale = self._scales[layer.name]
            weight = fresh(layer.weight.shape, scale, self.generator, layer.weight)
            new = [weight, draw((len(weight),), scale[1], self.generator, weight)]
        pairs = zip((layer.weight, layer.bias), new, strict=True)
        return [(p, value) for p, value in pairs if p is not None and p.requires_grad]

    def state(self) -> dict[str, Tensor]:
        heights = {f"height.{name}": height for name, height in self._heights.items()}
        return super().state() | heights
