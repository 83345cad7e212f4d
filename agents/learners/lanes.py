"""Networks of equal layers, computed side by side, with the gradient of every layer written out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

aten = torch.ops.aten


class UnreadableError(Exception):
    """A network or its optimizer is not what the closed forms are of; the message says why."""


#: ∂loss/∂x of the activations y = f(x), given the module, ∂loss/∂y, x and y.
ACTIVATIONS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda _, gradient, x, y: aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient),
    nn.Tanh: lambda _, gradient, x, y: aten.tanh_backward(gradient, y),
    nn.LeakyReLU: lambda module, gradient, x, y: aten.leaky_relu_backward(gradient, x, module.negative_slope, False),
    nn.ELU: lambda module, gradient, x, y: aten.elu_backward(gradient, module.alpha, 1, 1, False, x),
    nn.GELU: lambda module, gradient, x, y: aten.gelu_backward(gradient, x, approximate=module.approximate),
}
#: Activations whose derivative needs only y take the place of x in memory, after a layer that has made x.
IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {nn.ReLU: torch.relu_, nn.Tanh: torch.tanh_}


def defines_both(owner: object, method: str, other: str) -> bool:
    """Whether the class that ``owner`` has ``method`` from also defines ``other``, which so knows of it."""
    cls = next(cls for cls in type(owner).__mro__ if method in vars(cls))
    return other in vars(cls)


def derivative(module: nn.Module) -> Callable[[Any, Tensor, Tensor, Tensor], Tensor] | None:
    """That of :data:`ACTIVATIONS`, or the module's own ``backward(gradient, x, y)``; None if it is no activation."""
    own: Any = type(module)
    for known, function in ACTIVATIONS.items():
        if own.forward is known.forward:
            writes_x = getattr(module, "inplace", False) and known not in (nn.ReLU, nn.LeakyReLU)
            return None if writes_x else function
    return own.backward if defines_both(module, "forward", "backward") else None


def settings(module: nn.Module) -> dict[str, Any]:
    """What makes two layers of the same type compute the same function of their weights."""
    return {k: repr(v) for k, v in vars(module).items() if k != "training" and not k.startswith("_")}


def is_hooked(own: dict[str, Any]) -> bool:
    """Whether calling a module, whose ``vars`` these are, does more than its ``forward``."""
    return bool(
        own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]
    )


class Shape:
    """The modules that were read, to notice when one is hooked, replaced or added."""

    def __init__(self) -> None:
        self._seen: dict[nn.Module, tuple[list[nn.Module | None], list[int]]] = {}

    def see(self, module: nn.Module) -> None:
        """Read ``module``.

        Raises:
            UnreadableError: it is hooked.
        """
        if is_hooked(vars(module)) or _has_any_global_hook():
            raise UnreadableError(f"a method or a hook watches the passes of {type(module).__name__}")
        if "forward" in vars(module):
            raise UnreadableError(f"a {type(module).__name__} has its own forward()")
        self._seen[module] = [*module._modules.values()], [*map(id, module._parameters.values())]

    def intact(self) -> bool:
        if _has_any_global_hook():
            return False
        for module, (children, parameters) in self._seen.items():
            own = vars(module)
            if is_hooked(own) or "forward" in own:
                return False
            if [*own["_modules"].values()] != children or [*map(id, own["_parameters"].values())] != parameters:
                return False
        return True

    def leaves(self, module: nn.Module) -> Iterator[nn.Module]:
        """The layers of a ``Sequential``, in order.

        Raises:
            UnreadableError: there is something else in it.
        """
        self.see(module)
        if type(module) is nn.Sequential:
            for child in module:
                yield from self.leaves(child)
        elif not isinstance(module, nn.Identity):
            trained = type(module) in (nn.Linear, nn.LayerNorm)
            if not trained and (derivative(module) is None or [*module.parameters()]):
                raise UnreadableError(f"the network has a layer {type(module).__name__}")
            if trained and module.bias is None:
                raise UnreadableError(f"the network has a layer {type(module).__name__} without biases")
            yield module


