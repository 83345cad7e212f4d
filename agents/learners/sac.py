"""The update of SAC, with the gradients of its losses in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor
from torch import Tensor

from neoteny.agents.learners.flat import Flat, Gathered, check
from neoteny.agents.learners.graphs import Pause, Recorded
from neoteny.agents.learners.lanes import Lanes, Shape, UnreadableError
from neoteny.agents.learners.off_policy import OffPolicyUpdate
from neoteny.agents.learners.reading import encoder_of, same_methods


class Sample(NamedTuple):
    """Actions a = tanh(u), u = μ + e^s n with n ~ N(0, 1), and log π(a) = −Σ (n²/2 + s + ½ log 2π + log(1 − a² + ε)).

    Attributes:
        actions, noise, std: a, n and e^s, (batch, dimensions) each.
        log_prob: (batch, 1).
        inside: where s was not clamped.
        epsilon: ε, a number.
    """

    actions: Tensor
    noise: Tensor
    std: Tensor
    log_prob: Tensor
    inside: Tensor
    epsilon: float

    @classmethod
    def of(cls, outputs: Tensor, noise: Tensor, epsilon: float) -> Sample:
        """Given μ and s, (2, batch, dimensions), n and ε."""
        mean, log_std = outputs
        clamped = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = clamped.exp()
        actions = torch.addcmul(mean, std, noise).tanh_()
        squashed = torch.log(1 - actions.square() + epsilon)
        terms = torch.addcmul(squashed, noise, noise, value=0.5).add_(clamped)
        log_prob = terms.sum(1, keepdim=True).add_(noise.shape[1] * 0.5 * math.log(2 * math.pi)).neg_()
        return cls(actions, noise, std, log_prob, log_std == clamped, epsilon)

    def backward(self, to_actions: Tensor, to_log_prob: Tensor) -> Tensor:
        """∂loss/∂(μ, s), (2, batch, dimensions), from ∂loss/∂a and from ∂loss/∂log π, the same in the whole batch.

        log π depends on μ and s through a, and on s directly: n is what was drawn.
        """
        slope = 1 - self.actions.square()
        by_actions = torch.addcdiv(to_actions, 2 * to_log_prob * self.actions, slope + self.epsilon)
        to_mean = by_actions.mul_(slope)
        to_log_std = (to_mean * self.std).mul_(self.noise).sub_(to_log_prob).mul_(self.inside)
        return torch.stack((to_mean, to_log_std))


class SACUpdate(OffPolicyUpdate):
    """Updates a SAC agent as ``stable_baselines3.SAC.train`` does, to rounding.

    Args:
        agent: is updated.

    Raises:
        UnreadableError: its networks or settings are not those of the closed forms.
    """

    def __init__(self, agent: SAC):
        if agent.use_sde:
            raise UnreadableError("use_sde is set")
        self.agent, self.shape = agent, Shape()
        self.optimizers = [agent.actor.optimizer, agent.critic.optimizer, *filter(None, [agent.ent_coef_optimizer])]
        self.networks = actor, critic, target = [agent.actor, agent.critic, agent.critic_target]
        same_methods(actor, Actor, ("action_log_prob", "get_action_dist_params", "extract_features"))
        squashed = SquashedDiagGaussianDistribution
        same_methods(actor.action_dist, squashed, ("log_prob", "log_prob_from_params", "proba_distribution"))
        for network in (critic, target):
            same_methods(network, ContinuousCritic, ("forward", "extract_features"))
            encoder_of(network, self.shape)
        for part in (agent.policy, actor, critic, target):
            self.shape.see(part)
        self.encode, _ = encoder_of(actor, self.shape)
        self.latent = Lanes([actor.latent_pi], self.shape)
        self.heads = Lanes([actor.mu, actor.log_std], self.shape)  # type: ignore[list-item]
        self.critic, self.target = Lanes(critic.q_networks, self.shape), Lanes(target.q_networks, self.shape)
        below, above = self.latent.groups(), self.heads.groups()
        trained: list[tuple[Any, Any]] = [([*below, *above], actor.optimizer), (self.critic.groups(), critic.optimizer)]
        if agent.ent_coef_optimizer is not None:
            trained.append(([[agent.log_ent_coef]], agent.ent_coef_optimizer))
        for groups, optimizer in trained:  # all, before any weight is moved
            check(groups, optimizer)
        self.actor_flat = Flat([*below, *above], actor.optimizer)
        self.critic_flat = Flat(self.critic.groups(), critic.optimizer)
        self.held = Gathered(self.target.groups())
        self.entropy_flat = Flat(*trained[2]) if len(trained) > 2 else None
        values, gradients, at = self.actor_flat.values, self.actor_flat.gradients, len(below)
        self.latent.bind(values[:at], gradients[:at])
        self.heads.bind(values[at:], gradients[at:])
        self.critic.bind(self.critic_flat.values, self.critic_flat.gradients)
        self.target.bind(self.held.values)
        self._recorded = Recorded(self._parts, agent.device)

    def intact(self) -> bool:
        """Whether the networks are still what was read."""
        agent, flats = self.agent, [self.actor_flat, self.critic_flat, self.entropy_flat]
        held = [agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer]
        own = [None if flat is None else flat.optimizer for flat in flats]
        same = self.networks == [agent.actor, agent.critic, agent.critic_target] and own == held
        parts: list[Any] = [self.shape, self.held, *(flat for flat in flats if flat is not None)]
        return same and all(part.intact() for part in parts)

    def act(self, features: Tensor, noise: Tensor, keep: bool = True) -> Sample:
        """The actor's actions, see :class:`Sample`."""
        epsilon = self.agent.actor.action_dist.epsilon
        return Sample.of(self.heads.forward(self.latent.forward(features, keep)[0], keep), noise, epsilon)

    def update(self, batch: Any, step: int) -> Tensor:
        """Returns α and the losses of the critics, of the actor and, where it is learned, of α."""
        agent: Any = self.agent
        discounts = agent.gamma if batch.discounts is None else batch.discounts
        parameter = next(agent.actor.parameters())
        shape = (len(batch.rewards), self.heads.layers[0][0].out_features)
        noise = [torch.randn(shape, device=parameter.device, dtype=parameter.dtype) for _ in range(2)]
        coefficient = None if self.entropy_flat is not None else agent.ent_coef_tensor
        tau = agent.tau if step % agent.target_update_interval == 0 else None
        return self._recorded(batch._replace(discounts=None), discounts, noise, coefficient, agent.target_entropy, tau)

    @torch.no_grad()
    def _parts(
        self,
        batch: Any,
        discounts: Tensor | float,
        noise: list[Tensor],
        coefficient: Tensor | None,
        target_entropy: float,
        tau: float | None,
    ) -> Iterator[Pause]:
        """One step of all optimizers on a minibatch of transitions (s, a, r, s').

        The entropy coefficient α has the loss −log α · mean(log π + H̄). Each critic has ½ mean(Q(s, a) − y)², where
        y = r + γ(1 − done)(min Q_target(s', a') − α log π(a')). The actor has mean(α log π − min Q(s, a)), a drawn.
        The target networks follow the critics by ``tau``, if it is not None.
        """
        agent: Any = self.agent
        now, later = self.encode(batch.observations), self.encode(batch.next_observations)
        following, drawn = self.act(later, noise[1], keep=False), self.act(now, noise[0])
        logged = []
        if coefficient is None:
            assert self.entropy_flat is not None
            coefficient = agent.log_ent_coef.detach().exp()
            gap = (drawn.log_prob + target_entropy).mean()
            logged.append(-agent.log_ent_coef.detach() * gap)
            self.entropy_flat.gradient.fill_(-gap)
        next_values = self.target.forward(torch.cat([later, following.actions], 1), keep=False).amin(0)
        soft = (next_values - coefficient * following.log_prob) * discounts
        wanted = torch.addcmul(batch.rewards, 1 - batch.dones, soft)
        error = self.critic.forward(torch.cat([now, batch.actions], 1)) - wanted
        self.critic.backward(error / len(now))
        yield self._step_critics, None
        lowest, which = self.critic.forward(torch.cat([now, drawn.actions], 1)).min(0, keepdim=True)
        to_values = error.new_zeros(error.shape).scatter_(0, which, -1 / len(now))
        to_inputs = self.critic.backward(to_values, inputs=True, weights=False).sum(0)
        to_outputs = drawn.backward(to_inputs[:, now.shape[1] :], coefficient / len(now))
        self.latent.backward(self.heads.backward(to_outputs, inputs=True).sum(0, keepdim=True))
        if tau is not None:
            self.held.buffer.mul_(1 - tau).add_(self.critic_flat.buffer, alpha=tau)
        actor_loss = (coefficient * drawn.log_prob - lowest[0]).mean()
        critic_loss = error.square().mean(1).sum() * 0.5
        parts = (coefficient, critic_loss, actor_loss, *logged)
        yield self.actor_flat.step, torch.cat([part.reshape(1) for part in parts])

    def _step_critics(self) -> None:
        if self.entropy_flat is not None:
            self.entropy_flat.step()
        self.critic_flat.step()

    def log(self, found: list[Tensor]) -> None:
        means = torch.stack(found).mean(0).tolist()
        for name, value in zip(("ent_coef", "critic_loss", "actor_loss", "ent_coef_loss"), means, strict=False):
            self.agent.logger.record(f"train/{name}", value)
