"""New weights for the hidden layers that ask what their spectrum has to do with learning: its scale, or its vectors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from neoteny.agents import Continual
from neoteny.agents.networks import CReLU
from neoteny.plasticity.layers import Layer, Part, layers_of, wide
from neoteny.plasticity.views import MATRICES
from neoteny.runners.attribution.parts import TARGET, encoders, followed, head_layers, tensors

#: Modules with their names.
Chain = list[tuple[str, nn.Module]]

#: f(cx) = c f(x) for c > 0.
HOMOGENEOUS = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, CReLU, nn.Identity, nn.Flatten, nn.Dropout),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
)


def hidden_layers(agent: Continual) -> dict[str, Layer]:
    """The hidden layers that the agent trains and whose weight can be written, by name; no normalization."""
    held = {id(p) for o in agent.optimizers().values() for group in o.param_groups for p in group["params"]}
    heads = head_layers(agent)
    return {
        layer.name: layer
        for layer in layers_of(agent.policy)
        if not layer.is_norm and layer.name not in heads and isinstance(layer.weights, Part)
        if layer.weights.live and id(layer.weights.parameter) in held
    }


@torch.no_grad()
def rescaled(agent: Continual, fresh: Continual) -> dict[str, Tensor]:
    """The hidden layers scaled to the fresh agent's largest singular values: Wₗ ← cₗWₗ, bₗ ← (Π_{i≤l} cᵢ) bₗ.

    cₗ = σ₁(Wₗ, fresh) / σ₁(Wₗ), and 1 where Wₗ is 0. With the biases scaled by the product over the layers so far, what
    a network of ReLUs (or others with f(cx) = cf(x)) gives to its head is what it gave, times Π c: its form is kept.
    The product begins anew after a normalization and after an activation for which this does not hold (tanh).

    The layers are the Linear and convolutional ones; recurrent layers and embeddings are left as they are. What follows
    what is read off ``nn.Sequential``; in an encoder one follows another. A layer elsewhere stands alone: its bias is
    scaled as its weight.

    Returns:
        New values of weights and biases by name, those of target networks included.
    """
    layers, before = hidden_layers(agent), {layer.name: layer for layer in layers_of(fresh.policy)}
    factors = {
        name: float(_largest(before[name]) / sigma) if (sigma := _largest(layer)) > 0 else 1.0
        for name, layer in layers.items()
        if isinstance(layer.owner, MATRICES)
    }
    values: dict[str, Tensor] = {}
    products: dict[str, float] = {}
    for encoder in encoders(agent):
        product = 1.0
        for alone, chain in _chains(agent, encoder):
            product = _scale(chain, 1.0 if alone else product, factors, values)
            product = 1.0 if alone else product
        products[agent.role(encoder)] = product
    recurrent = any(isinstance(module, nn.RNNBase) for module in agent.policy.modules())
    for alone, chain in _chains(agent):
        shared = products.get(agent.role(chain[0][0]), next(iter(products.values()), 1.0))
        _scale(chain, 1.0 if alone or recurrent else shared, factors, values)
    return _with_targets(agent, values)


def _chains(agent: Continual, inside: str | None = None) -> Iterator[tuple[bool, Chain]]:
    """Modules that follow each other, in the encoder ``inside`` or outside of all; and whether it is one alone."""
    chains: dict[str, Chain] = {}
    single = set()
    for name, module in agent.policy.named_modules():
        encoder = next((e for e in encoders(agent) if f"{name}.".startswith(f"{e}.")), None)
        if encoder == inside and not [*module.children()]:
            parent = name.rpartition(".")[0]
            if not isinstance(agent.policy.get_submodule(parent), nn.Sequential):
                single.add(parent := name)
            chains.setdefault(parent, []).append((name, module))
    yield from ((key in single, chain) for key, chain in chains.items())


def _scale(chain: Chain, product: float, factors: dict[str, float], values: dict[str, Tensor]) -> float:
    """Add the new ``values`` of a chain whose input is ``product`` times what it was; returns that of its output."""
    for name, module in chain:
        if name in factors:
            product *= factors[name]
            values[f"{name}.weight"] = module.get_parameter("weight") * factors[name]
            if getattr(module, "bias", None) is not None:
                values[f"{name}.bias"] = module.get_parameter("bias") * product
        elif not isinstance(module, HOMOGENEOUS):
            product = 1.0
    return product


@torch.no_grad()
def fresh_vectors(agent: Continual, fresh: Continual) -> dict[str, Tensor]:
    """The hidden layers with the fresh agent's singular vectors and their own singular values; biases are kept.

    W ← U diag(σ(W)) Vᵀ, with U and V of the fresh layer's matrix (out, in · kernel), gate by gate in recurrent layers.

    Returns:
        New values of weights by name, those of target networks included.
    """
    before = {layer.name: layer for layer in layers_of(fresh.policy)}
    values: dict[str, Tensor] = {}
    names = {id(parameter): name for name, parameter in agent.policy.named_parameters()}
    for name, layer in hidden_layers(agent).items():
        part = layer.weights
        assert isinstance(part, Part)
        u, _, vh = torch.linalg.svd(wide(before[name].matrix), full_matrices=False)
        new = (u * torch.linalg.svdvals(wide(layer.matrix))) @ vh
        parameter = names[id(part.parameter)]
        whole = values.setdefault(parameter, part.parameter.detach().clone())
        part.of(whole).copy_(new.view_as(part.value))
    return _with_targets(agent, values)


def _largest(layer: Layer) -> Tensor:
    return torch.linalg.matrix_norm(wide(layer.matrix.detach()), 2)


def _with_targets(agent: Continual, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the same values for the target networks that follow these weights."""
    names = tensors(agent)
    twins = {name: followed(name, names) for name in names if TARGET.search(name)}
    return values | {name: values[twin] for name, twin in twins.items() if twin in values}
