"""Networks: hidden layers of actors and critics, and policies that combine them with an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn

from neoteny.agents.actions import DRAWS, UncheckedCategorical
from neoteny.agents.encoders import encoder_for
from neoteny.agents.one_hot import OneHot

Activation = Literal["relu", "tanh", "leaky-relu", "leaky-relu-0.1", "elu", "gelu"]
#: The networks that a setting applies to: none, all, or those of one role (a DQN has only critics).
Where = Literal[False, True, "actor", "critic"]
ROLES = ("actor", "critic")


class LeakyReLU01(nn.LeakyReLU):
    """LeakyReLU with a slope of 0.1 below zero, ten times torch's default."""

    def __init__(self) -> None:
        super().__init__(0.1)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky-relu": nn.LeakyReLU,
    "leaky-relu-0.1": LeakyReLU01,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}


class CReLU(nn.Module):
    """CReLU(z) = [max(z, 0), max(−z, 0)]: no unit is silent for all inputs, unless it is always 0.

    Shang et al., 2016 (arXiv 1603.05201); against loss of plasticity: Abbas et al., 2023 (arXiv 2303.07507).

    Attributes:
        widens: features per unit.
    """

    widens: ClassVar[int] = 2

    def forward(self, z: Tensor) -> Tensor:
        """(…, units) to (…, 2 · units)."""
        return torch.cat([z, -z], -1).relu()

    def backward(self, gradient: Tensor, z: Tensor, features: Tensor) -> Tensor:
        """∂loss/∂z, given ∂loss/∂features."""
        above, below = (gradient * (features > 0)).chunk(2, -1)
        return above - below


class Fourier(nn.Module):
    """Deep Fourier features: [sin z, cos z]. Where one is flat, the other is close to linear.

    Lewandowski et al., 2024 (arXiv 2410.20634).

    Attributes:
        widens: features per unit.
    """

    widens: ClassVar[int] = 2

    def forward(self, z: Tensor) -> Tensor:
        """(…, units) to (…, 2 · units)."""
        return torch.cat([z.sin(), z.cos()], -1)

    def backward(self, gradient: Tensor, z: Tensor, features: Tensor) -> Tensor:
        """∂loss/∂z, given ∂loss/∂features."""
        (to_sin, to_cos), (sin, cos) = gradient.chunk(2, -1), features.chunk(2, -1)
        return to_sin * cos - to_cos * sin


#: Widening activations, by the setting that selects them.
WIDENING: dict[str, type[nn.Module]] = {"crelu": CReLU, "fourier": Fourier}


class Style(NamedTuple):
    """What follows a hidden Linear layer: an activation, optionally with a LayerNorm before it."""

    activation: type[nn.Module]
    layer_norm: bool


def check_parts(parts: Mapping[str, Where], roles: Sequence[str] = ROLES) -> None:
    """Check settings such as ``{"crelu": "critic", "fourier": "actor"}`` for an agent with networks of ``roles``.

    Raises:
        ValueError: the settings are not valid.
    """
    for name, where in parts.items():
        if isinstance(where, str) and where not in roles:
            raise ValueError(
                f"{name}: this agent has no networks of role {where!r}; choose true, false or {' or '.join(roles)}"
            )
    crelu, fourier = parts.get("crelu", False), parts.get("fourier", False)
    if crelu and fourier and (crelu == fourier or True in (crelu, fourier)):
        raise ValueError(
            f"fourier: a network has one activation, got fourier {fourier!r} and crelu {crelu!r}; choose one of them, "
            "or one for the actor and the other for the critic"
        )


def units(width: int, activation: type[nn.Module]) -> int:
    """The number of outputs of a Linear layer that ``activation`` turns into ``width`` features.

    Raises:
        ValueError: there is no such number.
    """
    widens: int = getattr(activation, "widens", 1)
    if width % widens:
        raise ValueError(f"hidden: {activation.__name__} gives {widens} features per unit, so no width of {width}")
    return width // widens


def torso(
    inputs: int,
    widths: Sequence[int],
    activation: type[nn.Module],
    layer_norm: bool,
    linear: Callable[[int, int], nn.Module] = nn.Linear,
) -> nn.Sequential:
    """Linear → (LayerNorm) → activation, once per width.

    A width is the number of features the next layer receives. If the activation has ``widens`` features per unit, the
    Linear layer has width / ``widens`` outputs.

    Args:
        inputs: number of input features.
        linear: creates a layer, given its numbers of inputs and outputs.

    Raises:
        ValueError: a width is not a multiple of the activation's features per unit.
    """
    layers: list[nn.Module] = []
    for width in widths:
        count = units(width, activation)
        layers += [linear(inputs, count), *([nn.LayerNorm(count)] if layer_norm else []), activation()]
        inputs = width
    return nn.Sequential(*layers)


def rebuild_(mlp: nn.Sequential, activation: type[nn.Module], layer_norm: bool) -> None:
    """Replace the hidden layers of a stable-baselines3 MLP by those of :func:`torso`, in place.

    Linear layers whose shape does not change keep their weights, and so does an output layer. With the same activation
    and no LayerNorm, nothing changes and no random numbers are drawn.
    """
    output = [layer for layer in list(mlp)[-1:] if isinstance(layer, nn.Linear)]
    hidden = [layer for layer in mlp if isinstance(layer, nn.Linear) and layer not in output]
    if not hidden:
        return
    old = iter(hidden)

    def linear(inputs: int, count: int) -> nn.Linear:
        layer = next(old)
        fits = (layer.in_features, layer.out_features) == (inputs, count)
        return layer if fits else nn.Linear(inputs, count, device=layer.weight.device)

    widths = [layer.out_features for layer in hidden]
    layers = torso(hidden[0].in_features, widths, activation, layer_norm, linear).to(hidden[0].weight.device)
    del mlp[:]
    mlp.extend([*layers, *output])


