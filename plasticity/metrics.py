"""What is measured of a network. Nothing here changes it, or any random state."""

from __future__ import annotations

import torch
from torch import nn

from plasticity.layers import MATRICES


@torch.no_grad()
def spectral_norms(module: nn.Module) -> dict[str, float]:
    """The largest singular value of every Linear and Conv layer, by name, exactly (by SVD, in float64).

    A convolution is its kernel reshaped to (out, in · kernel).
    """
    return {
        name: torch.linalg.matrix_norm(child.weight.flatten(1).double(), 2).item()
        for name, child in module.named_modules()
        if isinstance(child, MATRICES)
    }
