"""The update of DQN, with the gradient of its loss in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor

from neoteny.agents.learners.flat import Flat, Gathered
from neoteny.agents.learners.graphs import Pause, Recorded
from neoteny.agents.learners.lanes import Lanes, Shape
from neoteny.agents.learners.off_policy import OffPolicyUpdate
from neoteny.agents.learners.reading import compact_of, same_methods


class DQNUpdate(OffPolicyUpdate):
    """Updates a DQN agent as ``stable_baselines3.DQN.train`` does, to rounding.

    Args:
        agent: is updated.
        double: double Q-learning (van Hasselt et al., 2016, arXiv 1509.06461, equation 4).

    Raises:
        UnreadableError: its networks are not those of the closed forms.
    """

    def __init__(self, agent: DQN, double: bool):
        self.agent, self.double, self.shape = agent, double, Shape()
        self.optimizers = [agent.policy.optimizer]
        networks = online, target = agent.policy.q_net, agent.policy.q_net_target
        self.shape.see(agent.policy)
        for network in networks:
            same_methods(network, QNetwork, ("forward", "extract_features"))
            self.shape.see(network)
        self.online, self.target = Lanes([online.q_net], self.shape), Lanes([target.q_net], self.shape)
        self.encode, _ = compact_of(online, self.shape, [self.online, self.target])
        self.flat = Flat(self.online.groups(), agent.policy.optimizer)
        self.held = Gathered(self.target.groups())
        self.online.bind(self.flat.values, self.flat.gradients)
        self.target.bind(self.held.values)
        self._recorded = Recorded(self._parts, agent.device)

    def intact(self) -> bool:
        """Whether the networks are still what was read."""
        mine = self.agent.policy.optimizer is self.flat.optimizer
        return mine and all(part.intact() for part in (self.shape, self.flat, self.held))

    @torch.no_grad()
    def greedy(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The actions of the largest values, (batch), with fewer calls than ``policy.predict``."""
        features, self.online.columns = self.encode(torch.as_tensor(observations, device=self.agent.device))
        return self.online.forward(features, keep=False)[0].argmax(1).cpu().numpy()

    def update(self, batch: Any, step: int) -> Tensor:
        agent = self.agent
        discounts = agent.gamma if batch.discounts is None else batch.discounts
        return self._recorded(batch._replace(discounts=None), discounts, agent.max_grad_norm)

    @torch.no_grad()
    def _parts(self, batch: Any, discounts: Tensor | float, largest: float) -> Iterator[Pause]:
        """One step on a minibatch of transitions (s, a, r, s').

        With the error δ = Q(s, a) − r − γ(1 − done) max Q_target(s', ·), the loss is the mean of δ²/2 where |δ| < 1,
        else |δ| − 1/2. So ∂loss/∂Q(s, a) = clip(δ, −1, 1)/n.
        """
        features, columns = self.encode(torch.cat([batch.observations, batch.next_observations]))
        self.online.columns = self.target.columns = columns
        now, later = features.chunk(2)
        next_values = self.target.forward(later, keep=False)[0]
        if self.double:
            best = self.online.forward(later, keep=False)[0].argmax(1, keepdim=True)
            next_values = next_values.gather(1, best)
        else:
            next_values = next_values.amax(1, keepdim=True)
        wanted = torch.addcmul(batch.rewards, 1 - batch.dones, next_values * discounts)
        values = self.online.forward(now)
        taken = batch.actions.long()
        chosen = values[0].gather(1, taken)
        error = chosen - wanted
        self.online.backward(torch.zeros_like(values).scatter_(2, taken[None], error.clamp(-1, 1)[None] / len(error)))
        self.flat.clip_(largest)
        yield self.flat.step, torch.nn.functional.smooth_l1_loss(chosen, wanted)

    def log(self, losses: list[Tensor]) -> None:
        self.agent.logger.record("train/loss", torch.stack(losses).mean().item())
