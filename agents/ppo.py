"""PPO that learns continually, and its configuration."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import stable_baselines3 as sb3
from gymnasium import spaces
from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from agents.buffers import TensorRollouts
from agents.continual import Continual
from agents.networks import ACTIVATIONS, Activation, ActorCritic

STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class Network:
    """Separate torsos for actor and critic.

    Attributes:
        hidden: widths of the hidden layers.
        activation: after each of them.
        layer_norm: a LayerNorm between each of them and its activation.
    """

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = False


@dataclass(frozen=True, config=STRICT)
class PPOConfig:
    """Settings of :class:`PPO`, named as in stable-baselines3.

    Attributes:
        learning_rate: of Adam.
        n_steps: steps per environment in one rollout.
        batch_size: of a minibatch.
        n_epochs: passes over a rollout.
        gamma: discount factor.
        gae_lambda: λ of generalized advantage estimation.
        clip_range: ε of the clipped objective.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss.
        max_grad_norm: gradients are clipped to this norm, before any penalty joins.
        target_kl: a rollout's updates end early at 1.5 times this divergence from the policy that collected it; null
            for never.
        network: the torsos.
    """

    learning_rate: PositiveFloat = 1e-3
    n_steps: PositiveInt = 32
    batch_size: Annotated[int, Field(ge=2)] = 256
    n_epochs: PositiveInt = 4
    gamma: Fraction = 0.99
    gae_lambda: Fraction = 0.95
    clip_range: PositiveFloat = 0.2
    ent_coef: NonNegativeFloat = 0.02
    vf_coef: NonNegativeFloat = 0.5
    max_grad_norm: PositiveFloat = 0.5
    target_kl: PositiveFloat | None = 0.02
    network: Network = Network()

    def arguments(self) -> dict[str, Any]:
        """What the algorithm's constructor takes. Adam runs fused: the same update in fewer, faster kernels."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "network"}
        return settings | {
            "policy_kwargs": {
                "net_arch": list(self.network.hidden),
                "activation_fn": ACTIVATIONS[self.network.activation],
                "layer_norm": self.network.layer_norm,
                "optimizer_kwargs": {"fused": True},
            }
        }


class PPO(Continual, sb3.PPO):
    """Proximal policy optimization (Schulman et al., 2017, arXiv 1707.06347) with plasticity methods.

    Takes every argument of ``stable_baselines3.PPO``, and ``reg``, see :class:`~agents.continual.Continual`.
    """

    Config: ClassVar[type] = PPOConfig

    policy_aliases: ClassVar[dict[str, Any]] = {**sb3.PPO.policy_aliases, "ActorCritic": ActorCritic}

    def _setup_model(self) -> None:
        if self.rollout_buffer_class is None and not isinstance(self.observation_space, spaces.Dict):
            self.rollout_buffer_class = TensorRollouts
        super()._setup_model()
