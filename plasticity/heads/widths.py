"""Guesses which layers are output heads from the widths of blocks whose joints are unknown.

A block's *starts* are the layers that take its input, its *ends* those that give its output. Every end that a start of
another block can take is hidden, as long as there are enough such starts; the others are heads. Starts that no end
explains take the network's input, and so do all others of the same width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

#: Their input may be the features of a Linear layer, reshaped.
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: Only these can be heads.
HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
#: Taken as one layer each, with what is inside them. Never heads.
SEALED = (
    nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, nn.Transformer,
    nn.TransformerEncoder, nn.TransformerDecoder, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip

#: A width and what it counts: features, or channels of a convolution.
Width = tuple[Literal["features", "channels"], int]


@dataclass(frozen=True)
class Block:
    """A module whose inner wiring is known.

    Attributes:
        name: its dotted name.
        starts, ends: see above; dotted names.
        closed: the ends that an activation of hidden layers follows. They are no heads of the network.
        single: whether the block is one layer on its own.
    """

    name: str
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    closed: frozenset[str] = frozenset()
    single: bool = False


def guess(
    module: nn.Module, blocks: Sequence[Block], owners: Mapping[str, nn.Module]
) -> tuple[frozenset[str], dict[str, str]]:
    """The heads among the ends of ``blocks``, and how else doubtful layers could be read.

    Each end gets a start of its own, surely hidden ends first, then those registered first, except that an end whose
    block starts at the same width waits. An end without one is a head, doubtful if it could change places with another
    or if a layer that takes the network's input has its width (as many actions as observations).

    Args:
        module: the network.
        blocks: its parts, in the order of registration.
        owners: the modules with trained matrices, by dotted name.
    """
    joints = _Joints(module, blocks)
    sure = {end for end in joints.ends if not isinstance(owners.get(end.layer), HEADS) or end.layer in joints.closed}
    takers, unsure, others = joints.takers()
    order = sorted(joints.ends, key=lambda end: (end not in sure, joints.keeps_width(end)))
    given_to = _match(order, takers)
    names, doubtful = set(), {}
    for end in joints.ends:
        if end in sure:
            continue
        if end in given_to:
            if (end, given_to[end]) in unsure:
                doubtful[end.layer] = "an output head"
            continue
        names.add(end.layer)
        if may := [*takers.get(end, []), *others.get(end, [])]:
            doubtful[end.layer] = f"hidden, if {may[0].layer!r} takes its output"
    return frozenset(names), doubtful


def _match(ends: Iterable[_Port], takers: Mapping[_Port, Sequence[_Port]]) -> dict[_Port, _Port]:
    """As many ends as possible, the first ones first, each with a start of its own (augmenting paths)."""
    by_end: dict[_Port, _Port] = {}
    by_start: dict[_Port, _Port] = {}
    for new in ends:
        reached: dict[_Port, _Port] = {}  # starts, and the end that asks for each
        queue = [new]
        for end in queue:
            asked = [start for start in takers.get(end, []) if start not in reached]
            reached |= dict.fromkeys(asked, end)
            place: _Port | None = next((start for start in asked if start not in by_start), None)
            if place:
                while place:  # each end on the way moves on to the start it asked for
                    end = by_start[place] = reached[place]
                    left = by_end.get(end)
                    by_end[end] = place
                    place = left
                break
            queue += [by_start[start] for start in asked]
    return by_end


@dataclass(frozen=True)
class _Port:
    """A start or an end, and the number of its block."""

    layer: str
    block: int
    width: Width | None


#: How well a start fits an end, from bad to good: twice the features (a concatenated activation), a multiple of the
#: channels (flattened), the same width.
DOUBLE, MULTIPLE, EXACT = 1, 2, 3


class _Joints:
    """Which ends fit which starts.

    Attributes:
        fits: for each start, the ends of other blocks that it may take, with how well they fit.
        inputs: the starts that take the network's input: those that fit no end, and others of the same width. Where
            every start fits an end, so that a width must be chosen, that of the fewest starts.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[Block]):
        def port(name: str, number: int, width: Callable[[nn.Module], Width | None]) -> _Port:
            return _Port(name, number, width(module.get_submodule(name)))

        self.closed = {name for block in blocks for name in block.closed}
        self.singles = {name for block in blocks if block.single for name in block.starts}
        self.starts = [port(name, i, taken) for i, block in enumerate(blocks) for name in block.starts]
        self.ends = [port(name, i, given) for i, block in enumerate(blocks) for name in block.ends]
        transposed = {s for s in self.starts if isinstance(module.get_submodule(s.layer), TRANSPOSED)}
        self.fits = {s: {e: fit for e in self.ends if (fit := _fit(e, s, s in transposed))} for s in self.starts}
        self._double()
        self.inputs = self._inputs()

    def keeps_width(self, end: _Port) -> bool:
        """Whether the block of ``end`` starts at the same width."""
        return any(start.block == end.block and start.width == end.width for start in self.starts)

    def takers(self) -> tuple[dict[_Port, list[_Port]], set[tuple[_Port, _Port]], dict[_Port, list[_Port]]]:
        """For each end the starts that may take it, which of these are unsure, and starts that might but hardly do."""
        takers: dict[_Port, list[_Port]] = {}
        unsure: set[tuple[_Port, _Port]] = set()
        others: dict[_Port, list[_Port]] = {}
        free = self._free_inputs()
        square = {end for end in self.ends if self.keeps_width(end)}
        for start, found in self.fits.items():
            best = max(found.values(), default=EXACT)
            for end, fit in found.items():
                is_input = start in self.inputs
                if fit == best and (not is_input or (start in free and end in square and fit == EXACT)):
                    takers.setdefault(end, []).append(start)
                    if is_input or fit == DOUBLE:
                        unsure.add((end, start))
                else:
                    others.setdefault(end, []).append(start)
        return takers, unsure, others

    def _free_inputs(self) -> set[_Port]:
        """Layers of the input's width that may well come later: those on their own, if another one takes the input."""
        free = set()
        for width in {start.width for start in self.inputs}:
            same = [start for start in self.starts if start in self.inputs and start.width == width]
            alone = [start for start in same if start.layer in self.singles]
            free.update(alone if len(alone) < len(same) else alone[1:])
        return free

    def _inputs(self) -> set[_Port]:
        inputs = self._of_width({start.width for start, found in self.fits.items() if not found})
        while later := self._not_fed(inputs):
            widths = [start.width for start in later]
            inputs |= self._of_width({min(later, key=lambda s: (widths.count(s.width), len(self.fits[s]))).width})
        return inputs

    def _of_width(self, widths: set[Width | None]) -> set[_Port]:
        return {start for start in self.starts if start.width in widths}

    def _not_fed(self, inputs: set[_Port]) -> list[_Port]:
        """The starts of blocks that ``inputs`` do not reach."""
        fed = {end.block for end in self.ends} - {start.block for start in self.starts}  # constants, indices
        fed |= {start.block for start in inputs}
        while more := {s.block for s, found in self.fits.items() if any(end.block in fed for end in found)} - fed:
            fed |= more
        return [start for start in self.starts if start.block not in fed]

    def _double(self) -> None:
        """Let starts that nothing explains take two features per unit of an earlier block whose width no start has.

        Not if that leaves the network without an input, and not if the width is that of an input and an end side by
        side, as of an observation and an action.
        """
        unexplained = {start.width for start, found in self.fits.items() if not found and start.width}
        widths = {start.width for start in self.starts}
        idle = [end for end in self.ends if end.width and end.width not in widths]
        for width in list(unexplained):
            kind, count = width
            here = [start for start in self.starts if start.width == width]
            halves = {s: [e for e in idle if e.width == (kind, count / 2) and e.block < s.block] for s in here}
            if len(unexplained) > 1 and (kind, count / 2) not in unexplained and all(halves.values()):
                unexplained.remove(width)
                for start, ends in halves.items():
                    self.fits[start] = dict.fromkeys(ends, DOUBLE)


