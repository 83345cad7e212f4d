"""Whether a policy can be read: its encoder, and what it must not have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.policies import BaseModel
from torch import Tensor, nn

from neoteny.agents.learners.lanes import Shape, UnreadableError


#: With fewer features than this, leaving some out costs more than it saves.
FEW = 256


def same_methods(policy: object, original: type, names: Sequence[str]) -> None:
    """Raises:
    UnreadableError: ``policy`` overrides one of these methods of the class ``original``.
    """
    for name in names:
        if getattr(type(policy), name) is not getattr(original, name):
            raise UnreadableError(f"{type(policy).__name__} has its own {name}()")


def encoder_of(policy: Any, shape: Shape) -> Callable[[Any], Tensor]:
    """The function that turns observations into features, (batch, features).

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
    return lambda observations: BaseModel.extract_features(policy, observations, encoders[0])  # type: ignore[arg-type]


def nonzero_columns(features: Tensor) -> tuple[Tensor, Tensor | None]:
    """The columns of ``features``, (rows, features), that are not 0 in all rows, and which these are.

    Of one-hot observations they are a quarter to a half. Where they are more than three quarters, or on a GPU, which
    would be waited for, all columns, and None.
    """
    if features.shape[1] < FEW or features.is_cuda:
        return features, None
    columns = ((features.amax(0) != 0) | (features.amin(0) != 0)).nonzero()[:, 0]  # any() is several times as slow
    if len(columns) > 0.75 * features.shape[1]:
        return features, None
    return features.index_select(1, columns), columns
