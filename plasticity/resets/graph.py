"""Follows the units of layers through the autograd graph: which of a tensor's entries come from which layer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

#: Element by element on one tensor, by their autograd names.
ELEMENTWISE = frozenset(
    "Relu LeakyRelu Elu Selu Celu Gelu Silu Mish Tanh Sigmoid Softplus LogSigmoid Hardtanh Hardswish Hardsigmoid "
    "Softshrink Hardshrink Threshold RreluWithNoise PreluKernel Clamp ClampMin ClampMax Neg Abs Sqrt Rsqrt Reciprocal "
    "Sign Exp Expm1 Log Log1P Erf Sin Cos Atan Asinh NativeDropout MaskedFill Clone ToCopy Alias Expand".split()
)
#: Element by element, and two tensors give one entry that means both: gates and masks.
PRODUCTS = frozenset("Mul Div Pow".split())
#: Several tensors of which one entry each gives one entry of the result.
SUMS = frozenset("Add Sub Rsub Where Maximum Minimum Clamp".split())
#: Normalization called as a function; of its operands the first has the units.
NORMALIZED = frozenset("NativeLayerNorm NativeGroupNorm NativeBatchNorm CudnnBatchNorm MiopenBatchNorm".split())
VIEWS = frozenset("View UnsafeView ReshapeAlias Unsqueeze Squeeze AsStrided".split())
REDUCED = frozenset("Mean Sum Amax Amin Max Min".split())
#: Pooling, padding and resizing, along the last axes only: one for 1D, two for 2D.
SPATIAL = re.compile(
    r"((Max|Avg|AdaptiveAvg|AdaptiveMax|FractionalMax)Pool|Upsample\w+|(Reflection|Replication)Pad)([123])D(WithIndices)?$"
)
#: Longest chain of operations that is followed one by one.
DEPTH = 200

SUMMED, SPREAD = "summed with others", "spread over others"


class Tag(NamedTuple):
    """What stands at the ``grad_fn`` of a module's output.

    Attributes:
        name: the module's name.
        through: whether each output belongs to the input at the same place (normalization layers), not to the module.
        origin: the ``grad_fn`` of the input, and the number of the output of it, if ``through``.
    """

    name: str
    through: bool = False
    origin: tuple[Any, int] = (None, 0)


@dataclass(frozen=True)
class Place:
    """A tensor in the graph, along one axis of which the inputs [offset, offset + span) of a later layer lie.

    Attributes:
        node, index: the tensor is output ``index`` of the operation whose autograd node this is. None without gradient.
        axis: the axis.
        repeat: inputs per entry of the axis: the positions of a feature map that is flattened later.
        norms: normalization layers in between.
    """

    node: Any
    index: int
    axis: int
    offset: int
    span: int
    repeat: int = 1
    norms: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.node._input_metadata[self.index].shape)


@dataclass(frozen=True)
class Source:
    """Where inputs come from: a layer, or, with an empty ``name``, something without gradient.

    Attributes:
        name, axis: the layer, and the axis of its output along which the inputs lie, counted from the end.
        offset, span, repeat, norms: see :class:`Place`.
        problem: why these inputs are not units of the layer one by one; empty if they are.
    """

    name: str
    axis: int
    offset: int
    span: int
    repeat: int
    norms: tuple[str, ...] = ()
    problem: str = ""


class Graph:
    """The autograd graph, with tags of one ``owner`` at the nodes where modules end.

    Tags are kept in the nodes, so they live as long as the graph, and keep nothing alive.
    """

    def __init__(self) -> None:
        self._kinds: set[type] = set()

    def tag(self, output: Tensor, tag: Tag) -> None:
        node: Any = output.grad_fn
        if node is not None:
            self._kinds.add(type(node))
            node.metadata[self] = tag
            base: Any = output._base
            if base is not None and base.grad_fn is not None:  # the graph goes on from there if it is changed in place
                self._kinds.add(type(base.grad_fn))
                base.grad_fn.metadata[self] = tag

    def tag_of(self, node: Any) -> Tag | None:
        return node.metadata.get(self) if type(node) in self._kinds else None

    def signature(self, node: Any, limit: int = 16) -> tuple[Any, ...]:
        """The operations and modules that ``node`` directly comes from: equal for equal routes."""
        found: list[Any] = []
        nodes = [node]
        while nodes and len(found) < limit:
            node = nodes.pop()
            kind = type(node)
            if kind in self._kinds and (tag := node.metadata.get(self)):
                found.append(tag.name)
                if tag.through:
                    nodes.append(tag.origin[0])
            else:
                found.append(kind)
                if node is not None:
                    nodes += [parent for parent, _ in node.next_functions]
        return tuple(found) if len(found) < 4 else tuple(dict.fromkeys(found))

    def sources(self, at: Place, depth: int = 0) -> list[Source]:
        """Where the inputs at ``at`` come from, up to the nearest layers."""
        node = at.node
        if node is None or "AccumulateGrad" in node.name():
            return [Source("", at.axis, at.offset, at.span, at.repeat, at.norms)]
        if tag := self.tag_of(node):
            if not tag.through:
                return [Source(tag.name, at.axis - len(at.shape), at.offset, at.span, at.repeat, at.norms)]
            origin, index = tag.origin
            return self.sources(replace(at, node=origin, index=index, norms=(*at.norms, tag.name)), depth + 1)
        kind, operands = re.sub(r"Backward\d*$", "", node.name()), node.next_functions
        if depth > DEPTH:
            return self._spoiled([node], at, "too many operations on the way")
        if kind == "Cat" and node._saved_dim % 2**64 in (at.axis, (at.axis - len(at.shape)) % 2**64):
            return self._concatenated(at, depth)
        if (kind in SUMS and len(operands) > 1) or kind in ("Cat", "Stack"):
            return self._summed(at, kind, depth)
        written_in_place = kind.endswith("CopySlices") and len(operands) == 1
        if kind in ELEMENTWISE | PRODUCTS | SUMS or written_in_place:
            found = [s for parent, index in operands for s in self._operand(at, parent, index, depth)]
            return [s for s in dict.fromkeys(found) if s.name] or found[:1]
        if (moved := _moved(at, kind)) is not None:
            spoiled = self._spoiled([parent for parent, _ in operands[1:]], at, f"mixed with others by {kind}")
            return [*self.sources(moved, depth + 1), *spoiled]
        return self._spoiled([node], at, f"mixed with others by {kind}")

    def _operand(self, at: Place, parent: Any, index: int, depth: int) -> list[Source]:
        """The sources of an operand, whose shape is broadcast to that of the result."""
        there = replace(at, node=parent, index=index)
        if parent is None or "AccumulateGrad" in parent.name():
            return self.sources(there)
        shape, whole = there.shape, at.shape
        axis = at.axis - (len(whole) - len(shape))
        if axis < 0 or shape[axis] != whole[at.axis]:
            return self._spoiled([parent], at, SPREAD)
        return self.sources(replace(there, axis=axis), depth + 1)

    def _summed(self, at: Place, kind: str, depth: int) -> list[Source]:
        """Operands that share the inputs: fine only if the inputs are the same units in each."""
        parents = at.node.next_functions
        names = {frozenset(self.before([parent])) for parent, _ in parents}
        if len(names) > 1:
            return self._spoiled([at.node], at, SUMMED)
        if kind == "Stack":
            dim = _signed(at.node._saved_dim) % len(at.shape)
            if dim == at.axis:
                return self._spoiled([at.node], at, "stacked along the units")
            at = replace(at, axis=at.axis - (dim < at.axis))
            each = [self.sources(replace(at, node=parent, index=index), depth + 1) for parent, index in parents]
        else:
            each = [self._operand(at, parent, index, depth) for parent, index in parents]
        found = list(dict.fromkeys(source for some in each for source in some))
        named = [source for source in found if source.name]
        if not named or len({tuple(replace(source, norms=()) for source in some) for some in each}) == 1:
            return found
        return [replace(source, problem=source.problem or SUMMED) for source in named]

    def _concatenated(self, at: Place, depth: int) -> list[Source]:
        """Parts of the inputs each: the widths of parts without gradient are not in the graph, so that of several of
        them, what lies in between has no known place."""
        parents, whole = at.node.next_functions, at.shape[at.axis]
        widths = [None if p is None else replace(at, node=p, index=i).shape[at.axis] for p, i in parents]
        unknown = [i for i, width in enumerate(widths) if width is None]
        if len(unknown) == 1:
            widths[unknown[0]] = whole - sum(width or 0 for width in widths)
        first, last = (unknown[0], unknown[-1]) if len(unknown) > 1 else (len(widths), -1)
        found, start = [], 0
        for i, ((parent, index), width) in enumerate(zip(parents, widths, strict=True)):
            if first < i < last and parent is not None:
                found += self._spoiled([parent], at, "at an unknown place of a concatenation")
            if i > last and last >= 0 and i - 1 == last:
                start = whole - sum(w or 0 for w in widths[i:])
            if width is not None and not first <= i <= last:
                there = replace(at, node=parent, index=index)
                part = replace(there, offset=at.offset + start * at.repeat, span=width * at.repeat)
                found += self.sources(part, depth + 1)
                start += width
        return found

    def _spoiled(self, nodes: Iterable[Any], at: Place, problem: str) -> list[Source]:
        names = dict.fromkeys(self.before(nodes))
        return [Source(name, -1, at.offset, at.span, 1, at.norms, problem) for name in names]

    def before(self, nodes: Iterable[Any]) -> Iterator[str]:
        """The names of all layers that ``nodes`` directly come from."""
        open_, seen = [node for node in nodes if node is not None], set()
        while open_:
            node = open_.pop()
            if node in seen:
                continue
            seen.add(node)
            tag = self.tag_of(node)
            if tag is not None and not tag.through:
                yield tag.name
                continue
            parents = [tag.origin[0]] if tag is not None else [parent for parent, _ in node.next_functions]
            open_ += [parent for parent in parents if parent is not None]


def _signed(dim: int) -> int:
    """Autograd keeps negative axes as large positive numbers."""
    return dim - 2**64 if dim >= 2**63 else dim


def _moved(at: Place, kind: str) -> Place | None:
    """The place of the inputs before an operation on one tensor; None if it reorders or mixes them."""
    parent, index = at.node.next_functions[0] if at.node.next_functions else (None, 0)
    there = replace(at, node=parent, index=index)
    if kind in NORMALIZED:
        return there
    if parent is None or "AccumulateGrad" in parent.name():
        return there if kind in VIEWS | REDUCED else None
    shape, whole = there.shape, at.shape
    if kind == "AsStrided" and not _is_view(at.node):
        return None
    if kind in VIEWS:
        return _reshaped(there, shape, whole)
    if kind in REDUCED | {"Permute", "Transpose", "T", "Select", "Slice"}:
        axis = _axis_before(at, kind, len(shape))
    else:
        spatial = SPATIAL.match(kind)
        last = int(spatial[4]) if spatial else 0 if kind == "ConstantPadNd" else len(shape)
        axis = at.axis if at.axis < len(shape) - last else None
    if axis is None or shape[axis] != whole[at.axis]:
        return None
    return replace(there, axis=axis)


def _is_view(node: Any) -> bool:
    """Whether strides are those of a contiguous tensor: so autograd writes a view that was changed in place."""
    strides = [math.prod(node._saved_size[axis + 1 :]) for axis in range(len(node._saved_size))]
    return node._saved_storage_offset in (0, None) and list(node._saved_stride) == strides


def _axis_before(at: Place, kind: str, ndim: int) -> int | None:
    """The axis of the operand, of ``ndim`` axes, that became axis ``at.axis``."""
    node = at.node
    if kind == "T":
        return 1 - at.axis
    if kind == "Permute":
        return _signed(node._saved_dims[at.axis]) % ndim
    if kind == "Transpose":
        pair = [_signed(node._saved_dim0) % ndim, _signed(node._saved_dim1) % ndim]
        return pair[1 - pair.index(at.axis)] if at.axis in pair else at.axis
    dims = getattr(node, "_saved_dim", ())
    gone = [_signed(dim) % ndim for dim in (dims if isinstance(dims, tuple) else (dims,))]
    if not gone or (kind == "Slice" and at.axis in gone):
        return None
    if kind == "Slice" or (kind != "Select" and node._saved_keepdim):
        return at.axis if at.axis not in gone else None
    return [axis for axis in range(ndim) if axis not in gone][at.axis]


def _reshaped(there: Place, shape: tuple[int, ...], whole: tuple[int, ...]) -> Place | None:
    """Before a view from ``shape`` to ``whole``: the same axis elsewhere, or the first of several that were flattened.

    With axes of one entry there can be several answers, which only differ in name: the same axis is preferred.
    """
    size, before = whole[there.axis], math.prod(whole[: there.axis])
    starts = [axis for axis in range(len(shape)) if math.prod(shape[:axis]) == before]
    starts.sort(key=lambda axis: (axis != there.axis, shape[axis] == 1, -axis))
    for axis in [a for a in starts if shape[a] == size] + starts:
        for end in range(axis + 1, len(shape) + 1):
            if math.prod(shape[axis:end]) == size:
                return replace(there, axis=axis, repeat=there.repeat * math.prod(shape[axis + 1 : end]))
    return None