class Lanes:
    """L networks of equal layers: each layer of all of them is one operation.

    Args:
        networks: made of Linear layers, LayerNorm and activations.
        shape: told of all modules.

    Raises:
        UnreadableError: a layer is none of these, or the networks differ.
    """

    def __init__(self, networks: Sequence[nn.Module], shape: Shape):
        lanes = [[*shape.leaves(network)] for network in networks]
        kinds = [[(type(m), settings(m)) for m in lane] for lane in lanes]
        if any(kind != kinds[0] for kind in kinds):
            raise UnreadableError("networks that run side by side have different layers")
        self.count = len(networks)
        self.layers: list[tuple[Any, ...]] = [*zip(*lanes, strict=True)]
        self._derivatives: list[Any] = [derivative(layer[0]) for layer in self.layers]
        made = [False, *(isinstance(layer[0], nn.Linear | nn.LayerNorm) for layer in self.layers)]
        self._activations: list[Any] = [
            IN_PLACE.get(type(layer[0]) if own else nn.Module, layer[0].forward)
            for layer, own in zip(self.layers, made, strict=False)
        ]
        self._weights: list[Any] = []
        self._gradients: list[tuple[Tensor, ...]] = []
        self._passed: list[tuple[Tensor, ...]] = []
        #: The inputs that are given to the first layer; the others are 0. None for all.
        self.columns: Tensor | None = None

    @property
    def takes_columns(self) -> bool:
        """Whether :attr:`columns` can be set: the first layer has a weight for each input."""
        return bool(self.layers) and isinstance(self.layers[0][0], nn.Linear)

    def groups(self) -> list[list[nn.Parameter]]:
        """The parameters that must lie next to each other: of each layer, the weights of all lanes, then the biases."""
        trained = [layer for layer in self.layers if isinstance(layer[0], nn.Linear | nn.LayerNorm)]
        return [[getattr(m, name) for m in layer] for layer in trained for name in ("weight", "bias")]

    def bind(self, values: Iterable[Tensor], gradients: Iterable[Tensor] = ()) -> None:
        """Use these tensors, (L, *shape) each, one for each of :meth:`groups`."""
        kinds = [layer[0] for layer in self.layers if isinstance(layer[0], nn.Linear | nn.LayerNorm)]
        self._weights = [
            Affine(*pair) if isinstance(kind, nn.Linear) else tuple(w.unsqueeze(1) for w in pair)
            for kind, pair in zip(kinds, _pairs(values), strict=True)
        ]
        self._gradients = _pairs(gradients)[::-1]

    def forward(self, x: Tensor, keep: bool = True) -> Tensor:
        """The outputs, (L, batch, outputs).

        Args:
            x: (batch, inputs), the same for all lanes, or (L, batch, inputs). With :attr:`columns`, only these inputs.
            keep: what :meth:`backward` needs. Memory that is free at once is used again while it is in the cache.
        """
        weights = iter(self._weights)
        self._passed = []
        for depth, layer in enumerate(self.layers):
            kind = layer[0]
            kept: tuple[Tensor, ...]
            if isinstance(kind, nn.Linear):
                affine = next(weights) if depth else next(weights).of(self.columns)
                y, kept = affine(x), (x, affine.weight)
            elif isinstance(kind, nn.LayerNorm):
                x = self._own(x)
                scale, shift = next(weights)
                unit, mean, inverse = aten.native_layer_norm(x, kind.normalized_shape, None, None, kind.eps)
                y, kept = torch.addcmul(shift, unit, scale), (x, scale, unit, mean, inverse)
            else:
                x = self._own(x)
                y = self._activations[depth](x)
                kept = (x, y)
            if keep:
                self._passed.append(kept)
            x = y
        return self._own(x)

    def backward(self, gradient: Tensor, inputs: bool = False, weights: bool = True) -> Tensor:
        """Write the gradients of the weights, for the last :meth:`forward`.

        Args:
            gradient: of the loss, with respect to the outputs, (L, batch, outputs). It is overwritten.
            inputs: go on to the inputs.
            weights: False to write nothing.

        Returns:
            The gradient with respect to each lane's inputs, (L, batch, inputs), if ``inputs``.
        """
        written = iter(self._gradients)
        for depth, layer in enumerate(self.layers[::-1], 1):
            kind, kept = layer[0], self._passed.pop()
            if isinstance(kind, nn.Linear):
                x, weight = kept
                if weights:
                    to_weight, to_bias = next(written)
                    torch.sum(gradient, 1, out=to_bias)
                    if self.columns is None or depth < len(self.layers):
                        torch.bmm(gradient.mT, self._own(x), out=to_weight)
                    else:
                        to_weight.zero_().index_copy_(2, self.columns, torch.bmm(gradient.mT, self._own(x)))
                if inputs or depth < len(self.layers):
                    gradient = torch.bmm(gradient, weight)
            elif isinstance(kind, nn.LayerNorm):
                x, scale, unit, mean, inverse = kept
                if weights:
                    to_scale, to_shift = next(written)
                    torch.sum(gradient * unit, 1, out=to_scale)
                    torch.sum(gradient, 1, out=to_shift)
                shape, only_x = kind.normalized_shape, [True, False, False]
                gradient = aten.native_layer_norm_backward(
                    gradient * scale, x, shape, mean, inverse, None, None, only_x
                )[0]
            else:
                gradient = self._derivatives[-depth](kind, gradient, *kept)
        return gradient

    def _own(self, x: Tensor) -> Tensor:
        return x.expand(self.count, *x.shape) if x.ndim == 2 else x


class Affine:
    """x ↦ xWᵀ + b for L weights, (L, out, in), and biases, (L, out)."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight = weight
        self.transposed, self.row = weight.mT, bias.unsqueeze(1)
        self.together, self.flat, self.outputs = weight.flatten(0, 1).T, bias.flatten(), bias.shape

    def of(self, columns: Tensor | None) -> Affine:
        """The same map where all inputs but these are 0."""
        if columns is None:
            return self
        rows = self.weight.flatten(0, 1).index_select(1, columns)  # of two dimensions this takes half the time
        return Affine(rows.unflatten(0, self.outputs), self.flat.view(self.outputs))

    def __call__(self, x: Tensor) -> Tensor:
        """(L, batch, out) of x, (L, batch, in), or (batch, in) for all lanes: then one product of all rows."""
        if x.ndim == 3:
            return torch.bmm(x, self.transposed).add_(self.row)
        return torch.mm(x, self.together).add_(self.flat).unflatten(1, self.outputs).transpose(0, 1)


def _pairs(tensors: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    remaining = iter(tensors)
    return [*zip(remaining, remaining, strict=True)]