def _fit(end: _Port, start: _Port, transposed: bool) -> int:
    if end.block == start.block or end.width is None or start.width is None:
        return 0
    (kind, count), (wanted, number) = end.width, start.width
    if count == number and (kind == wanted or kind == "channels"):
        return EXACT
    flattened = kind == "channels" and wanted == "features" and number % count == 0
    shaped = kind == "features" and transposed and count % number == 0
    return MULTIPLE if flattened or shaped else 0


def given(layer: nn.Module) -> Width | None:
    """The width of a layer's output; None if unknown."""
    match layer:
        case nn.Linear():
            return "features", layer.out_features
        case nn.RNNBase():
            return "features", (layer.proj_size or layer.hidden_size) * (1 + layer.bidirectional)
        case nn.RNNCellBase():
            return "features", layer.hidden_size
        case nn.Embedding() | nn.EmbeddingBag():
            return "features", layer.embedding_dim
        case _ if isinstance(layer, HEADS):
            return "channels", layer.out_channels  # type: ignore[return-value]
    return _attention(layer)


def taken(layer: nn.Module) -> Width | None:
    """The width of a layer's input; None if unknown, or if the layer takes indices."""
    match layer:
        case nn.Linear():
            return "features", layer.in_features
        case nn.RNNBase() | nn.RNNCellBase():
            return "features", layer.input_size
        case nn.Embedding() | nn.EmbeddingBag():
            return None
        case _ if isinstance(layer, HEADS):
            return "channels", layer.in_channels  # type: ignore[return-value]
    return _attention(layer)


def _attention(layer: nn.Module) -> Width | None:
    found = [part.embed_dim for part in layer.modules() if isinstance(part, nn.MultiheadAttention)]
    return ("features", found[0]) if found and isinstance(layer, SEALED) else None
