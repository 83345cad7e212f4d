"""Watches passes through a network: what its units do, and what gradient each sample sends to each weight."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from neoteny.plasticity.layers import layers_of
from neoteny.plasticity.metrics.attention import replay_attention
from neoteny.plasticity.metrics.gradients import conv_patches, gradient_gram
from neoteny.plasticity.metrics.recurrent import replay
from neoteny.plasticity.views import MATRICES

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
#: What products say of a matrix's gradient may be off by this share of it, for rounding.
ROUNDING = 1e-2
#: Torch's modules that are no activation of hidden units.
OUTPUTS = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)
#: Per-sample gradients of at most so many numbers are held at once.
LARGEST = 2**26


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
        module: the network. Gradients have to be enabled in the pass for :meth:`gram`.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._owners: dict[str, str] = {}  # of what is in _calls, the module
        self._layers: dict[str, nn.Module] = {}
        self._routes: dict[int, _Route] = {}
        self._first: dict[str, _Route] = {}
        self._states: dict[str, Tensor] = {}
        self._kept: list[Any] = []  # so that no id is used twice
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name, part in self._module.named_modules():
            if isinstance(part, MATRICES):
                self._layers[name] = part
            elif not isinstance(part, (*RECURRENT, nn.MultiheadAttention)) and [*part.children()]:
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
                self._layers[name] = module
                self._keep(name, name, given, output)
                return output.clone()
            if route and isinstance(given, Tensor) and isinstance(output, Tensor):
                self._follow(route, module, given, output)
            return None

        return hook

    def _recurred(self, name: str, module: Any, args: tuple[Any, ...], output: Any) -> Any:
        """The output goes on as computed step by step, if there is to be a gradient."""

        def record(weight: str, given: Tensor, product: Tensor) -> None:
            self._layers[f"{name}.{weight}"] = module
            self._keep(f"{name}.{weight}", name, given, product)

        found = replay(module, args, record) if torch.is_grad_enabled() and args else None
        output = output if found is None else found
        states = output[0] if type(output) is tuple else output
        self._states.setdefault(name, states.data)
        return found

    def _attended(self, name: str, module: nn.MultiheadAttention, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """As :meth:`_recurred`: where there is to be a gradient, the output goes on as computed step by step."""

        def record(weight: str, given: Tensor, product: Tensor) -> None:
            part, _, _ = weight.rpartition(".")  # the output's projection is a layer of its own
            self._layers[f"{name}.{weight}"] = module.get_submodule(part)
            self._keep(f"{name}.{weight}", f"{name}.{part}".rstrip("."), given, product)

        bound = inspect.signature(module.forward).bind(*args, **named)
        bound.apply_defaults()
        return replay_attention(module, bound.arguments, record) if torch.is_grad_enabled() else None

    def _keep(self, key: str, owner: str, given: Tensor, product: Tensor) -> None:
        """Note a product of the matrix ``key`` of the module ``owner``."""
        self._calls.setdefault(key, []).append((given, product))
        self._owners[key] = owner

    def _called(self, name: str, layer: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        """The output goes on as a copy, which may be changed in place."""
        self._keep(name, name, given, output)
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
        """What the layer got when it was first called, (batch, …, in); None if it was not."""
        return self._calls[name][0][0].detach() if name in self._calls else None

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

    def _matrix(self, key: str) -> Tensor:
        """The matrix whose products were noted as ``key``."""
        found: Tensor = getattr(self._layers[key], key.removeprefix(self._owners[key]).lstrip(".") or "weight")
        return found

    def _contradicted(self, losses: Tensor, by_sample: Mapping[str, tuple[Tensor, Tensor]]) -> list[str]:
        """The matrices of which products do not say what each sample's gradient is.

        With Σ_i c_i ℓ_i for a loss, c different for each sample, the gradient of a matrix is Σ_i c_i δ_il x_ilᵀ. It is
        not where a row is of another sample, where the matrix is used elsewhere, or multiplied with something else than
        the layer gets. Of a matrix that is computed anew whenever it is asked for that is not known.
        """
        matrices = {name: self._matrix(name) for name in by_sample}
        asked = [name for name, matrix in matrices.items() if matrix.is_leaf and matrix.requires_grad]
        if not asked:
            return []
        c = torch.linspace(0.5, 1.5, len(losses), dtype=losses.dtype, device=losses.device)
        wanted = [matrices[name] for name in asked]
        gradients = torch.autograd.grad((c * losses).sum(), wanted, retain_graph=True, allow_unused=True)
        off = []
        for name, gradient in zip(asked, gradients, strict=True):
            inputs, outputs = by_sample[name]
            product = (c[:, None, None] * outputs).flatten(0, 1).mT @ inputs.flatten(0, 1)
            product = product.mT if isinstance(self._layers[name], nn.Embedding) else product
            true = torch.zeros_like(product) if gradient is None else gradient.reshape(product.shape)
            off.append((product - true).norm() > ROUNDING * true.norm())
        return [name for name, wrong in zip(asked, torch.stack(off).tolist(), strict=True) if wrong]

    def gram(self, losses: Tensor, parameters: Collection[int]) -> tuple[Tensor | None, list[str]]:
        """K = GGᵀ of the per-sample gradients of all matrices, see :func:`~neoteny.plasticity.metrics.gradient_gram`.

        Of layers that are linear, convolutional, recurrent, of attention or tables of embeddings it is products of what
        they got and of what their outputs' gradients are, where another backward pass bears them out; of other matrices
        one backward pass for all samples.

        Args:
            losses: ℓ, (n), of the pass; ℓ_i may depend on sample i only.
            parameters: ``id`` of those that count.

        Returns:
            K, (n, n), or None where there is no gradient; and the matrices that had to be left out.
        """
        layers = [layer for layer in layers_of(self._module) if not layer.is_norm]
        layers = [layer for layer in layers if any(id(p) in parameters for p in layer.weights.parameters)]
        ours = {layer.module for layer in layers}
        calls = [(name, *call) for name in self._calls if self._owners[name] in ours for call in self._calls[name]]
        calls = [call for call in calls if call[2].requires_grad]
        if not losses.requires_grad:
            return None, []
        outputs = [call[2] for call in calls]
        to_outputs = torch.autograd.grad(losses.sum(), outputs, retain_graph=True, allow_unused=True) if calls else ()
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        rest = ours - {self._owners[name] for name, *_ in calls}
        for (name, given, _), gradient in zip(calls, to_outputs, strict=True):
            if gradient is not None:
                found.setdefault(name, []).append((given.detach(), gradient))
        by_sample: dict[str, tuple[Tensor, Tensor]] = {}
        for name, pairs in found.items():
            split = [pair for given in pairs if (pair := _by_sample(self._layers[name], *given, len(losses)))]
            if len(split) < len(pairs):
                rest.add(self._owners[name])
            else:
                inputs, gradients = zip(*split, strict=True)
                by_sample[name] = torch.cat(inputs, 1), torch.cat(gradients, 1)
        rest |= {self._owners[name] for name in self._contradicted(losses, by_sample)}
        total: Tensor | None = None
        for name, pair in by_sample.items():
            if self._owners[name] not in rest:
                total = _add(total, gradient_gram(*pair))
        others = {id(p): p for layer in layers if layer.module in rest for p in layer.weights.parameters}
        one, failed = _by_backward(losses, [p for p in others.values() if id(p) in parameters])
        return _add(total, one), sorted(rest) if failed else []


def _add(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    return more if total is None else total if more is None else total + more


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


def _by_sample(layer: nn.Module, given: Tensor, gradient: Tensor, samples: int) -> tuple[Tensor, Tensor] | None:
    """(samples, positions, in) and (samples, positions, out); None where they cannot come sample by sample."""
    if not given.ndim or len(given) != samples or len(gradient) != samples:
        return None
    if isinstance(layer, nn.Embedding):
        if layer.max_norm or layer.scale_grad_by_freq or samples * layer.weight.numel() > LARGEST:
            return None
        if given.numel() * layer.num_embeddings > LARGEST:
            return None
        given = functional.one_hot(given.long(), layer.num_embeddings).to(gradient.dtype)
        if layer.padding_idx is not None:
            given[..., layer.padding_idx] = 0  # it is not trained
    if not isinstance(layer, MATRICES[1:]):
        inputs, outputs = (part.reshape(samples, -1, part.shape[-1]) for part in (given, gradient))
        return (inputs, outputs) if inputs.shape[1] == outputs.shape[1] else None
    patches = conv_patches(layer, given) if isinstance(layer, nn.Conv2d) else None
    return None if patches is None else (patches, gradient.flatten(2).mT)


def _by_backward(losses: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor | None, bool]:
    """GGᵀ from the gradients themselves, of all samples at once; and whether that failed."""
    samples = len(losses)
    if not parameters:
        return None, False
    if samples * sum(p.numel() for p in parameters) > LARGEST:
        return None, True
    each = torch.eye(samples, dtype=losses.dtype, device=losses.device)
    try:
        found = torch.autograd.grad(
            losses, parameters, each, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    except RuntimeError:  # an operation that torch cannot batch
        return None, True
    rows = [gradient.flatten(1) for gradient in found if gradient is not None]
    if not rows:
        return None, False
    return torch.stack([(row @ row.T).double() for row in rows]).sum(0), False
