"""Whether a policy can be read: its encoder, and what it must not have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import Tensor, nn

from neoteny.agents.buffers import Encode
from neoteny.agents.encoders import OneHot
from neoteny.agents.learners.lanes import Shape, UnreadableError


def same_methods(policy: object, original: type, names: Sequence[str]) -> None:
    """Raises:
    UnreadableError: ``policy`` overrides one of these methods of the class ``original``.
    """
    for name in names:
        if getattr(type(policy), name) is not getattr(original, name):
            raise UnreadableError(f"{type(policy).__name__} has its own {name}()")


def encoder_of(policy: Any, shape: Shape) -> Callable[[Any], Tensor]:
    """The function that turns observations into features.

    Raises:
        UnreadableError: it has weights.
    """
    names = ("pi_features_extractor", "vf_features_extractor", "features_extractor")
    encoders: list[nn.Module] = [getattr(policy, name) for name in names if hasattr(policy, name)]
    for encoder in encoders:
        shape.see(encoder)
        if [*encoder.parameters()]:
            raise UnreadableError(f"the encoder {type(encoder).__name__} has weights")
    if len({type(encoder) for encoder in encoders}) > 1:
        raise UnreadableError("actor and critic have different encoders")
    encoder: Any = encoders[0]

    if isinstance(encoder, CombinedExtractor):
        raise UnreadableError("its observations are a Dict")
    return lambda observations: BaseModel.extract_features(policy, observations, encoder)


def compact(encode: Callable[[Any], Tensor], encoder: nn.Module) -> Encode:
    """The function that leaves out features that are 0 in the whole batch, if ``encoder`` can say which these are."""
    if type(encoder) is OneHot and encoder.offsets.device.type == "cpu":
        return encoder.compact
    return lambda observations: (encode(observations), None)
