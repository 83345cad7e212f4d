"""Measurements on matrices, against numpy and scipy, closed cases, and degenerate input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from neoteny.plasticity.metrics import (
    condition_number,
    effective_rank,
    frobenius_norm,
    singular_values,
    stable_rank,
    threshold_rank,
)

SHAPES = [(5, 5), (64, 64), (3, 40), (40, 3), (1, 7), (7, 1), (1, 1), (64, 980)]


def matrix(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_all_are_those_of_numpy(shape, dtype):
    given = matrix(shape, dtype)
    exact = given.double().numpy()
    values = singular_values(given)
    theirs = np.linalg.svd(exact, compute_uv=False)
    assert values.dtype == torch.float64
    np.testing.assert_allclose(values, theirs, rtol=1e-7)
    assert condition_number(values) == pytest.approx(np.linalg.cond(exact), rel=1e-6)
    assert stable_rank(values) == pytest.approx(np.linalg.norm(exact) ** 2 / np.linalg.norm(exact, 2) ** 2, rel=1e-7)
    assert effective_rank(values) == pytest.approx(np.exp(stats.entropy(theirs)), rel=1e-7)
    assert frobenius_norm(given) == pytest.approx(np.linalg.norm(exact), rel=1e-12)
    for delta in (0.01, 0.3):
        assert threshold_rank(values, delta) == srank(theirs, delta)


def srank(values: np.ndarray, delta: float) -> int:
    """By the definition: one k after the other."""
    for k in range(1, len(values) + 1):
        if sum(values[:k]) / sum(values) >= 1 - delta:
            return k
    raise AssertionError


def test_closed_cases():
    """σ = 8, 4, 2, 2: p = 1/2, 1/4, 1/8, 1/8 has an entropy of 7/4 bits."""
    values = singular_values(torch.diag(torch.tensor([2.0, -8, 4, -2])))
    assert values.tolist() == pytest.approx([8, 4, 2, 2])
    assert condition_number(values) == pytest.approx(4)
    assert stable_rank(values) == pytest.approx(88 / 64)
    assert effective_rank(values) == pytest.approx(2 ** (7 / 4))
    assert [threshold_rank(values, delta) for delta in (0.0, 0.12, 0.13, 0.26, 0.51)] == [4, 4, 3, 2, 1]
    for number in (stable_rank, effective_rank, threshold_rank):
        assert number(singular_values(torch.eye(6))) == pytest.approx(6)
    assert condition_number(singular_values(3 * torch.eye(6))) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_rank_one(dtype):
    values = singular_values(torch.outer(torch.arange(1, 5, dtype=dtype), torch.arange(3, 9, dtype=dtype)))
    assert stable_rank(values) == pytest.approx(1)
    assert effective_rank(values) == pytest.approx(1, abs=1e-6)
    assert threshold_rank(values) == 1
    assert condition_number(values) > 1e7


@pytest.mark.parametrize("shape", [(4, 4), (2, 5), (1, 1)])
def test_of_zeros(shape):
    values = singular_values(torch.zeros(shape))
    assert values.tolist() == [0] * min(shape)
    assert [stable_rank(values), effective_rank(values), threshold_rank(values)] == [0, 0, 0]
    assert condition_number(values) == math.inf
    assert frobenius_norm(torch.zeros(shape)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_of_what_is_not_finite(bad):
    given = matrix((4, 3))
    given[1, 2] = bad
    values = singular_values(given)
    assert len(values) == 3
    for number in (condition_number, stable_rank, effective_rank, threshold_rank):
        assert math.isnan(number(values))
    assert not math.isfinite(frobenius_norm(given))


def test_scale_changes_no_rank():
    one, other = singular_values(matrix((6, 9))), singular_values(matrix((6, 9)) * 1e-12)
    for number in (condition_number, stable_rank, effective_rank, threshold_rank):
        assert number(one) == pytest.approx(number(other), rel=1e-6)


def test_what_rounding_to_float32_hides_is_zero():
    u, _, v = torch.linalg.svd(matrix((5, 5), torch.float64))
    spectrum = torch.tensor([1, 1, 1, 1, 1e-5], dtype=torch.float64)
    assert condition_number(singular_values((u * spectrum @ v).float())) == pytest.approx(1e5, rel=0.05)
    spectrum[-1] = 1e-10
    assert condition_number(singular_values(u * spectrum @ v)) == pytest.approx(1e10, rel=1e-3)  # not in float64
    double = (torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64))
    assert condition_number(singular_values(double[0])) == math.inf
    assert condition_number(singular_values(double[1])) > 1e15


def test_errors():
    with pytest.raises(ValueError, match=r"a matrix is needed, got the shape \(2, 3, 4\)"):
        singular_values(torch.zeros(2, 3, 4))
    for number in (condition_number, stable_rank, effective_rank, threshold_rank):
        for wrong in (torch.zeros(0), torch.zeros(2, 2)):
            with pytest.raises(ValueError, match="singular values of a matrix are needed"):
                number(wrong)
    with pytest.raises(ValueError, match=r"delta: a number in \[0, 1\) is needed, got 1"):
        threshold_rank(torch.ones(2), 1)


def test_nothing_is_changed():
    given, state = matrix((4, 4)).requires_grad_(), torch.get_rng_state()
    before = given.detach().clone()
    assert not singular_values(given).requires_grad
    assert torch.equal(given, before)
    assert torch.equal(torch.get_rng_state(), state)
