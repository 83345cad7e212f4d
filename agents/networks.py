"""Networks: the encoder of categorical observations, and the actor and critic torsos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.distributions import Categorical

Activation = Literal["relu", "tanh", "leaky-relu", "elu", "gelu"]
#: One-hot encoding goes by table for cells with at most this many values.
TABLE = 4096
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}


class OneHot(BaseFeaturesExtractor):
    """A flat vector of ones and zeros from an observation of small integers, such as MiniGrid's cells.

    An entry with bounds [low, high] becomes high − low + 1 features, of which the one at (entry − low) is 1. A
    MiniGrid image, uint8 of shape (7, 7, 3), becomes 7 · 7 · (11 + 6 + 3) = 980 features. There are no parameters.

    Raises:
        ValueError: the space is not a Box of integers, or would take more than 2**16 features.
    """

    def __init__(self, observation_space: spaces.Space[Any]):
        if not one_hot_fits(observation_space):
            raise ValueError(f"one-hot encoding needs a Box of small integers, got {observation_space}")
        assert isinstance(observation_space, spaces.Box)
        channels = observation_space.shape[-1] if observation_space.shape else 1
        low = torch.as_tensor(observation_space.low.astype("int64")).reshape(-1, channels)
        sizes = torch.as_tensor(observation_space.high.astype("int64")).reshape(-1, channels) - low + 1
        super().__init__(observation_space, int(sizes.sum()))
        self.channels = channels
        self.offsets: Tensor
        self.register_buffer("offsets", (sizes.flatten().cumsum(0) - sizes.flatten() - low.flatten()), persistent=False)
        self.places: Tensor | None = None
        self.table: Tensor | None = None
        if (low == low[0]).all() and (sizes == sizes[0]).all() and sizes[0].prod() <= TABLE:
            self._make_table(low[0], sizes[0])

    def _make_table(self, low: Tensor, sizes: Tensor) -> None:
        """All cells have the same bounds: what a cell becomes is one row of a table of all that it can be."""
        places = torch.stack([sizes[channel + 1 :].prod() for channel in range(self.channels)])
        kinds = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, self.channels)
        columns = [nn.functional.one_hot(kinds[:, c], int(sizes[c])) for c in range(self.channels)]
        del self.places, self.table
        self.register_buffer("places", places.float(), persistent=False)
        self.register_buffer("table", torch.cat(columns, 1).float(), persistent=False)
        self.first = float(low @ places)

    def forward(self, observations: Tensor) -> Tensor:
        """(batch, …) integers to (batch, features_dim) float32."""
        if self.places is not None and self.table is not None:
            cells = observations.reshape(len(observations), -1, self.channels).float()
            return nn.functional.embedding((cells @ self.places - self.first).int(), self.table).flatten(1)
        indices = observations.flatten(1).long() + self.offsets
        return torch.zeros(len(indices), self.features_dim, device=indices.device).scatter_(1, indices, 1.0)


def one_hot_fits(space: spaces.Space[Any]) -> bool:
    """Whether :class:`OneHot` can take observations of ``space``."""
    if not isinstance(space, spaces.Box) or space.dtype.kind not in "iu":
        return False
    return float((space.high.astype(float) - space.low.astype(float) + 1).sum()) <= 2**16


def torso(inputs: int, widths: Sequence[int], activation: type[nn.Module], layer_norm: bool) -> nn.Sequential:
    """Linear → (LayerNorm) → activation, once per width."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), *([nn.LayerNorm(width)] if layer_norm else []), activation()]
        inputs = width
    return nn.Sequential(*layers)


class Torsos(nn.Module):
    """Separate torsos for actor and critic, in the shape stable-baselines3 expects of an ``mlp_extractor``."""

    def __init__(self, inputs: int, widths: dict[str, list[int]], activation: type[nn.Module], layer_norm: bool):
        super().__init__()
        self.policy_net = torso(inputs, widths["pi"], activation, layer_norm)
        self.value_net = torso(inputs, widths["vf"], activation, layer_norm)
        self.latent_dim_pi = widths["pi"][-1] if widths["pi"] else inputs
        self.latent_dim_vf = widths["vf"][-1] if widths["vf"] else inputs

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy_net(features), self.value_net(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        return self.policy_net(features)

    def forward_critic(self, features: Tensor) -> Tensor:
        return self.value_net(features)


class UncheckedCategorical(CategoricalDistribution):
    """stable-baselines3's categorical distribution without torch's checks of its arguments, which wait for the device
    several times per update. Weights and losses that are not finite are found by ``Continual.check_finite``.
    """

    def proba_distribution(self, action_logits: Tensor) -> Self:
        self.distribution = Categorical(logits=action_logits, validate_args=False)
        return self


class ActorCritic(ActorCriticPolicy):
    """stable-baselines3's actor-critic policy with optional LayerNorm, and one-hot input where that fits.

    Takes every argument of ``ActorCriticPolicy``, and ``layer_norm``. Unless another ``features_extractor_class``
    is given, observations of small integers are one-hot encoded and all others flattened.
    """

    def __init__(self, observation_space: spaces.Space[Any], *args: Any, layer_norm: bool = False, **kwargs: Any):
        self.layer_norm = layer_norm
        if one_hot_fits(observation_space):
            kwargs.setdefault("features_extractor_class", OneHot)
        kwargs.setdefault("features_extractor_class", FlattenExtractor)
        if kwargs["features_extractor_class"] is OneHot:
            kwargs["normalize_images"] = False  # indices, even where their bounds are those of a picture
        super().__init__(observation_space, *args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        if isinstance(self.action_dist, CategoricalDistribution):
            self.action_dist = UncheckedCategorical(self.action_dist.action_dim)
        super()._build(lr_schedule)

    def _build_mlp_extractor(self) -> None:
        widths = self.net_arch
        if not isinstance(widths, dict):
            widths = {"pi": widths, "vf": widths}
        self.mlp_extractor = Torsos(self.features_dim, widths, self.activation_fn, self.layer_norm).to(self.device)  # type: ignore[assignment]