class Torsos(MlpExtractor):
    """Separate torsos for actor and critic, as stable-baselines3's ``mlp_extractor``, each of its own style."""

    def __init__(self, inputs: int, widths: dict[str, list[int]], actor: Style, critic: Style):
        nn.Module.__init__(self)
        self.policy_net = torso(inputs, widths["pi"], *actor)
        self.value_net = torso(inputs, widths["vf"], *critic)
        self.latent_dim_pi = widths["pi"][-1] if widths["pi"] else inputs
        self.latent_dim_vf = widths["vf"][-1] if widths["vf"] else inputs


class Encoded(BasePolicy):
    """Mixin for stable-baselines3 policies that chooses the encoder: ``class QPolicy(Encoded, DQNPolicy)``.

    Takes every argument of the policy, and ``layer_norm``, ``crelu`` and ``fourier``, which subclasses apply through
    :meth:`style`. The default ``features_extractor_class`` depends on the observation space, see
    :func:`~neoteny.agents.encoders.encoder_for`.

    Raises:
        ValueError: two activations for the same network, or a role that the policy does not have.
    """

    #: The roles of the policy's networks.
    roles: ClassVar[tuple[str, ...]] = ROLES
    activation_fn: type[nn.Module]

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        *args: Any,
        layer_norm: Where = False,
        crelu: Where = False,
        fourier: Where = False,
        **kwargs: Any,
    ):
        self.parts = {"layer_norm": layer_norm, "crelu": crelu, "fourier": fourier}
        check_parts(self.parts, self.roles)
        encoder = kwargs.setdefault("features_extractor_class", encoder_for(observation_space))
        if isinstance(encoder, type) and issubclass(encoder, OneHot):
            kwargs["normalize_images"] = False  # indices, even if the bounds look like those of an image
        super().__init__(observation_space, *args, **kwargs)

    def set_training_mode(self, mode: bool) -> None:
        """Set it, unless it is set: off-policy algorithms ask for it at every step."""
        if any(part.training != mode for part in (self, *self.children())):
            super().set_training_mode(mode)

    def style(self, role: str) -> Style:
        """The style of the hidden layers of ``actor`` or ``critic``."""
        here = [name for name, where in self.parts.items() if where in (True, role)]
        widening = [WIDENING[name] for name in here if name in WIDENING]
        return Style(widening[0] if widening else self.activation_fn, "layer_norm" in here)


class ActorCritic(Encoded, ActorCriticPolicy):
    """stable-baselines3's actor-critic policy with default encoders, optional LayerNorm and widening activations.

    Actor and critic have separate hidden layers. An encoder with weights (a CNN) is shared between them, as in
    stable-baselines3, unless ``share_features_extractor=False``. A shared encoder has the role actor.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        if isinstance(self.action_dist, CategoricalDistribution):
            self.action_dist = UncheckedCategorical(self.action_dist.action_dim)
        super()._build(lr_schedule)

    @property
    def torso_inputs(self) -> int:
        """The number of features that the hidden layers take."""
        return self.features_dim

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values (batch, 1) and log π(a) (batch): stable-baselines3's, without objects for distributions."""
        draw = DRAWS.get(type(self.action_dist))
        plain = type(self)._get_action_dist_from_latent is ActorCriticPolicy._get_action_dist_from_latent
        if draw is None or deterministic or not plain or type(self.mlp_extractor) is not Torsos:
            return super().forward(obs, deterministic)
        features: Any = self.extract_features(obs)
        if self.share_features_extractor:
            latent_pi, latent_vf = self.mlp_extractor(features)
        else:
            latent_pi = self.mlp_extractor.forward_actor(features[0])
            latent_vf = self.mlp_extractor.forward_critic(features[1])
        actions, log_prob = draw(self.action_net(latent_pi), self)
        return actions.reshape(-1, *(self.action_space.shape or ())), self.value_net(latent_vf), log_prob

    def _build_mlp_extractor(self) -> None:
        widths = self.net_arch
        if not isinstance(widths, dict):
            widths = {"pi": widths, "vf": widths}
        torsos = Torsos(self.torso_inputs, widths, self.style("actor"), self.style("critic"))
        self.mlp_extractor = torsos.to(self.device)


class QPolicy(Encoded, DQNPolicy):
    """stable-baselines3's DQN policy with default encoders, optional LayerNorm and widening activations."""

    roles = ("critic",)

    def make_q_net(self) -> QNetwork:
        network = super().make_q_net()
        rebuild_(network.q_net, *self.style("critic"))
        return network


class SoftActorCritic(Encoded, SACPolicy):
    """stable-baselines3's SAC policy with default encoders, optional LayerNorm and widening activations."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        actor = super().make_actor(features_extractor)
        rebuild_(actor.latent_pi, *self.style("actor"))
        return actor

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        critic = super().make_critic(features_extractor)
        for network in critic.q_networks:
            assert isinstance(network, nn.Sequential)
            rebuild_(network, *self.style("critic"))
        return critic
