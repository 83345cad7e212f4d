"""Layers as methods see them: views of weights, chosen by the type of their module and never by their shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neoteny.plasticity.views import Rows, View, views_of


@dataclass(frozen=True, eq=False)
class Part:
    """A trained tensor as methods see it: a parameter, or a view of a part of one.

    Attributes:
        parameter: what the optimizer trains.
        rows: first row and number of rows; all if None.
        transposed: whether the first two axes are swapped.
    """

    parameter: nn.Parameter
    rows: Rows | None = None
    transposed: bool = False

    def of(self, tensor: Tensor) -> Tensor:
        """This part of a tensor shaped like the parameter, such as its gradient or a moment: a view."""
        return _part_of(tensor, self.rows, self.transposed)

    @property
    def value(self) -> Tensor:
        """The tensor; the parameter itself if it is all of it."""
        return self.of(self.parameter)

    @property
    def grad(self) -> Tensor:
        """Its gradient, for a method to add to in place. A parameter without a gradient gets one of zeros."""
        if self.parameter.grad is None:
            self.parameter.grad = torch.zeros_like(self.parameter)
        return self.of(self.parameter.grad)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters behind it."""
        return [self.parameter]

    @property
    def live(self) -> bool:
        """Whether it is trained at the moment, not frozen."""
        return self.parameter.requires_grad

    def settle_(self) -> None:
        """Hand what was added to :attr:`grad` on to the parameters."""


@dataclass(eq=False)
class Computed:
    """A weight that a module computes from its parameters, as with ``torch.nn.utils.parametrizations.weight_norm``.

    It has the interface of :class:`Part`, but cannot be written: its gradient goes to the parameters.
    """

    module: nn.Module
    attribute: str
    rows: Rows | None = None
    transposed: bool = False
    _sum: Tensor | None = field(default=None, init=False, repr=False)

    @property
    def value(self) -> Tensor:
        """The weight as it is now, computed anew."""
        parametrizations: nn.Module = self.module.parametrizations[self.attribute]  # type: ignore[index, assignment]
        training = [part for part in parametrizations.modules() if part.training]
        for part in training:  # spectral_norm changes its buffers when it computes in training mode
            part.training = False
        try:
            return _part_of(getattr(self.module, self.attribute), self.rows, self.transposed)
        finally:
            for part in training:
                part.training = True

    @property
    def grad(self) -> Tensor:
        """A sum to add gradients to. :meth:`settle_` hands it on."""
        if self._sum is None:
            self._sum = torch.zeros_like(self.value, requires_grad=False, memory_format=torch.contiguous_format)
        return self._sum

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the weight is computed from."""
        return list(self.module.parametrizations[self.attribute].parameters())  # type: ignore[index, union-attr]

    @property
    def live(self) -> bool:
        """Whether one of them is trained at the moment."""
        return any(p.requires_grad for p in self.parameters)

    def settle_(self) -> None:
        """Add the gradient with respect to the parameters that follows from :attr:`grad`."""
        if self._sum is None:
            return
        trained = [p for p in self.parameters if p.requires_grad]
        with torch.enable_grad():
            found = torch.autograd.grad(self.value, trained, self._sum, allow_unused=True)
        for parameter, gradient in zip(trained, found, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self._sum = None


def _part_of(tensor: Tensor, rows: Rows | None, transposed: bool) -> Tensor:
    if rows is not None:
        tensor = tensor.narrow(0, *rows)
    return tensor.transpose(0, 1) if transposed else tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """A matrix with its bias, or the scales of a normalization layer with its shifts.

    Attributes:
        name: dotted name of the module and, if it has several matrices, of the matrix (``lstm.weight_ih_l0.i``).
        module: dotted name of the module.
        owner: the module.
        weights: the matrix or the scales.
        biases: the bias or the shifts; None where there are none.
        is_norm: whether these are scales.
    """

    name: str
    module: str
    owner: nn.Module
    weights: Part | Computed
    biases: Part | None
    is_norm: bool

    @property
    def weight(self) -> Tensor:
        """(out, in), (out, in, *kernel) or, for a norm, (features); the parameter itself where it is all of it."""
        return self.weights.value

    @property
    def bias(self) -> Tensor | None:
        """(out) or, for a norm, the shifts (features)."""
        return self.biases.value if self.biases is not None else None

    @property
    def matrix(self) -> Tensor:
        """The weight as (out, in · kernel); a view where the strides allow it, else a copy."""
        return self.weight.flatten(1)

    @property
    def parts(self) -> dict[str, Part | Computed]:
        """The weight and, if there is one, the bias, by their dotted names."""
        both = {f"{self.name}.weight": self.weights, f"{self.name}.bias": self.biases}
        return {name: part for name, part in both.items() if part is not None}


def wide(matrix: Tensor) -> Tensor:
    """``matrix`` in float32 at least: decompositions have no narrower format."""
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))


def smaller_gram(matrix: Tensor) -> Tensor:
    """G = WWᵀ or WᵀW, whichever is smaller. Its eigenvalues are the squares of the min(m, n) singular values of W."""
    return matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix


def layers_of(module: nn.Module) -> Iterator[Layer]:
    """All layers of a module and its submodules, by :data:`~neoteny.plasticity.views.VIEWS`; a shared weight once."""
    seen: set[tuple[int, Rows | None]] = set()
    for name, owner in module.named_modules():
        for view in views_of(owner):
            layer = _layer(name, owner, view)
            if layer is None:
                continue
            keys = {(id(p), view.rows) for p in layer.weights.parameters}
            if not keys & seen:
                seen |= keys
                yield layer


def _layer(module: str, owner: nn.Module, view: View) -> Layer | None:
    """The layer that a view shows; None if the module lacks the weight (a norm without scales)."""
    name = ".".join(part for part in (module, view.part) if part)
    held = owner._parameters.get(view.weight)
    weights: Part | Computed
    if held is not None:
        weights = Part(held, view.rows, view.transposed)
    elif parametrize.is_parametrized(owner, view.weight):
        weights = Computed(owner, view.weight, view.rows, view.transposed)
    else:
        return None
    bias = owner._parameters.get(view.bias) if view.bias else None
    return Layer(name, module, owner, weights, Part(bias, view.bias_rows) if bias is not None else None, view.is_norm)
