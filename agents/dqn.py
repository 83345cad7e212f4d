"""Continual DQN and its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import stable_baselines3 as sb3
from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from pydantic.dataclasses import dataclass
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from neoteny.agents.closed_form import ClosedForm
from neoteny.agents.config import STRICT, Fraction, Network, OffPolicyConfig
from neoteny.agents.continual import Continual
from neoteny.agents.learners import DQNUpdate, UnreadableError
from neoteny.agents.networks import QPolicy, check_parts
from neoteny.agents.switch import ReplayAtSwitch


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DQNAtSwitch(ReplayAtSwitch):
    """What DQN does at a switch.

    Attributes:
        exploration: restart anneals ε again in every task; keep leaves it at its final value after the first task.
    """

    exploration: Literal["restart", "keep"] = "restart"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DQNConfig(OffPolicyConfig):
    """Settings of :class:`DQN`, named as in stable-baselines3.

    Attributes:
        target_update_interval: environment steps between two updates of the target network.
        exploration_fraction: fraction of a task over which ε is annealed.
        exploration_initial_eps: ε, the probability of a random action, at the start of a task.
        exploration_final_eps: ε after that fraction of the task.
        max_grad_norm: gradients are clipped to this norm, before a penalty is added, or with it (`joins`).
        double: double Q-learning.
        closed_form: compute updates in closed form where the network allows it; false for stable-baselines3's own,
            which are slower and differ by rounding.
        at_switch: what to do at a task switch.
    """

    policy: ClassVar[Any] = "QPolicy"

    target_update_interval: PositiveInt = 500
    exploration_fraction: Annotated[float, Field(gt=0, le=1)] = 0.3
    exploration_initial_eps: Fraction = 1.0
    exploration_final_eps: Fraction = 0.05
    max_grad_norm: PositiveFloat = 10.0
    double: bool = True
    closed_form: bool = True
    at_switch: DQNAtSwitch = DQNAtSwitch()

    @field_validator("network")
    @classmethod
    def _is_all_critic(cls, network: Network) -> Network:
        check_parts(network.parts, QPolicy.roles)
        return network


class DoubleTarget:
    """Q_target(s, argmax_a Q_online(s, a)), the double DQN target (van Hasselt et al., 2016, arXiv 1509.06461,
    equation 4), in place of DQN's max_a Q_target(s, a).

    stable-baselines3's DQN takes the maximum over the columns of its target network's output. This returns a single
    column, of shape (batch, 1).
    """

    def __init__(self, online: nn.Module, target: nn.Module):
        self.online = online
        self.target = target

    def __call__(self, observations: PyTorchObs) -> Tensor:
        best = self.online(observations).argmax(1, keepdim=True)
        return self.target(observations).gather(1, best)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The target network's parameters."""
        return self.target.parameters()


class DQN(ClosedForm, Continual, sb3.DQN):
    """Deep Q-network (Mnih et al., 2015) with plasticity methods.

    Takes every argument of ``stable_baselines3.DQN``, those of :class:`~neoteny.agents.continual.Continual`, and
    ``double``.
    With several environments, each explores independently; stable-baselines3 draws once for all.

    Args:
        double: double Q-learning, see :class:`DoubleTarget`.
    """

    Config: ClassVar[type] = DQNConfig
    stock = sb3.DQN
    SwitchPolicy = DQNAtSwitch
    needs = spaces.Discrete
    instead = "sac or ppo"

    policy_aliases: ClassVar[dict[str, Any]] = {**sb3.DQN.policy_aliases, "QPolicy": QPolicy}

    at_switch: DQNAtSwitch

    def __init__(self, policy: Any, env: Any, *args: Any, double: bool = False, **kwargs: Any):
        self.double = double
        super().__init__(policy, env, *args, **kwargs)
        self._arguments["double"] = double

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.double:
            self.q_net_target = DoubleTarget(self.q_net, self.policy.q_net_target)  # type: ignore[assignment]
        anneal = self.exploration_schedule
        self.exploration_schedule = lambda left: anneal(0.0 if self._has_explored else left)

    def make_update(self) -> DQNUpdate:
        if not self.double and self.q_net_target is not self.policy.q_net_target:
            raise UnreadableError(f"its target is a {type(self.q_net_target).__name__}")
        return DQNUpdate(self, self.double)

    @property
    def _has_explored(self) -> bool:
        return self.at_switch.exploration == "keep" and self._tasks_begun > 1

    def restart_exploration(self) -> None:
        """Nothing to do here: the next task restarts ε, see :meth:`begin_task`."""

    def begin_task(self, steps: int) -> None:
        super().begin_task(steps)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """Greedy actions if ``deterministic``, else ε-greedy actions, independently in each environment."""
        plain = isinstance(observation, np.ndarray) and observation.shape[1:] == self.observation_space.shape
        if deterministic or not (plain or self.policy.is_vectorized_observation(observation)):
            return super().predict(observation, state, episode_start, deterministic)
        batch = len(next(iter(observation.values())) if isinstance(observation, dict) else observation)
        # The global generator, as in stable-baselines3: with one environment the draws are the same.
        explores = np.random.rand(batch) < self.exploration_rate  # noqa: NPY002
        samples = [self.action_space.sample() for _ in range(explores.sum())]
        if explores.all():
            return np.array(samples), state
        update, _ = self._closed_form()
        if plain and update is not None:
            actions = update.greedy(observation)
        else:
            actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        actions[explores] = samples
        return actions, state
