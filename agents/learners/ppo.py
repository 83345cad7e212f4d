"""The update of PPO, with the gradient of its loss in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.utils import explained_variance
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from neoteny.agents.learners.flat import Flat
from neoteny.agents.learners.graphs import Pause, Recorded
from neoteny.agents.learners.lanes import Lanes, Shape, UnreadableError, defines_both
from neoteny.agents.learners.reading import compact_of, same_methods

#: What a policy must not have overridden.
METHODS = ("evaluate_actions", "extract_features", "_get_action_dist_from_latent")


class Categorical:
    """Actions a ~ softmax(z).

    log π(a) = log softmax(z)_a and H = −Σ π log π, so ∂log π(a)/∂z = e_a − π and ∂H/∂z = −π (log π + H).
    """

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """log π(a) and H, (batch) each, of ``outputs`` z, (batch, actions), and ``actions``, (1, batch)."""
        self.log_p = torch.log_softmax(outputs.T.contiguous(), 0)  # along the first axis this is several times as fast
        self.p = self.log_p.exp()
        self.taken = actions.long()
        self.entropy = -(self.p * self.log_p).sum(0)
        return self.log_p.gather(0, self.taken)[0], self.entropy

    def backward(self, to_log_prob: Tensor, to_entropy: float) -> Tensor:
        """∂loss/∂z, (batch, actions), from ∂loss/∂log π(a), (batch), and ∂loss/∂H, the same in the whole batch."""
        inner = torch.add(self.log_p, self.entropy).mul_(-to_entropy).sub_(to_log_prob)
        return inner.mul_(self.p).scatter_add_(0, self.taken, to_log_prob[None]).T


class Gaussian:
    """Actions a ~ N(μ, e^2s), with one s per dimension, which is a parameter.

    With n = (a − μ) / e^s, log π(a) = −½ Σ n² − Σ s + c, so ∂log π/∂μ = n / e^s and ∂log π/∂s = n² − 1; H = Σ s + c.
    """

    def __init__(self, log_std: Tensor, gradient: Tensor):
        self.log_std, self.gradient = log_std, gradient

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """log π(a) and H, (batch) each, of ``outputs`` μ, (batch, dimensions), and ``actions``, transposed."""
        self.inverse = self.log_std.neg().exp()
        self.n = torch.sub(actions.T, outputs).mul_(self.inverse)
        constant = 0.5 * np.log(2 * np.pi)
        log_prob = self.n.square().sum(1).mul_(-0.5).sub_((self.log_std + constant).sum())
        return log_prob, (self.log_std + (0.5 + constant)).sum().expand(len(outputs))

    def backward(self, to_log_prob: Tensor, to_entropy: float) -> Tensor:
        """∂loss/∂μ, (batch, dimensions); ∂loss/∂s is written."""
        column = to_log_prob[:, None]
        torch.sum((self.n.square() - 1).mul_(column), 0, out=self.gradient)
        self.gradient.add_(to_entropy * len(to_log_prob))
        return self.n * self.inverse * column


class PPOUpdate:
    """Updates a PPO agent as ``stable_baselines3.PPO.train`` does, to rounding.

    Args:
        agent: is updated.

    Raises:
        UnreadableError: its policy or its settings are not those of the closed forms.
    """

    def __init__(self, agent: PPO):
        policy = agent.policy
        if not isinstance(policy, ActorCriticPolicy):
            raise UnreadableError(f"its policy is a {type(policy).__name__}")
        same_methods(policy, ActorCriticPolicy, METHODS)
        extractor: Any = policy.mlp_extractor
        same_methods(extractor, MlpExtractor, ("forward", "forward_actor", "forward_critic"))
        distribution = policy.action_dist
        known: list[type] = [CategoricalDistribution, DiagGaussianDistribution]
        kind = next((each for each in known if isinstance(distribution, each)), None)
        if agent.use_sde or kind is None:
            raise UnreadableError(f"its actions are drawn by {type(distribution).__name__}")
        same_methods(distribution, kind, ("log_prob", "entropy"))
        self.agent, self.shape = agent, Shape()
        self.shape.see(policy)
        self.shape.see(extractor)
        pair = [extractor.policy_net, extractor.value_net]
        try:
            self.torsos = [Lanes(pair, self.shape)]
        except UnreadableError:
            self.torsos = [Lanes([torso], self.shape) for torso in pair]
        self.encode, self.encodes_rollouts = compact_of(policy, self.shape, self.torsos)
        self.actor, self.critic = Lanes([policy.action_net], self.shape), Lanes([policy.value_net], self.shape)
        parts = [*self.torsos, self.actor, self.critic]
        gaussian = kind is DiagGaussianDistribution
        groups = [part.groups() for part in parts] + ([[[policy.log_std]]] if gaussian else [])
        self.flat = Flat([group for of in groups for group in of], policy.optimizer)
        values, gradients = iter(self.flat.values), iter(self.flat.gradients)
        for part, of in zip(parts, groups, strict=False):
            part.bind([next(values) for _ in of], [next(gradients) for _ in of])
        self.actions = Gaussian(next(values)[0], next(gradients)[0]) if gaussian else Categorical()
        self._recorded = Recorded(self._parts, agent.device)

    def intact(self) -> bool:
        """Whether the network is still what was read."""
        policy = self.agent.policy
        mine = policy.optimizer is self.flat.optimizer and vars(policy).keys().isdisjoint(METHODS)
        return mine and self.shape.intact() and self.flat.intact()

    def minibatch_features(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        """The features of a minibatch, (batch, columns), and which of all features these are; None for all."""
        buffer: Any = self.agent.rollout_buffer
        encoded = getattr(buffer, "encode", None)
        return (batch.observations, buffer.columns) if encoded else self.encode(batch.observations)

    @torch.no_grad()
    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """log π(a), H and the values, (batch) each."""
        features, columns = self.minibatch_features(batch)
        for torso in self.torsos:
            torso.columns = columns
        latent = [lane for torso in self.torsos for lane in torso.forward(features)]
        outputs = self.actor.forward(latent[0])[0]
        actions = batch.actions.reshape(len(outputs), -1).T
        return *self.actions.evaluate(outputs, actions), self.critic.forward(latent[1])[0, :, 0]

    def backward(self, to_outputs: Tensor, to_values: Tensor) -> None:
        """Write the gradients of all parameters."""
        to_latent = [
            self.actor.backward(to_outputs[None], inputs=True),
            self.critic.backward(to_values[None, :, None], inputs=True),
        ]
        if len(self.torsos) == 1:
            to_latent = [torch.cat(to_latent)]
        for torso, gradient in zip(self.torsos, to_latent, strict=True):
            torso.backward(gradient)

    def by_autograd(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """log π(a), H and the values, (batch) each, of networks that were changed since they were read."""
        policy: Any = self.agent.policy
        features, columns = self.minibatch_features(batch)
        if columns is not None:
            features = features.new_zeros(len(features), policy.features_dim).index_copy_(1, columns, features)
        latent_pi, latent_vf = policy.mlp_extractor(features)
        distribution = policy._get_action_dist_from_latent(latent_pi)
        actions = batch.actions if isinstance(self.actions, Gaussian) else batch.actions.long().flatten()
        return distribution.log_prob(actions), distribution.entropy(), policy.value_net(latent_vf).flatten()

    def train(self, rest: object = None) -> None:
        """All updates on a rollout; what is changed during it is left to autograd, so nothing to ``rest``."""
        agent: Any = self.agent
        left, optimizer = agent._current_progress_remaining, agent.policy.optimizer
        agent.policy.set_training_mode(True)
        agent._update_learning_rate(optimizer)
        clip = agent.clip_range(left)
        clip_values = None if agent.clip_range_vf is None else agent.clip_range_vf(left)
        hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
        constants = (agent.max_grad_norm, agent.ent_coef, agent.vf_coef, agent.normalize_advantage)
        watched = any((*hooks, _global_optimizer_pre_hooks, _global_optimizer_post_hooks))
        means: list[Tensor] = []
        stops = False
        buffer = agent.rollout_buffer
        whole = self.encodes_rollouts and defines_both(buffer, "_get_samples", "encoding")
        with buffer.encoding(self.encode) if whole else nullcontext():
            for epoch in range(agent.n_epochs):
                epoch_begins = len(means)
                for batch in buffer.get(agent.batch_size):
                    intact = not watched or self.intact()
                    if intact:
                        means.append(self._recorded(batch, clip, clip_values, *constants))
                    else:
                        means.append(self.differentiate(batch, clip, clip_values, False))
                    kl = float(means[-1][3]) if agent.target_kl is not None else 0.0
                    stops = agent.target_kl is not None and kl > 1.5 * agent.target_kl
                    if stops:
                        if agent.verbose >= 1:
                            print(f"Early stopping at step {epoch} due to reaching max kl: {kl:.2f}")
                        break
                    if intact:
                        self.flat.step()
                    else:
                        torch.nn.utils.clip_grad_norm_(agent.policy.parameters(), agent.max_grad_norm)
                        optimizer.step()
                agent._n_updates += 1
                if stops:
                    break
        self._log(torch.stack(means).cpu().numpy(), epoch_begins, clip, clip_values)

    def _parts(self, batch: Any, clip: float, clip_values: float | None, largest: float, *_: float) -> Iterator[Pause]:
        """The gradient, and the means that :meth:`differentiate` returns. Further settings are read off the agent."""
        means = self.differentiate(batch, clip, clip_values, True)
        self.flat.clip_(largest)
        yield None, means

    def differentiate(self, batch: Any, clip: float, clip_values: float | None, intact: bool) -> Tensor:
        """Write the gradient of the loss on a minibatch.

        With r = π(a)/π_old(a) and normalized advantages A, the loss is the mean over the minibatch of
        −min(rA, clip(r)A) − ent_coef·H + vf_coef·(R − v)². So ∂loss/∂log π = −rA/n where rA is the smaller one, else 0.

        Args:
            batch: the minibatch.
            clip, clip_values: how far r and v may go.
            intact: whether the network is what was read; else autograd goes through it.

        Returns:
            Means over the minibatch: of min(rA, clip(r)A), H, (R − v)², KL(π_old ‖ π) and of |r − 1| > clip.
        """
        agent: Any = self.agent
        n = len(batch.advantages)
        graph = () if intact else self.by_autograd(batch)
        log_prob, entropy, values = (t.detach() for t in graph) if graph else self.forward(batch)
        advantages = batch.advantages
        if agent.normalize_advantage and n > 1:
            std, mean = torch.std_mean(advantages)
            advantages = (advantages - mean).div_(std + 1e-8)
        log_ratio = log_prob - batch.old_log_prob
        ratio = log_ratio.exp()
        plain, clipped = advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
        to_log_prob = torch.where(plain <= clipped, plain, 0).mul_(-1 / n)
        error = to_values = values - batch.returns
        if clip_values is not None:
            change = values - batch.old_values
            error = batch.old_values + change.clamp(-clip_values, clip_values) - batch.returns
            to_values = torch.where(change.abs() <= clip_values, error, 0)
        to_values = to_values * (2 * agent.vf_coef / n)
        if graph:
            agent.policy.optimizer.zero_grad()
            torch.autograd.backward(graph, [to_log_prob, torch.full_like(entropy, -agent.ent_coef / n), to_values])
        else:
            self.backward(self.actions.backward(to_log_prob, -agent.ent_coef / n), to_values)
        kl = (ratio - 1).sub_(log_ratio)
        outside = ((ratio - 1).abs_() > clip).to(ratio)
        return torch.stack((torch.minimum(plain, clipped), entropy, error.square(), kl, outside)).mean(1)

    def _log(self, means: np.ndarray[Any, Any], last_epoch: int, clip: float, clip_values: float | None) -> None:
        agent: Any = self.agent
        surrogate, entropy, squared_error, _, outside = means.mean(0)
        last = means[-1]
        record, buffer = agent.logger.record, agent.rollout_buffer
        record("train/entropy_loss", -entropy)
        record("train/policy_gradient_loss", -surrogate)
        record("train/value_loss", squared_error)
        record("train/approx_kl", means[last_epoch:, 3].mean())
        record("train/clip_fraction", outside)
        record("train/loss", -last[0] - agent.ent_coef * last[1] + agent.vf_coef * last[2])
        record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        if hasattr(agent.policy, "log_std"):
            record("train/std", agent.policy.log_std.detach().exp().mean().item())
        record("train/n_updates", agent._n_updates, exclude="tensorboard")
        record("train/clip_range", clip)
        if clip_values is not None:
            record("train/clip_range_vf", clip_values)
