"""Drawing actions: stable-baselines3's distributions with less around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from torch.distributions import Categorical


class UncheckedCategorical(CategoricalDistribution):
    """stable-baselines3's categorical distribution without torch's argument checks, which synchronize the device
    several times per update. ``Continual.check_finite`` detects non-finite weights and losses.
    """

    def proba_distribution(self, action_logits: Tensor) -> Self:
        self.distribution = Categorical(logits=action_logits, validate_args=False)
        return self


def draw_categorical(outputs: Tensor, _: ActorCriticPolicy) -> tuple[Tensor, Tensor]:
    """Actions a ~ softmax(outputs), (batch, 1), and log π(a), (batch): those of ``Categorical``, to rounding."""
    log_p = outputs.log_softmax(-1)  # logsumexp and softmax, as there, take three times as long
    actions = torch.multinomial(log_p.exp(), 1, replacement=True)
    return actions, log_p.gather(-1, actions)[:, 0]


def draw_gaussian(outputs: Tensor, policy: ActorCriticPolicy) -> tuple[Tensor, Tensor]:
    """Actions a ~ N(outputs, σ²), (batch, dimensions), and log π(a), (batch): to the bit those of ``Normal``."""
    std = torch.ones_like(outputs) * policy.log_std.exp()
    actions = outputs + torch.randn_like(outputs) * std
    log_prob = -((actions - outputs) ** 2) / (2 * std**2) - std.log() - math.log(math.sqrt(2 * math.pi))
    return actions, log_prob.sum(dim=1)


#: How actions and log π(a) follow from the actor's outputs, by the class of the policy's ``action_dist``.
DRAWS: dict[type, Callable[[Tensor, ActorCriticPolicy], tuple[Tensor, Tensor]]] = {
    UncheckedCategorical: draw_categorical,
    DiagGaussianDistribution: draw_gaussian,
}
