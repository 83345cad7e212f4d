"""What is measured of a network. Nothing here changes it, or any random state."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import nn

from plasticity.layers import MATRICES


@torch.no_grad()
def spectral_norms(module: nn.Module, parameters: Container[int] | None = None) -> dict[str, float]:
    """The largest singular value of every Linear and Conv layer, by name, to about eight digits.

    √λ₁ of the smaller Gram matrix, in float64. A convolution is its kernel reshaped to (out, in · kernel).

    Args:
        module: searched with all its submodules.
        parameters: the ``id`` of the parameters wanted, say those of an optimizer; all by default.
    """
    norms = {}
    for name, child in module.named_modules():
        if isinstance(child, MATRICES) and (parameters is None or id(child.weight) in parameters):
            matrix = child.weight.flatten(1).double()
            gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
            norms[name] = torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt().item()
    return norms
