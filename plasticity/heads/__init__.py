"""Which layers of a network are its output heads: read off a pass where one can be had, else guessed from the widths.

A Linear or convolutional layer is a head if no other layer takes its output, or if the network also returns the output
as it stands (a dynamics head whose prediction a reward net takes).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from neoteny.plasticity.heads.trace import trace
from neoteny.plasticity.heads.widths import HEADS, SEALED, Block, guess


@dataclass(frozen=True)
class HeadChoice:
    """The output heads of a network.

    Attributes:
        names: the heads.
        how: ``traced`` if the network's own pass shows them, ``guessed`` if structure and widths had to do.
        doubtful: by layer, how else it could be read. Empty where the choice is clear.
    """

    names: frozenset[str]
    how: Literal["traced", "guessed"]
    doubtful: dict[str, str] = field(default_factory=dict)

    def question(self, only: Callable[[str], bool] | None = None) -> str:
        """What to tell a user about the doubtful layers that pass the filter ``only``; empty if there is none."""
        read = [
            f"{name!r} was taken as {'an output head' if name in self.names else 'hidden'}, but may be {other}"
            for name, other in self.doubtful.items()
            if only is None or only(name)
        ]
        if not read:
            return ""
        if len(read) > 5:
            read[5:] = [f"and so on for {len(read) - 5} more"]
        return (
            f"heads: which layers are output heads was guessed from their widths, and is in doubt: {'; '.join(read)}. "
            f"To say it: heads={json.dumps(sorted(self.names))}, or whichever they are"
        )


def output_heads(module: nn.Module, owners: Mapping[str, nn.Module]) -> HeadChoice:
    """The output heads of ``module``.

    Where its ``forward`` can be followed without data and goes through all ``owners``, heads are read off it. Else
    this is done for its submodules, each of which is a block with layers that take its input (*starts*) and layers
    that give its output (*ends*), and the blocks are joined by their widths, see
    :mod:`neoteny.plasticity.heads.widths`.

    Args:
        module: the network. It is not touched.
        owners: the modules with trained matrices, by dotted name.
    """
    blocks = list(_blocks(module, owners))
    if [block.name for block in blocks] == [""]:
        return HeadChoice(frozenset(name for name in blocks[0].ends if isinstance(owners.get(name), HEADS)), "traced")
    names, doubtful = guess(module, blocks, owners)
    return HeadChoice(names, "guessed", doubtful)


def _blocks(module: nn.Module, owners: Mapping[str, nn.Module], name: str = "") -> Iterator[Block]:
    """The largest parts of ``module`` whose wiring can be traced, in the order of registration."""
    inside = {each for each in owners if _within(each, name)}
    if not inside:
        return
    if name in inside or isinstance(module, SEALED):
        yield Block(name, (name,), (name,), single=True)
        return
    seen = trace(module, list(owners.values()))
    hidden: frozenset[str] = frozenset()
    if seen is not None:
        ends = tuple(_join(name, end) for end in seen.ends)
        hidden = frozenset(_join(name, each) for each in seen.seen) - set(ends)
        through = {_join(name, each) for each in seen.whole}
        if not seen.dark.intersection(seen.ends) and all(
            each in hidden or each in ends or any(_within(each, layer) for layer in through) for each in inside
        ):
            starts = tuple(_start(module, owners, name, start) for start in seen.starts)
            yield Block(name, starts, ends, frozenset(_join(name, end) for end in seen.closed))
            return
    for part, child in module.named_children():
        for block in _blocks(child, owners, _join(name, part)):
            yield replace(block, closed=block.closed | hidden.intersection(block.ends))


def _start(module: nn.Module, owners: Mapping[str, nn.Module], name: str, start: str) -> str:
    """The layer that takes the input of ``start``: itself, or the first layer in what could not be looked into."""
    first = next(_blocks(module.get_submodule(start), owners, _join(name, start)), None)
    return first.starts[0] if first and first.starts else _join(name, start)


def _join(name: str, part: str) -> str:
    return ".".join(filter(None, (name, part)))


def _within(layer: str, name: str) -> bool:
    return not name or layer == name or layer.startswith(f"{name}.")
