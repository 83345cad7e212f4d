"""What an optimizer trains in a network, and what a method does with each matrix of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from neoteny.plasticity.heads import output_heads
from neoteny.plasticity.layers import Layer, layers_of
from neoteny.plasticity.notice import warn

#: ``exempt`` skips output heads, ``include`` treats them like any other layer, a list names the layers that are heads.
Heads = Literal["exempt", "include"] | Sequence[str]

ACTED_ON = "acted on"
#: In the name of what plasticity injection adds beside a head, which is a head too.
INJECTED = re.compile(r"\.added\.\d+(?=\.)")


@dataclass(frozen=True)
class Survey:
    """What an optimizer trains in a module.

    Attributes:
        layers: every layer, those frozen at the moment included.
        heads: the names of those that count as output heads.
        others: parameters of matrix shape that belong to no layer, by name, with the type of their module.
        question: what to tell the user if it is doubtful which layers are heads, else empty.
    """

    layers: list[Layer] = field(default_factory=list)
    heads: frozenset[str] = frozenset()
    others: dict[str, tuple[nn.Parameter, str]] = field(default_factory=dict)
    question: str = ""

    @property
    def chosen(self) -> list[Layer]:
        """The layers that are not heads."""
        return [layer for layer in self.layers if layer.name not in self.heads]

    def sizes(self) -> dict[str, int]:
        """The number of weights of each matrix that is not frozen at the moment."""
        layers = {layer.name: layer.weight for layer in self.layers if not layer.is_norm and layer.weights.live}
        others = {name: parameter for name, (parameter, _) in self.others.items() if parameter.requires_grad}
        return {name: weight.numel() for name, weight in (layers | others).items()}

    def coverage(self, acted_on: set[str], refusals: Mapping[str, str]) -> dict[str, str]:
        """What is done with each matrix, by name, given the layers acted on and why others are not."""
        found = {}
        for layer in self.layers:
            if layer.is_norm:
                continue
            what = ACTED_ON if layer.name in acted_on else "no layer for this method"
            what = "output head" if layer.name in self.heads else refusals.get(layer.name, what)
            found[layer.name] = what if layer.weights.live else "frozen"
        for name, (parameter, kind) in self.others.items():
            found[name] = f"not supported ({kind})" if parameter.requires_grad else "frozen"
        return found

    def gaps(self, refusals: Mapping[str, str]) -> str:
        """The matrices that are left out for another reason than ``heads``, and their share, as text; or nothing."""
        sizes = self.sizes()
        named = dict(refusals) | {name: kind for name, (_, kind) in self.others.items()}
        found = {name: why for name, why in named.items() if name in sizes}
        if not found:
            return ""
        share = sum(sizes[name] for name in found) / sum(sizes.values())
        listed = ", ".join(f"{name} ({why})" for name, why in list(found.items())[:5])
        return f"{share:.1%} of the weights: {listed}" + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def survey(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    heads: Heads = "exempt",
    only: Callable[[str], bool] | None = None,
    output_layers: Collection[str] | None = None,
) -> Survey:
    """Look through a module for what ``optimizer`` trains.

    Networks that the optimizer does not hold (target networks) are left out.

    Args:
        module: searched with all its submodules.
        optimizer: only its parameters count.
        heads: what to do with output heads.
        only: a filter on the names of modules.
        output_layers: the output heads, if known; None to find them, see :mod:`neoteny.plasticity.heads`.

    Raises:
        ValueError: ``heads`` or ``output_layers`` names a layer that does not exist.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    layers = []
    for layer in layers_of(module):
        if any(id(p) in held for p in layer.weights.parameters):
            biases = layer.biases if layer.biases is not None and id(layer.biases.parameter) in held else None
            layers.append(dataclasses.replace(layer, biases=biases))
    skipped, question = _heads(module, layers, heads, only, output_layers)
    known = {id(p) for layer in layers for part in layer.parts.values() for p in part.parameters}
    others = {}
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        if id(parameter) in held - known and is_matrix(parameter) and (only is None or only(owner)):
            others[name] = (parameter, type(module.get_submodule(owner)).__name__)
    return Survey([layer for layer in layers if only is None or only(layer.module)], skipped, others, question)


def share(sizes: Mapping[str, int], coverage: Mapping[str, str]) -> float:
    """The share of the weights that is acted on, from the number in each matrix and what is done with it."""
    return sum(n for name, n in sizes.items() if coverage[name] == ACTED_ON) / max(1, sum(sizes.values()))


def is_matrix(parameter: Tensor) -> bool:
    """Whether at least two axes are longer than one."""
    return sum(size > 1 for size in parameter.shape) > 1


def select_layers(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    heads: Heads = "exempt",
    only: Callable[[str], bool] | None = None,
    output_layers: Collection[str] | None = None,
) -> list[Layer]:
    """The layers of ``module`` that ``optimizer`` trains, without those that ``heads`` skips. See :func:`survey`.

    Warns:
        UserWarning: ``heads`` is ``exempt``, and it is doubtful which layers are heads.
    """
    found = survey(module, optimizer, heads, only, output_layers)
    if found.question:
        warn(found.question)
    return found.chosen


def _heads(
    module: nn.Module,
    layers: Sequence[Layer],
    heads: Heads,
    only: Callable[[str], bool] | None,
    output_layers: Collection[str] | None,
) -> tuple[frozenset[str], str]:
    """The names of the layers that ``heads`` skips, and what to ask the user if they are in doubt."""
    owners, question = {layer.module: layer.owner for layer in layers}, ""
    if heads == "include":
        return frozenset(), ""
    if heads != "exempt":
        setting, named = "heads", {heads} if isinstance(heads, str) else set(heads)
    elif output_layers is not None:
        setting, named = "output_layers", set(output_layers)
    else:
        setting = "heads"
        choice = output_heads(module, {layer.module: layer.owner for layer in layers if not layer.is_norm})
        named, question = set(choice.names), choice.question(only)
    known = owners.keys() | {layer.name for layer in layers}
    if setting == "output_layers":  # also those that another optimizer trains
        known |= {name for name, _ in module.named_modules()}
    if unknown := sorted(named - known):
        raise ValueError(f"{setting}: there is no layer {unknown[0]!r}; the layers are {', '.join(owners)}")
    skipped = (layer.name for layer in layers if {layer.name, INJECTED.sub("", layer.module)} & named)
    return frozenset(skipped), question
