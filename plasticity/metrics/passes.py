"""Watches passes through a network: what its units do, and what its matrices are multiplied with."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from neoteny.plasticity.metrics.attention import replay_attention
from neoteny.plasticity.metrics.products import Products
from neoteny.plasticity.metrics.recurrent import replay
from neoteny.plasticity.views import MATRICES

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
#: Torch's modules that are no activation of hidden units.
OUTPUTS = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)


@dataclass
class Units:
    """What the units of a layer did in a pass.

    Attributes:
        activations: what the next layer receives of each unit, after activation function, normalization and pooling,
            (samples, units, entries). Several entries are positions, or the copies that CReLU makes.
        slopes: f'(z) of the activation function, of the same shape or with another number of entries; None where there
            is no such function, or it is not known.
    """

    activations: Tensor
    slopes: Tensor | None


@dataclass
class _Route:
    """Where the output of a layer has come to, from module to module."""

    name: str
    layer: nn.Module
    tensor: Tensor
    activation: tuple[nn.Module, Tensor] | None = None
    received: bool = False

    @property
    def hidden(self) -> bool:
        """Whether its units are seen to be hidden ones."""
        return self.activation is not None or self.received


class Passes:
    """Watches the passes through ``module`` within a ``with`` block, and leaves nothing behind.

    Linear layers and convolutions count, and recurrent layers for their units. Units are followed from module to
    module: through activations, normalization, dropout, pooling. Operations that are no modules (``torch.relu`` in a
    ``forward``) are not seen; :meth:`unread` names the layers that they follow. Switch the network to evaluation
    before, so that samples do not bear on each other, and no method takes the pass for one of training.

    Args:
        module: the network. Gradients have to be enabled in the pass for :meth:`Products.gram`.

    Attributes:
        products: of the pass with matrices, for gradients of each sample.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self.products = Products(module)
        self._routes: dict[int, _Route] = {}
        self._first: dict[str, _Route] = {}
        self._states: dict[str, Tensor] = {}
        self._kept: list[Any] = []  # so that no id is used twice
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name, part in self._module.named_modules():
            watched = isinstance(part, (*MATRICES, *RECURRENT, nn.MultiheadAttention))
            if not watched and [*part.children()]:
                continue
            self._hooks.append(part.register_forward_hook(self._hook(name), with_kwargs=True))
        return self

    def __exit__(self, *exc: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
            if isinstance(module, nn.MultiheadAttention):
                return self._attended(name, module, args, named)
            if named and isinstance(module, (*MATRICES, *RECURRENT, nn.Embedding)):
                args = inspect.signature(module.forward).bind(*args, **named).args
            given = args[0] if args else None
            route = self._routes.get(id(given.data if isinstance(given, PackedSequence) else given))
            if route and isinstance(module, (*MATRICES, *RECURRENT)):
                route.received = True
            if isinstance(module, RECURRENT):
                return self._recurred(name, module, args, output)
            if isinstance(module, MATRICES):
                return self._called(name, module, given, output) if isinstance(given, Tensor) else None
            if isinstance(module, nn.Embedding) and isinstance(given, Tensor) and isinstance(output, Tensor):
                self.products.note(name, name, given, output)
                return output.clone()
            if route and isinstance(given, Tensor) and isinstance(output, Tensor):
                self._follow(route, module, given, output)
            return None

        return hook

    def _recurred(self, name: str, module: Any, args: tuple[Any, ...], output: Any) -> Any:
        """The output goes on as computed step by step, if there is to be a gradient."""

        def record(weight: str, given: Tensor, product: Tensor) -> None:
            self.products.note(f"{name}.{weight}", name, given, product)

        found = replay(module, args, record) if torch.is_grad_enabled() and args else None
        output = output if found is None else found
        states = output[0] if type(output) is tuple else output
        self._states.setdefault(name, states.data)
        return found

    def _attended(self, name: str, module: nn.MultiheadAttention, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """As :meth:`_recurred`: where there is to be a gradient, the output goes on as computed step by step."""

        def record(weight: str, given: Tensor, product: Tensor) -> None:
            part, _, _ = weight.rpartition(".")  # the output's projection is a layer of its own
            self.products.note(f"{name}.{weight}", f"{name}.{part}".rstrip("."), given, product)

        bound = inspect.signature(module.forward).bind(*args, **named)
        bound.apply_defaults()
        return replay_attention(module, bound.arguments, record) if torch.is_grad_enabled() else None

    def _called(self, name: str, layer: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        """The output goes on as a copy, which may be changed in place."""
        self.products.note(name, name, given, output)
        copy = output.clone()
        self._routes[id(copy)] = route = _Route(name, layer, copy)
        self._first.setdefault(name, route)
        self._kept += [given, copy]
        return copy

    def _follow(self, route: _Route, module: nn.Module, given: Tensor, output: Tensor) -> None:
        where = type(module).__module__
        theirs = where.startswith("torch.nn.modules.") and not where.endswith(".activation")
        if not (theirs or isinstance(module, OUTPUTS)):
            route.activation = (module, given)
        if (route.activation and route.activation[0] is module) or _arranged(route.layer, output) is not None:
            route.tensor = output
        self._routes[id(output)] = route
        self._kept.append(output)

    def inputs(self, name: str) -> Tensor | None:
        """What the layer got when it was first called; None if it was not."""
        return self.products.first_input(name)

    def units(self) -> dict[str, Units]:
        """The hidden units of each layer that an activation or another layer follows, when it was first called.

        Of recurrent layers they are the hidden states, which have no slopes.
        """
        found = {name: Units(h.detach().reshape(-1, h.shape[-1], 1), None) for name, h in self._states.items()}
        for name, route in self._first.items():
            activations = _arranged(route.layer, route.tensor)
            if route.hidden and activations is not None:
                found[name] = Units(activations.detach(), _slopes(route))
        return found

    def unread(self) -> list[str]:
        """The layers that were called but have no hidden units that could be read. Output layers are among them."""
        routes = self._first.items()
        return [name for name, r in routes if not r.hidden or _arranged(r.layer, r.tensor) is None]


def _arranged(layer: nn.Module, tensor: Tensor) -> Tensor | None:
    """A layer's output, or what became of it, as (samples, units, entries); None if units are not where they were."""
    if isinstance(layer, nn.Linear):
        flat = tensor.reshape(-1, tensor.shape[-1])
        copies, left = divmod(flat.shape[1], layer.out_features)
        return None if left else flat.unflatten(1, (copies, layer.out_features)).transpose(1, 2)
    spatial = layer.weight.ndim - 2  # type: ignore[operator]
    if tensor.ndim != spatial + 2 or tensor.shape[1] != layer.out_channels:
        return None
    return tensor.flatten(2)


def _slopes(route: _Route) -> Tensor | None:
    if route.activation is None:
        return None
    module, given = route.activation
    if getattr(module, "inplace", False) and not isinstance(module, (nn.ReLU, nn.LeakyReLU)):
        return None  # what it got is gone; of these two the result has the same slope
    with torch.enable_grad():
        z = given.detach().clone().requires_grad_()
        y = module.forward(z.clone())
        (slopes,) = torch.autograd.grad(y.sum(), z)
    return _arranged(route.layer, slopes)
