"""What the configurations of all agents have in common."""

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


@dataclass(frozen=True, config=STRICT)
class Network:
    """An encoder, and hidden layers after it: separate ones for actor and critic.

    Attributes:
        hidden: widths of the hidden layers, as the next layer receives them; none at all is allowed too, after a CNN
            that ends in one of its own.
        activation: after each of them.
        layer_norm: a LayerNorm between each of them and its activation; true, or in the actor or critic only.
        crelu: [max(z, 0), max(−z, 0)] in place of the activation, of half as many units; true, actor or critic.
        fourier: [sin z, cos z] in place of the activation, of half as many units; true, actor or critic.
        encoder: what comes before them: auto chooses by the observations; or one-hot, flatten, nature-cnn, small-cnn,
            or your own as module:Class, a BaseFeaturesExtractor.
    """

    hidden: tuple[PositiveInt, ...] = (64, 64)
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
        """Which of ``layer_norm``, ``crelu`` and ``fourier`` there are, and where."""
        parts = {"layer_norm": self.layer_norm, "crelu": self.crelu, "fourier": self.fourier}
        return {name: where for name, where in parts.items() if where}

    def policy_kwargs(self) -> dict[str, Any]:
        """What a policy's constructor takes; stable-baselines3's own policies know all but :attr:`parts`."""
        encoder = find_encoder(self.encoder)
        return {
            "net_arch": list(self.hidden),
            "activation_fn": ACTIVATIONS[self.activation],
            **self.parts,
            **({"features_extractor_class": encoder} if encoder else {}),
        }


@dataclass(frozen=True, config=STRICT)
class Normalize:
    """What is brought to mean 0 and variance 1 by running statistics, as stable-baselines3's VecNormalize does.

    Attributes:
        observation: each entry of the observations.
        reward: rewards, divided by the standard deviation of discounted returns.
    """

    observation: bool = False
    reward: bool = False


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AgentConfig:
    """Settings of any agent, named as in stable-baselines3. Subclasses add their algorithm's.

    Attributes:
        learning_rate: of the optimizer.
        gamma: discount factor.
        num_envs: environments stepped in parallel, where the run does not say otherwise.
        network: encoder and hidden layers.
        normalize: running normalization of observations and rewards.
        optimizer: what trains the networks: a name (adam, muon, trac, upgd, or your own as module:Class) or a mapping
            of name and settings; null for the algorithm's own.
    """

    #: The policy that the algorithm is given, by its alias or as a class.
    policy: ClassVar[Any] = "MlpPolicy"
    #: Settings that are not arguments of the algorithm: whoever makes its environments heeds them.
    elsewhere: ClassVar[tuple[str, ...]] = ("num_envs", "network", "normalize", "optimizer")

    learning_rate: PositiveFloat = 1e-3
    gamma: Fraction = 0.99
    num_envs: PositiveInt = 1
    network: Network = Network()
    normalize: Normalize = Normalize()
    optimizer: OptimizerSetting | None = ADAM

    @property
    def rollout_length(self) -> int:
        """Steps of the vector environment between two updates: ``train_freq``, without a replay buffer ``n_steps``."""
        steps: int = getattr(self, "train_freq", 0) or getattr(self, "n_steps", 0)
        if not steps:
            raise NotImplementedError(f"{type(self).__name__} has neither train_freq nor n_steps: say rollout_length")
        return steps

    def arguments(self) -> dict[str, Any]:
        """What the algorithm's constructor takes, beside ``env``, ``reg``, ``seed`` and ``device``."""
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.elsewhere}
        policy = self.network.policy_kwargs() | (self.optimizer.policy_kwargs() if self.optimizer else {})
        return {"policy": self.policy, **settings, "policy_kwargs": policy}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OffPolicyConfig(AgentConfig):
    """Settings of any agent that learns from a replay buffer.

    Attributes:
        buffer_size: transitions that the replay buffer holds.
        learning_starts: environment steps taken at random before learning begins.
        batch_size: transitions in an update.
        tau: how far target networks move towards the online ones at a time; 1 copies them.
        train_freq: steps of the vector environment between two rounds of updates.
        gradient_steps: updates in a round; -1 for one per environment step taken.
    """

    buffer_size: PositiveInt = 50_000
    learning_starts: NonNegativeInt = 1000
    batch_size: PositiveInt = 64
    tau: Annotated[float, Field(gt=0, le=1)] = 1.0
    train_freq: PositiveInt = 4
    gradient_steps: Annotated[int, Field(ge=-1)] = 1
