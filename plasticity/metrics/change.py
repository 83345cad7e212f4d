"""Measurements on what a network says, and on how far updates move that and its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

#: The policy in a batch of states: a distribution over actions, or several that are drawn independently.
Policy = Distribution | Sequence[Distribution]


@torch.no_grad()
def policy_entropy(policy: Policy) -> float:
    """The mean over states of H = −Σ_a π(a|s) log π(a|s), in nats; for continuous actions −∫ π log π, which may be < 0.

    Args:
        policy: its batch shape is (states) or (states, dimensions); independent dimensions add up.

    Raises:
        NotImplementedError: torch has no entropy of such a distribution.
    """
    return float(sum(_per_state(part.entropy()) for part in _parts(policy)).mean())  # type: ignore[union-attr]


@torch.no_grad()
def policy_churn(before: Policy, after: Policy) -> float:
    """The mean over states of KL(π_before ‖ π_after), in nats: what updates change in the policy.

    Policy churn is measured on a reference batch, of states that updates need not have been on (Tang & Berseth, 2024,
    arXiv 2409.04792; C-CHAIN, Tang et al., 2025, arXiv 2506.00592). Infinite where an action becomes impossible.

    Args:
        before, after: the policies in the same states, of the same kind, see :func:`policy_entropy`.

    Raises:
        ValueError: they do not have the same number of parts.
        NotImplementedError: torch has no divergence between such distributions.
    """
    pairs = zip(_parts(before), _parts(after), strict=True)
    return float(sum(_per_state(kl_divergence(old, new)) for old, new in pairs).mean())  # type: ignore[union-attr]


@torch.no_grad()
def greedy_churn(before: Tensor, after: Tensor) -> float:
    """The share of states in which another action has become the best (Schaul et al., 2022, arXiv 2206.00730).

    Args:
        before, after: preferences for each action in the same states, (states, actions): values, logits or
            probabilities. NaN if one of them is NaN.

    Raises:
        ValueError: their shapes differ.
    """
    _check(before, after)
    if bool(before.isnan().any() | after.isnan().any()):
        return float("nan")
    return float((before.argmax(-1) != after.argmax(-1)).double().mean())


@torch.no_grad()
def value_churn(before: Tensor, after: Tensor) -> float:
    """The mean over states of |V_after − V_before| (Tang & Berseth, 2024, arXiv 2409.04792), in units of the return.

    Args:
        before, after: the values of the same states, or state–action pairs, of one shape.

    Raises:
        ValueError: their shapes differ.
    """
    _check(before, after)
    return float((after.double() - before.double()).abs().mean())


@torch.no_grad()
def update_ratio(before: Tensor, after: Tensor) -> float:
    """‖W_after − W_before‖_F / ‖W_before‖_F: how far updates move a weight, as a share of its size.

    Of zeros that stay it is 0, of zeros that move infinite.

    Args:
        before, after: the weight, of one shape.

    Raises:
        ValueError: their shapes differ.
    """
    _check(before, after)
    moved, size = (float(torch.linalg.vector_norm(change.flatten())) for change in (after - before, before))
    return moved / size if size else moved and moved * float("inf")


def _parts(policy: Policy) -> Sequence[Distribution]:
    return [policy] if isinstance(policy, Distribution) else policy


def _per_state(numbers: Tensor) -> Tensor:
    """(states), from (states, …)."""
    return numbers.reshape(len(numbers), -1).sum(1)


def _check(before: Tensor, after: Tensor) -> None:
    if before.shape != after.shape:
        raise ValueError(f"one shape is needed, got {tuple(before.shape)} before and {tuple(after.shape)} after")
