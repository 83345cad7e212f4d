"""The products of a pass with matrices, and from them what gradient each sample sends to each weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from neoteny.plasticity.layers import layers_of
from neoteny.plasticity.metrics.gradients import conv_patches, gradient_gram
from neoteny.plasticity.views import MATRICES

#: What products say of a matrix's gradient may be off by this share of it, for rounding.
ROUNDING = 1e-2
#: Per-sample gradients of at most so many numbers are held at once.
LARGEST = 2**26


class Products:
    """What the matrices of ``module`` were multiplied with in a pass.

    A matrix has a key, the name of its layer, or of a layer and one of its weights, and an owner, the module with it.

    Args:
        module: the network.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._owners: dict[str, str] = {}

    def note(self, key: str, owner: str, given: Tensor, product: Tensor) -> None:
        """Note a product of the matrix ``key``.

        Args:
            key: of the matrix.
            owner: the name of the module that holds it.
            given: what it was multiplied with: (batch, …, in), a convolution's input, or an embedding's indices.
            product: the result, before any bias or after: (batch, …, out), or a convolution's output.
        """
        self._calls.setdefault(key, []).append((given, product))
        self._owners[key] = owner

    def first_input(self, key: str) -> Tensor | None:
        """What the matrix was first multiplied with, as in :meth:`note`; None if it was not."""
        return self._calls[key][0][0].detach() if key in self._calls else None

    def gram(self, losses: Tensor, parameters: Collection[int]) -> tuple[Tensor | None, list[str]]:
        """K = GGᵀ of the per-sample gradients of all matrices, see :func:`~neoteny.plasticity.metrics.gradient_gram`.

        Of layers that are linear, convolutional, recurrent, of attention or tables of embeddings it is products of what
        they got and of what their outputs' gradients are, where another backward pass bears them out; of other matrices
        one backward pass for all samples.

        Args:
            losses: ℓ, (n), of the pass; ℓ_i may depend on sample i only.
            parameters: ``id`` of those that count.

        Returns:
            K, (n, n), or None where there is no gradient; and the modules whose matrices had to be left out.
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
            split = [pair for given in pairs if (pair := _by_sample(self._holder(name), *given, len(losses)))]
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

    def _holder(self, key: str) -> nn.Module:
        return self._module.get_submodule(self._owners[key])

    def _matrix(self, key: str) -> Tensor:
        """The matrix whose products were noted as ``key``."""
        found: Tensor = getattr(self._holder(key), key.removeprefix(self._owners[key]).lstrip(".") or "weight")
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
            product = product.mT if isinstance(self._holder(name), nn.Embedding) else product
            true = torch.zeros_like(product) if gradient is None else gradient.reshape(product.shape)
            off.append((product - true).norm() > ROUNDING * true.norm())
        return [name for name, wrong in zip(asked, torch.stack(off).tolist(), strict=True) if wrong]


def _add(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    return more if total is None else total if more is None else total + more


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
