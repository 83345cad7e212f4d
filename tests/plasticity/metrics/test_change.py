"""Entropy, churn and update ratio, against scipy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, Normal

from neoteny.plasticity.metrics import greedy_churn, policy_churn, policy_entropy, update_ratio, value_churn


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_categorical_policies():
    old, new = random(7, 5), random(7, 5, seed=1)
    p, q = (special.softmax(logits.numpy(), 1) for logits in (old, new))
    entropies = [stats.entropy(row) for row in p]
    divergences = [stats.entropy(row, other) for row, other in zip(p, q, strict=True)]
    assert policy_entropy(Categorical(logits=old)) == pytest.approx(np.mean(entropies))
    assert policy_churn(Categorical(logits=old), Categorical(logits=new)) == pytest.approx(np.mean(divergences))


def test_of_gaussian_policies():
    mean, log_std, other_mean, other_log_std = (random(6, 3, seed=seed) for seed in range(4))
    old, new = Normal(mean, log_std.exp()), Normal(other_mean, other_log_std.exp())
    entropy = divergence = 0.0
    for state in range(6):
        for i in range(3):
            m, s = mean[state, i].item(), log_std[state, i].exp().item()
            n, t = other_mean[state, i].item(), other_log_std[state, i].exp().item()
            entropy += stats.norm(m, s).entropy() / 6
            divergence += (math.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5) / 6
    assert policy_entropy(old) == pytest.approx(entropy)
    assert policy_churn(old, new) == pytest.approx(divergence)


def test_independent_parts_add_up():
    parts = [Categorical(logits=random(4, 3)), Categorical(logits=random(4, 2, seed=1))]
    others = [Categorical(logits=random(4, 3, seed=2)), Categorical(logits=random(4, 2, seed=3))]
    assert policy_entropy(parts) == pytest.approx(sum(policy_entropy(part) for part in parts))
    assert policy_churn(parts, others) == pytest.approx(sum(map(policy_churn, parts, others)))
    coins = Bernoulli(logits=torch.zeros(4, 3))
    assert policy_entropy(coins) == pytest.approx(3 * math.log(2))
    with pytest.raises(ValueError, match="zip"):
        policy_churn(parts, others[:1])


def test_of_policies_at_their_bounds():
    sure = Categorical(probs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    even = Categorical(probs=torch.full((2, 2), 0.5))
    assert policy_entropy(sure) == pytest.approx(0, abs=1e-6)
    assert policy_entropy(even) == pytest.approx(math.log(2))
    assert policy_churn(even, even) == 0
    assert policy_churn(sure, even) == pytest.approx(math.log(2))
    assert policy_churn(even, sure) > 5  # torch clips probabilities to those of its format
    nan = Categorical(logits=torch.tensor([[math.nan, 0.0]]), validate_args=False)
    assert math.isnan(policy_entropy(nan))
    assert math.isnan(policy_churn(nan, Categorical(logits=torch.zeros(1, 2))))


def test_a_policy_without_entropy_is_refused():
    mixture = MixtureSameFamily(Categorical(torch.ones(2, 2)), Normal(torch.zeros(2, 2), torch.ones(2, 2)))
    with pytest.raises(NotImplementedError):
        policy_entropy(mixture)


def test_of_greedy_actions_and_values():
    old, new = random(50, 4), random(50, 4, seed=1)
    changed = sum(
        max(range(4), key=a.__getitem__) != max(range(4), key=b.__getitem__)
        for a, b in zip(old.tolist(), new.tolist(), strict=True)
    )
    assert 0 < changed < 50
    assert greedy_churn(old, new) == changed / 50
    assert greedy_churn(old, 3 * old) == 0
    assert math.isnan(greedy_churn(old, old.clone().fill_(math.nan)))
    assert value_churn(torch.tensor([1.0, -2]), torch.tensor([0.0, 2])) == 2.5
    assert math.isnan(value_churn(torch.tensor([1.0]), torch.tensor([math.nan])))
    for churn in (greedy_churn, value_churn, update_ratio):
        with pytest.raises(ValueError, match="one shape is needed"):
            churn(torch.zeros(3, 2), torch.zeros(2))


def test_update_ratio():
    weight = random(4, 5).float()
    moved = weight + 0.1 * random(4, 5, seed=1).float()
    exact = np.linalg.norm(moved.numpy().astype(float) - weight.numpy()) / np.linalg.norm(weight.numpy().astype(float))
    assert update_ratio(weight, moved) == pytest.approx(exact)
    assert update_ratio(weight, weight) == 0
    assert update_ratio(weight, torch.zeros_like(weight)) == pytest.approx(1)
    zeros = torch.zeros(2, 2)
    assert update_ratio(zeros, zeros) == 0
    assert update_ratio(zeros, zeros + 1) == math.inf
    assert math.isnan(update_ratio(weight, weight * math.nan))
    assert math.isnan(update_ratio(zeros, zeros * math.nan))
