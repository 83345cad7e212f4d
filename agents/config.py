"""Base classes of the agents' configurations."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic.dataclasses import dataclass

from neoteny.agents.encoders import find_encoder
from neoteny.agents.networks import ACTIVATIONS, WIDENING, Activation, Where, check_parts, units
from neoteny.agents.optimizers import ADAM, OptimizerSetting

STRICT = ConfigDict(extra="forbid")
Fraction = Annotated[float, Field(ge=0, le=1)]
#: Of a layer. A larger one takes seconds to be made, and more to learn.
Width = Annotated[PositiveInt, Field(le=100_000)]


@dataclass(frozen=True, config=STRICT)
class Network:
    """An encoder, followed by separate hidden layers for actor and critic.

    Attributes:
        hidden: widths of the hidden layers, as the next layer receives them. May be empty, for example after a CNN that
            ends in a hidden layer of its own.
        activation: activation function of the hidden layers.
        layer_norm: a LayerNorm before each activation; true, or in the actor or critic only.
        crelu: [max(z, 0), max(−z, 0)] as activation, with half as many units; true, actor or critic.
        fourier: [sin z, cos z] as activation, with half as many units; true, actor or critic.
        encoder: the features extractor: auto chooses by the observation space; or one-hot, flatten, nature-cnn,
            small-cnn, impala-cnn, cells-and-words, cells-and-words-gru, or your own BaseFeaturesExtractor as
            module:Class.
    """

    hidden: tuple[Width, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: Where = False
    crelu: Where = False
    fourier: Where = False
    encoder: str = "auto"

    @field_validator("encoder")
    @classmethod
    def _is_known(cls, name: str) -> str:
        find_encoder(name)
        return name

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        check_parts(self.parts)
        for name in self.parts.keys() & WIDENING.keys():
            for width in self.hidden:
                units(width, WIDENING[name])
        return self

    @property
    def parts(self) -> dict[str, Where]:
        """Which of ``layer_norm``, ``crelu`` and ``fourier`` are used, and in which networks."""
        parts = {"layer_norm": self.layer_norm, "crelu": self.crelu, "fourier": self.fourier}
        return {name: where for name, where in parts.items() if where}

    def policy_kwargs(self) -> dict[str, Any]:
        """Arguments of a policy's constructor. stable-baselines3's own policies take all but :attr:`parts`."""
        encoder = find_encoder(self.encoder)
        return {
            "net_arch": list(self.hidden),
            "activation_fn": ACTIVATIONS[self.activation],
            **self.parts,
            **({"features_extractor_class": encoder} if encoder else {}),
        }


@dataclass(frozen=True, config=STRICT)
class Normalize:
    """Normalization with running statistics, as in stable-baselines3's VecNormalize.

    Attributes:
        observation: normalize each entry of the observations to mean 0 and variance 1.
        reward: divide rewards by the standard deviation of discounted returns.
    """

    observation: bool = False
    reward: bool = False


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AgentConfig:
    """Settings shared by all agents, named as in stable-baselines3. Subclasses add those of their algorithm.

    Attributes:
        learning_rate: learning rate of the optimizer.
        gamma: discount factor.
        num_envs: number of parallel environments, unless the run sets it.
        network: encoder and hidden layers.
        normalize: running normalization of observations and rewards.
        optimizer: optimizer of the networks: a name (adam, muon, trac, upgd, or your own as module:Class) or a mapping
            of name and settings; null for the algorithm's default.
    """

    #: The algorithm's policy, by alias or as a class.
    policy: ClassVar[Any] = "MlpPolicy"
    #: Settings that are not arguments of the algorithm's constructor, but are applied elsewhere.
    elsewhere: ClassVar[tuple[str, ...]] = ("num_envs", "network", "normalize", "optimizer")

    learning_rate: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = 1e-3
    gamma: Fraction = 0.99
    num_envs: PositiveInt = 1
    network: Network = Network()
    normalize: Normalize = Normalize()
    optimizer: OptimizerSetting | None = ADAM

    @model_validator(mode="after")
    def _has_an_eps(self) -> Self:
        if self.optimizer:
            object.__setattr__(self, "optimizer", self.optimizer.with_eps(self.adam_eps))
        return self

    @property
    def adam_eps(self) -> float:
        """Adam's ε where none is given: 1e-8 with a replay buffer, else 1e-5, as in stable-baselines3's policies."""
        return 1e-8 if hasattr(self, "buffer_size") else 1e-5

    @property
    def rollout_length(self) -> int:
        """Steps of the vectorized environment between two updates: ``train_freq``, or ``n_steps`` if on-policy."""
        steps: int = getattr(self, "train_freq", 0) or getattr(self, "n_steps", 0)
        if not steps:
            raise NotImplementedError(f"{type(self).__name__} has neither train_freq nor n_steps: say rollout_length")
        return steps

    def arguments(self) -> dict[str, Any]:
        """Arguments of the algorithm's constructor, except ``env``, ``reg``, ``seed`` and ``device``."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.elsewhere}
        policy = self.network.policy_kwargs() | (self.optimizer.policy_kwargs() if self.optimizer else {})
        return {"policy": self.policy, **settings, "policy_kwargs": policy}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OffPolicyConfig(AgentConfig):
    """Settings shared by all agents with a replay buffer.

    Attributes:
        buffer_size: capacity of the replay buffer in transitions.
        learning_starts: environment steps with random actions before learning starts.
        batch_size: transitions per update.
        tau: coefficient of the target networks' soft update; 1 is a hard update.
        train_freq: steps of the vectorized environment between two rounds of updates.
        gradient_steps: updates per round; -1 for one per environment step taken.
    """

    buffer_size: PositiveInt = 50_000
    learning_starts: NonNegativeInt = 1000
    batch_size: PositiveInt = 64
    tau: Annotated[float, Field(gt=0, le=1)] = 1.0
    train_freq: PositiveInt = 4
    gradient_steps: Annotated[int, Field(ge=-1)] = 1
