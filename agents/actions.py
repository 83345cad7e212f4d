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
    """Actions a ~ softmax(outputs), (batch, 1), and log π(a), (batch), drawn as by ``Categorical.sample``."""
    log_p = outputs.log_softmax(1)
    actions = torch.multinomial(log_p.exp(), 1, replacement=True)
    return actions, log_p.gather(1, actions)[:, 0]


def draw_gaussian(outputs: Tensor, policy: ActorCriticPolicy) -> tuple[Tensor, Tensor]:
    """Actions a ~ N(outputs, σ²), (batch, dimensions), and log π(a), (batch), drawn as by ``Normal.rsample``."""
    log_std = policy.log_std
    noise = torch.randn_like(outputs)
    constant = outputs.shape[1] * 0.5 * math.log(2 * math.pi) + log_std.sum()
    return torch.addcmul(outputs, noise, log_std.exp()), noise.square().sum(1).mul(-0.5) - constant


#: How actions and log π(a) follow from the actor's outputs, by the class of the policy's ``action_dist``.
DRAWS: dict[type, Callable[[Tensor, ActorCriticPolicy], tuple[Tensor, Tensor]]] = {
    UncheckedCategorical: draw_categorical,
    DiagGaussianDistribution: draw_gaussian,
}
