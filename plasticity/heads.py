"""Finds a network's output heads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from neoteny.plasticity.views import MATRICES

#: At the end of a ``Sequential`` these may squash an output (TD3's actions).
SQUASHES = (nn.Tanh, nn.Sigmoid, nn.Softmax, nn.LogSoftmax)


def output_heads(module: nn.Module, layers: dict[str, nn.Module]) -> set[str]:
    """The names of the module's output heads: the ``layers`` whose output feeds no other layer.

    A layer is not a head if more than a squashing function follows it in its ``Sequential`` or in an enclosing one. Nor
    is it a head if a layer registered later has an input width equal to its output width (for a convolution: a multiple
    of its channels), or twice that width where no earlier layer explains it (a concatenated activation).
    """
    matrices = {name: layer for name, layer in layers.items() if isinstance(layer, MATRICES)}
    order = list(matrices.values())
    taken = {
        name
        for i, (name, layer) in enumerate(matrices.items())
        if any(_takes(order[j], layer) or _takes_twice(order[j], layer, order[:j]) for j in range(i + 1, len(order)))
    }
    return {name for name in matrices if name not in taken and not _followed(module, name)}


def _followed(module: nn.Module, name: str) -> bool:
    path = name.split(".") if name else []
    for depth in range(len(path)):
        parent = module.get_submodule(".".join(path[:depth]))
        if isinstance(parent, nn.Sequential):
            later = list(parent)[list(parent._modules).index(path[depth]) + 1 :]
            if not all(isinstance(m, SQUASHES) for m in later):
                return True
    return False


def _takes(later: nn.Module, layer: nn.Module) -> bool:
    if isinstance(layer, nn.Linear):
        return isinstance(later, nn.Linear) and later.in_features == layer.out_features
    channels = layer.out_channels
    if isinstance(later, nn.Linear):
        return later.in_features % int(channels) == 0  # type: ignore[arg-type]
    return bool(later.in_channels == channels)


def _takes_twice(later: nn.Module, layer: nn.Module, before: Sequence[nn.Module]) -> bool:
    """Whether ``later`` takes two features per unit of ``layer``: its input width is twice the number of units, and
    neither a layer in ``before`` nor the network's own input explains that width."""
    linear = isinstance(layer, nn.Linear)
    if linear != isinstance(later, nn.Linear):
        return False
    inputs, outputs = ("in_features", "out_features") if linear else ("in_channels", "out_channels")
    explained = {getattr(other, outputs, None) for other in before} | {getattr(before[0], inputs, None)}
    width = getattr(later, inputs)
    return bool(width == 2 * getattr(layer, outputs) and width not in explained)
