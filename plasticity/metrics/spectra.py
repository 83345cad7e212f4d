"""Measurements on a matrix: its singular values σ₁ ≥ … ≥ σ_k, and numbers that follow from these.

All but :func:`frobenius_norm` are NaN where an entry is not finite.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neoteny.plasticity.layers import layers_of, smaller_gram


@torch.no_grad()
def singular_values(matrix: Tensor) -> Tensor:
    """The singular values of a matrix, the largest first, in float64.

    Those of a matrix in float32 or narrower are √λ of the smaller Gram matrix in float64, several times as fast as a
    decomposition. They are exact to 1e-8 σ₁. Those below √(max(m, n)·ε)·σ₁ (about 3e-7 σ₁, what rounding to float32
    moves them by) cannot be told from 0, and are 0. A matrix in float64 is decomposed.

    Args:
        matrix: (m, n).

    Returns:
        min(m, n) values; NaN if an entry is not finite.

    Raises:
        ValueError: it is no matrix.
    """
    if matrix.ndim != 2:
        raise ValueError(f"a matrix is needed, got the shape {tuple(matrix.shape)}")
    wide = matrix.detach().double()
    if not wide.numel() or matrix.dtype == torch.float64:
        return torch.linalg.svdvals(wide) if torch.isfinite(wide).all() else _nan(wide)
    gram = smaller_gram(wide)
    if not torch.isfinite(gram.diagonal()).all():  # sums of squares of all entries
        return _nan(wide)
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().flip(0)
    rounding = (max(wide.shape) * torch.finfo(torch.float64).eps) ** 0.5
    return torch.where(values > rounding * values[0], values, 0.0)


def spectral_norms(module: nn.Module, parameters: Container[int] | None = None) -> dict[str, float]:
    """The largest singular value of every matrix, by its layer's name, to about eight digits.

    What the matrices of a module are is listed in docs/methods.md: a convolution is its kernel reshaped to (out,
    in · kernel), a recurrent layer has two matrices per gate.

    Args:
        module: searched with all its submodules.
        parameters: ``id`` of the parameters to include, such as those of an optimizer; all by default.
    """
    norms = {}
    for layer in layers_of(module):
        held = parameters is None or any(id(p) in parameters for p in layer.weights.parameters)
        if held and not layer.is_norm:
            norms[layer.name] = singular_values(layer.matrix)[0].item()
    return norms


def condition_number(values: Tensor) -> float:
    """κ = σ₁/σ_k (numpy's ``linalg.cond``). At least 1; infinite if σ_k is 0, so also of a zero matrix.

    Args:
        values: σ, (k), the largest first.

    Raises:
        ValueError: there is no value.
    """
    numbers = _numbers(values)
    first, last = float(numbers[0]), float(numbers[-1])
    return first / last if last else float("inf") if last == 0 else last


@np.errstate(invalid="ignore")
def stable_rank(values: Tensor) -> float:
    """‖W‖²_F / σ₁² = Σσ² / σ₁² (Rudelson & Vershynin, 2007, arXiv math/0503442). In [1, rank]; 0 of a zero matrix.

    Args:
        values: σ, (k), the largest first.

    Raises:
        ValueError: there is no value.
    """
    numbers = _numbers(values)
    return float(np.square(numbers / numbers[0]).sum()) if numbers[0] != 0 else 0.0


@np.errstate(invalid="ignore")
def effective_rank(values: Tensor) -> float:
    """exp(−Σ p log p) with p = σ/Σσ: the number of directions that equal singular values of the same entropy have.

    Roy & Vetterli, 2007, "The effective rank: a measure of effective dimensionality". In [1, rank]; 0 of a zero matrix.

    Args:
        values: σ, (k), in any order.

    Raises:
        ValueError: there is no value.
    """
    numbers = _numbers(values)
    total = numbers.sum()
    if total == 0:
        return 0.0
    shares = numbers / total
    return float(np.exp(-(shares * np.log(shares, where=shares != 0, out=np.zeros_like(shares))).sum()))


def threshold_rank(values: Tensor, delta: float = 0.01) -> float:
    """srank_δ: the smallest k with Σ_{i≤k} σ_i ≥ (1 − δ) Σσ (Kumar et al., 2021, arXiv 2010.14498). 0 of a zero matrix.

    Args:
        values: σ, (k), the largest first.
        delta: δ, in [0, 1).

    Raises:
        ValueError: there is no value, or δ is out of its range.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta: a number in [0, 1) is needed, got {delta}")
    sums = _numbers(values).cumsum()
    if not np.isfinite(sums[-1]):
        return float("nan")
    return float((sums < (1 - delta) * sums[-1]).sum() + 1) if sums[-1] > 0 else 0.0


@torch.no_grad()
def frobenius_norm(matrix: Tensor) -> float:
    """‖W‖_F = √Σw², the Euclidean norm of all entries, in float64.

    Args:
        matrix: of any shape.
    """
    return float(torch.linalg.vector_norm(matrix.double()))


def _nan(matrix: Tensor) -> Tensor:
    return matrix.new_full((min(matrix.shape),), torch.nan)


def _numbers(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values in numpy, where a few numbers take a tenth of the time that they take in torch."""
    if values.ndim != 1 or not len(values):
        raise ValueError(f"the singular values of a matrix are needed, got the shape {tuple(values.shape)}")
    return values.detach().double().cpu().numpy()
