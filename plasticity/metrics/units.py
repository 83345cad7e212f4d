"""Measurements on the units of a layer, from a batch that went through it."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def dormant_units(activations: Tensor, tau: float = 0.025) -> Tensor:
    """Which units are τ-dormant: s_i = E|h_i| / mean_j E|h_j| ≤ τ (Sokar et al., 2023, arXiv 2302.12902).

    If all units are silent, all are dormant. If an activation is NaN, none is.

    Args:
        activations: (batch, units, …), or the sum or mean of the magnitudes per unit, (units).
        tau: the threshold, at least 0.

    Returns:
        A mask, (units).
    """
    magnitudes = _per_unit(activations)
    return magnitudes <= tau * magnitudes.mean()


@torch.no_grad()
def saturated_units(slopes: Tensor, tau: float = 0.025) -> Tensor:
    """Which units are saturated: E|f'(z_i)| ≤ τ, where f is the activation function and z_i what the unit gets.

    Almost no gradient passes such a unit. Of tanh and sigmoid these are the units at their bounds, as in Glorot &
    Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks"; of ReLU those that are 0
    for all but a share τ of the batch. A unit with a slope that is NaN is not saturated.

    Args:
        slopes: f'(z), (batch, units, …), or E|f'(z)| per unit, (units).
        tau: the threshold, at least 0.

    Returns:
        A mask, (units).
    """
    return _per_unit(slopes) <= tau


def _per_unit(values: Tensor) -> Tensor:
    """The mean magnitude of each unit, (units)."""
    magnitudes = values.abs()
    return magnitudes.transpose(0, 1).flatten(1).mean(1) if values.ndim > 1 else magnitudes
