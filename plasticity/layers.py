"""Selects the layers that a method acts on, by module type and never by weight shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from neoteny.plasticity.heads import output_heads

#: ``exempt`` skips output heads, ``include`` treats them like any other layer, a list names the layers that are heads.
Heads = Literal["exempt", "include"] | Sequence[str]

MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Normalization layers whose scales no method acts on.
OTHER_NORMS = (nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class Layer:
    """A layer with weights: a matrix (Linear, or a convolution reshaped to one) or the scales of a normalization layer.

    Attributes:
        name: the module's dotted name.
        weight: (out, in), (out, in, *kernel) or, for a norm, (features).
        bias: (out) or, for a norm, the shifts; None where the layer has none.
        is_norm: whether ``weight`` holds scales.
    """

    __pydantic_config__: ClassVar[Any] = {"arbitrary_types_allowed": True}

    name: str
    weight: nn.Parameter
    bias: nn.Parameter | None
    is_norm: bool

    @property
    def matrix(self) -> Tensor:
        """The weight as (out, in · kernel), a view where the strides allow it."""
        return self.weight.flatten(1)


def smaller_gram(matrix: Tensor) -> Tensor:
    """G = WWᵀ or WᵀW, whichever is smaller. Its eigenvalues are the squares of the min(m, n) singular values of W."""
    return matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix


def select_layers(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    heads: Heads = "exempt",
    only: Callable[[str], bool] | None = None,
    output_layers: Collection[str] | None = None,
) -> list[Layer]:
    """The Linear, Conv and normalization layers of ``module`` that ``optimizer`` trains.

    Frozen parameters and networks the optimizer does not hold (target networks) are skipped. A weight shared by two
    modules counts once.

    Args:
        module: searched with all its submodules.
        optimizer: only its parameters can be selected.
        heads: what to do with output heads.
        only: a filter on layer names.
        output_layers: the output heads, if known; None to find them, see :mod:`neoteny.plasticity.heads`.

    Raises:
        ValueError: ``heads`` or ``output_layers`` names a layer that does not exist.

    Warns:
        UserWarning: ``heads`` is ``exempt``, and it is doubtful which layers are heads.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    found: dict[int, tuple[str, nn.Module]] = {}
    for name, child in module.named_modules():
        weight = getattr(child, "weight", None)
        if isinstance(child, MATRICES + NORMS) and id(weight) in trained:
            found.setdefault(id(weight), (name, child))
    owners = dict(found.values())
    left_out = _heads(module, owners, heads, only, output_layers)
    return [
        Layer(
            name,
            child.weight,  # type: ignore[arg-type]
            child.bias if id(child.bias) in trained else None,  # type: ignore[arg-type]
            isinstance(child, NORMS),
        )
        for name, child in owners.items()
        if name not in left_out and (only is None or only(name))
    ]


def _heads(
    module: nn.Module,
    owners: dict[str, nn.Module],
    heads: Heads,
    only: Callable[[str], bool] | None,
    output_layers: Collection[str] | None,
) -> set[str]:
    """The names of the layers that ``heads`` skips."""
    if heads == "exempt":
        if output_layers is not None:
            if unknown := sorted(set(output_layers) - {name for name, _ in module.named_modules()}):
                raise ValueError(f"output_layers: there is no layer {unknown[0]!r}; the layers are {', '.join(owners)}")
            return set(output_layers)
        choice = output_heads(module, {name: m for name, m in owners.items() if not isinstance(m, NORMS)})
        if question := choice.question(only):
            warnings.warn(question, stacklevel=4)
        return set(choice.names)
    if heads == "include":
        return set()
    named = {heads} if isinstance(heads, str) else set(heads)
    if unknown := sorted(named - owners.keys()):
        raise ValueError(f"heads: there is no layer {unknown[0]!r}; the layers are {', '.join(owners)}")
    return named


#: Why a matrix that the optimizer trains is skipped.
HEAD, NOT_SUPPORTED = "output head", "not supported"


def coverage(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    layers: Sequence[Layer],
    only: Callable[[str], bool] | None = None,
) -> dict[str, str]:
    """What a method does with each weight matrix (two or more dimensions) that ``optimizer`` trains.

    Scales of normalization layers that are not supported are listed too.

    Args:
        module: the network.
        optimizer: trains it.
        layers: those that ``heads`` leaves, of all that :func:`select_layers` finds with ``heads="include"``.
        only: as for :func:`select_layers`; parameters of other modules are not listed.

    Returns:
        By the parameter's name ``""`` (acted on), :data:`HEAD`, or :data:`NOT_SUPPORTED` with the type of its module.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    supported = {id(layer.weight) for layer in select_layers(module, optimizer, "include", only)}
    chosen = {id(layer.weight) for layer in layers}
    found = {}
    for name, parameter in module.named_parameters():
        owner, _, attribute = name.rpartition(".")
        parent = module.get_submodule(owner)
        listed = parameter.ndim > 1 or (isinstance(parent, OTHER_NORMS) and attribute == "weight")
        if not listed or id(parameter) not in trained or not (only is None or only(owner)):
            continue
        kind = type(parent).__name__
        skipped = HEAD if id(parameter) in supported else f"{NOT_SUPPORTED} ({kind})"
        found[name] = "" if id(parameter) in chosen else skipped
    return found
