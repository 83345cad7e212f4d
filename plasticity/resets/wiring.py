"""Finds which layers feed which, from the autograd graph of a normal training pass.

Names and widths are not used: of two parallel hidden layers of 64 units, each feeds its own successor only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neoteny.plasticity.views import MATRICES

#: Operations between two layers that do not mix, add or reorder units, by their autograd names.
TRANSPARENT = frozenset(
    "Relu LeakyRelu Elu Selu Celu Gelu Silu Mish Tanh Sigmoid Softplus Hardtanh Hardswish Hardsigmoid Threshold Clamp "
    "ClampMin ClampMax Neg Abs Pow Sqrt Exp Sin Cos Add Sub Rsub Mul Div NativeDropout Clone ToCopy Alias View "
    "UnsafeView ReshapeAlias MaxPool2DWithIndices MaxPool3DWithIndices AvgPool2D AvgPool3D AdaptiveAvgPool2D "
    "NativeLayerNorm NativeGroupNorm NativeBatchNorm CudnnBatchNorm".split()
)
#: Maximum depth of the graph search; more than activation functions and similar operations need.
DEPTH = 100


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
            inputs = inputs.flatten(0, -2)
        return inputs.narrow(1, self.offset, self.units * self.repeat).reshape(len(inputs), self.units, -1)


@dataclass(frozen=True)
class Feed:
    """A layer that produces ``span`` inputs from ``offset`` on, with ``norms`` in between. If not ``plain``, its units
    are mixed, added or reordered on the way."""

    name: str
    offset: int
    span: int
    norms: tuple[str, ...]
    plain: bool


def feeds(
    node: Any, known: dict[Any, tuple[str, bool]], offset: int, span: int, norms: tuple[str, ...] = (), depth: int = 0
) -> Iterator[Feed]:
    """The layers that directly feed the autograd ``node``, without those before them.

    Args:
        node: the ``grad_fn`` of a layer's input.
        known: maps the ``grad_fn`` of each layer's output to its name and whether it is a normalization layer.
        offset, span: the range of inputs to search for.
    """
    if node is None or depth > DEPTH:
        return
    name, is_norm = known.get(node, ("", True))
    if not is_norm:
        yield Feed(name, offset, span, norms, True)
        return
    if name:
        norms = (*norms, name)
    kind = re.sub(r"Backward\d*$", "", node.name())
    if kind == "Cat" and (pieces := list(_pieces(node, offset, span))):
        for parent, first, size in pieces:
            yield from feeds(parent, known, first, size, norms, depth + 1)
        return
    found = [list(feeds(parent, known, offset, span, norms, depth + 1)) for parent, _ in node.next_functions]
    found = [some for some in found if some]
    clear = kind in TRANSPARENT and len(found) == 1
    for feed in (feed for some in found for feed in some):
        yield Feed(feed.name, feed.offset, feed.span, feed.norms, feed.plain and clear)


def _pieces(node: Any, offset: int, span: int) -> Iterator[tuple[Any, int, int]]:
    """The parents of a concatenation along axis 1, with the inputs from each; nothing for another axis."""
    whole = tuple(node._input_metadata[0].shape)
    shapes = [tuple(p._input_metadata[i].shape) if p is not None else None for p, i in node.next_functions]
    if any(s is not None and (s[:1] + s[2:] != whole[:1] + whole[2:]) for s in shapes) or span % whole[1]:
        return
    if shapes.count(None) > 1:  # the graph has no widths of parts without gradient: use the parts before them
        shapes, node_parents = shapes[: shapes.index(None)], node.next_functions[: shapes.index(None)]
    else:
        node_parents = node.next_functions
    rest = whole[1] - sum(s[1] for s in shapes if s is not None)
    for (parent, _), shape in zip(node_parents, shapes, strict=True):
        size = (shape[1] if shape is not None else rest) * span // whole[1]
        yield parent, offset, size
        offset += size


def link_of(feed: Feed, producer: nn.Module, name: str, consumer: nn.Module, inputs: Tensor) -> Link | None:
    """How the units of ``feed`` enter ``consumer``; None if their outgoing weights cannot be determined."""
    if not (feed.plain and isinstance(consumer, MATRICES)):
        return None
    units, flattened = len(producer.weight), isinstance(consumer, nn.Linear)  # type: ignore[arg-type]
    convolved = not isinstance(producer, nn.Linear)
    if flattened:
        fits: bool = feed.span % units == 0 and (inputs.ndim == 2 if convolved else feed.span == units)
    else:
        fits = convolved and feed.span == units and bool(consumer.groups == 1)
    return Link(name, consumer, units, feed.offset, feed.span // units) if fits else None
