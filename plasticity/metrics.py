"""Measurements on networks. They change neither the network nor any random state."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor, nn

from neoteny.plasticity.layers import layers_of, smaller_gram


@torch.no_grad()
def spectral_norms(module: nn.Module, parameters: Container[int] | None = None) -> dict[str, float]:
    """The largest singular value of every matrix, by its layer's name, to about eight digits.

    √λ₁ of the smaller Gram matrix, in float64. What the matrices of a module are is listed in docs/methods.md: a
    convolution is its kernel reshaped to (out, in · kernel), a recurrent layer has two matrices per gate.

    Args:
        module: searched with all its submodules.
        parameters: ``id`` of the parameters to include, such as those of an optimizer; all by default.
    """
    norms = {}
    for layer in layers_of(module):
        held = parameters is None or any(id(p) in parameters for p in layer.weights.parameters)
        if held and not layer.is_norm:
            matrix = layer.matrix.double()
            norms[layer.name] = torch.linalg.eigvalsh(smaller_gram(matrix))[-1].clamp_min(0).sqrt().item()
    return norms


@torch.no_grad()
def dormant_units(activations: Tensor, tau: float = 0.025) -> Tensor:
    """Which units are τ-dormant: s_i = E|h_i| / mean_j E|h_j| ≤ τ (Sokar et al., 2023, arXiv 2302.12902).

    If all units are silent, all are dormant.

    Args:
        activations: (batch, units, …), or the sum or mean of the magnitudes per unit, (units).
        tau: the threshold, at least 0.

    Returns:
        A mask, (units).
    """
    magnitudes = activations.abs()
    if activations.ndim > 1:
        magnitudes = magnitudes.transpose(0, 1).flatten(1).mean(1)
    return magnitudes <= tau * magnitudes.mean()
