"""Whether a policy can be read: its encoder, and what it must not have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from neoteny.agents.learners.lanes import Lanes, Shape, UnreadableError, defines_both

#: Features of observations, (steps, columns), and which of all features these are; None for all.
Encode = Callable[[Any], tuple[Tensor, Tensor | None]]


def same_methods(owner: object, original: type, names: Sequence[str]) -> None:
    """Raises:
    UnreadableError: ``owner`` overrides one of these methods of the class ``original``.
    """
    for name in names:
        if name in vars(owner) or getattr(type(owner), name, None) is not getattr(original, name):
            raise UnreadableError(f"{type(owner).__name__} has its own {name}()")


def encoder_of(policy: Any, shape: Shape) -> tuple[Callable[[Any], Tensor], nn.Module]:
    """The function that turns observations into features, (batch, features), and the module that it calls.

    It has to be a function of the observation alone: stable-baselines3's that flattens, or one that says so by a
    method ``compact`` beside ``forward``.

    Raises:
        UnreadableError: it has weights, is not known, or takes Dicts.
    """
    if isinstance(policy.observation_space, spaces.Dict):
        raise UnreadableError("its observations are a Dict")
    names = ("pi_features_extractor", "vf_features_extractor", "features_extractor")
    encoders: list[Any] = [getattr(policy, name) for name in names if hasattr(policy, name)]
    for encoder in encoders:
        shape.see(encoder)
        if [*encoder.parameters()]:
            raise UnreadableError(f"the encoder {type(encoder).__name__} has weights")
        if type(encoder) is not FlattenExtractor and not defines_both(encoder, "forward", "compact"):
            raise UnreadableError(f"the encoder {type(encoder).__name__} does not say that it has no state (compact())")
    if len({type(encoder) for encoder in encoders}) > 1:
        raise UnreadableError("actor and critic have different encoders")
    return lambda observations: BaseModel.extract_features(policy, observations, encoders[0]), encoders[0]


def compact_of(policy: Any, shape: Shape, first: Sequence[Lanes]) -> tuple[Encode, bool]:
    """The function that leaves out features that are 0 in the whole batch, where there is one; and whether to encode
    whole rollouts: with it, or where features take no more memory than observations.

    It is not used on a GPU, which would be waited for, for images that stable-baselines3 normalizes first, or where
    one of ``first``, which take the features, does not begin with a Linear layer.
    """
    encode, encoder = encoder_of(policy, shape)
    compact: Encode | None = getattr(encoder, "compact", None)
    space = policy.observation_space
    raw = isinstance(space, spaces.Box) and not (policy.normalize_images and is_image_space(space))
    if raw and compact and policy.device.type == "cpu" and all(lanes.takes_columns for lanes in first):
        return compact, True
    return lambda observations: (encode(observations), None), space.dtype == np.float32
