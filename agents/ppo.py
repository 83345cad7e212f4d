"""Continual PPO and its configuration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import stable_baselines3 as sb3
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from neoteny.agents.buffers import TensorRollouts
from neoteny.agents.closed_form import ClosedForm
from neoteny.agents.config import STRICT, AgentConfig, Fraction
from neoteny.agents.continual import Continual
from neoteny.agents.learners import PPOUpdate
from neoteny.agents.networks import ActorCritic
from neoteny.agents.switch import AtSwitch


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ProximalConfig(AgentConfig):
    """Settings shared by PPO with and without memory, named as in stable-baselines3.

    Attributes:
        n_steps: steps per environment in one rollout.
        batch_size: minibatch size.
        n_epochs: epochs per rollout.
        gae_lambda: λ of generalized advantage estimation.
        clip_range: ε of the clipped objective.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss.
        max_grad_norm: gradients are clipped to this norm, before a penalty is added, or with it (`joins`); .inf
            for no clipping.
        target_kl: the updates on a rollout stop early at 1.5 times this KL divergence from the policy that collected
            it; null for no early stopping.
        at_switch: what to do at a task switch.
    """

    num_envs: PositiveInt = 64
    n_steps: PositiveInt = 32
    batch_size: Annotated[int, Field(ge=2)] = 256
    n_epochs: PositiveInt = 4
    gae_lambda: Fraction = 0.95
    clip_range: PositiveFloat = 0.2
    ent_coef: NonNegativeFloat = 0.02
    vf_coef: NonNegativeFloat = 0.5
    max_grad_norm: PositiveFloat = 0.5
    target_kl: PositiveFloat | None = 0.02
    at_switch: AtSwitch = AtSwitch()


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PPOConfig(ProximalConfig):
    """Settings of :class:`PPO`, named as in stable-baselines3.

    Attributes:
        closed_form: compute updates in closed form where the network allows it; false for stable-baselines3's own,
            which are slower and differ by rounding.
    """

    policy: ClassVar[Any] = "ActorCritic"

    closed_form: bool = True


class PPO(ClosedForm, Continual, sb3.PPO):
    """Proximal policy optimization (Schulman et al., 2017, arXiv 1707.06347) with plasticity methods.

    Takes every argument of ``stable_baselines3.PPO``, and those of :class:`~neoteny.agents.continual.Continual`.
    """

    Config: ClassVar[type] = PPOConfig
    stock = sb3.PPO

    policy_aliases: ClassVar[dict[str, Any]] = {**sb3.PPO.policy_aliases, "ActorCritic": ActorCritic}

    def _setup_model(self) -> None:
        if self.rollout_buffer_class is None and not isinstance(self.observation_space, spaces.Dict):
            self.rollout_buffer_class = TensorRollouts
        super()._setup_model()

    def make_update(self) -> PPOUpdate:
        return PPOUpdate(self)
