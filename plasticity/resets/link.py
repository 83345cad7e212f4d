"""Where the units of one layer enter another."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from neoteny.plasticity.views import MATRICES


@dataclass(frozen=True)
class Link:
    """Where the units of one layer enter the input of another.

    Attributes:
        name: name of the layer that receives the units.
        consumer: that layer, a Linear or a convolution.
        units: the number of units.
        offset: index of the first unit's first input.
        repeat: inputs per unit: the positions of a flattened feature map, else 1.
    """

    name: str
    consumer: nn.Module
    units: int
    offset: int
    repeat: int

    def outgoing(self, tensor: Tensor) -> Tensor:
        """The part of ``tensor`` (shaped like the consumer's weight) that belongs to the units, as a view.

        (out, in, *kernel) → (out, units, repeat, *kernel)
        """
        return tensor.narrow(1, self.offset, self.units * self.repeat).unflatten(1, (self.units, self.repeat))

    def activations(self, inputs: Tensor) -> Tensor:
        """The units' activations, from the consumer's input: (samples, units, positions)."""
        if isinstance(self.consumer, nn.Linear):
            inputs = inputs.reshape(-1, inputs.shape[-1])
        elif unit_axis(self.consumer, inputs.ndim) == 0:  # a single sample
            inputs = inputs.unsqueeze(0)
        return inputs.narrow(1, self.offset, self.units * self.repeat).reshape(len(inputs), self.units, -1)

    def overlaps(self, offset: int, span: int) -> bool:
        return offset < self.offset + self.units * self.repeat and self.offset < offset + span


def is_plain(module: nn.Module) -> bool:
    """Whether this is a Linear layer or a convolution whose weight is its own parameter (not a parametrized one).

    One with further parameters (the noise of a noisy layer) is not: they may carry a unit's output too.
    """
    own = {name for name, parameter in module._parameters.items() if parameter is not None}
    return isinstance(module, MATRICES) and "weight" in own <= {"weight", "bias"}


def unit_axis(module: nn.Module, ndim: int) -> int:
    """The axis of a layer's input or output of ``ndim`` axes along which inputs or units lie."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return ndim + 1 - weight.ndim
