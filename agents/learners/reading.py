"""Whether a policy can be read: its encoder, and what it must not have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import Tensor, nn

from neoteny.agents.learners.lanes import Shape, UnreadableError

#: Features of observations, (steps, columns), and which of all features these are; None for all.
Encode = Callable[[Any], tuple[Tensor, Tensor | None]]


def same_methods(policy: object, original: type, names: Sequence[str]) -> None:
    """Raises:
    UnreadableError: ``policy`` overrides one of these methods of the class ``original``.
    """
    for name in names:
        if getattr(type(policy), name) is not getattr(original, name):
            raise UnreadableError(f"{type(policy).__name__} has its own {name}()")


def encoder_of(policy: Any, shape: Shape) -> tuple[Callable[[Any], Tensor], nn.Module]:
    """The function that turns observations into features, (batch, features), and the module that it calls.

    Raises:
        UnreadableError: it has weights, or takes Dicts.
    """
    names = ("pi_features_extractor", "vf_features_extractor", "features_extractor")
    encoders: list[Any] = [getattr(policy, name) for name in names if hasattr(policy, name)]
    for encoder in encoders:
        shape.see(encoder)
        if [*encoder.parameters()]:
            raise UnreadableError(f"the encoder {type(encoder).__name__} has weights")
    if len({type(encoder) for encoder in encoders}) > 1:
        raise UnreadableError("actor and critic have different encoders")
    if isinstance(encoders[0], CombinedExtractor):
        raise UnreadableError("its observations are a Dict")
    return lambda observations: BaseModel.extract_features(policy, observations, encoders[0]), encoders[0]


def compact(encode: Callable[[Any], Tensor], encoder: nn.Module) -> Encode:
    """The function that leaves out features that are 0 in the whole batch, if ``encoder`` can say which these are.

    Such an encoder has a method ``compact`` beside ``forward``. On a GPU it is not called, which would wait for it.
    """
    kind = next(cls for cls in type(encoder).__mro__ if "forward" in vars(cls))
    if "compact" in vars(kind) and all(buffer.device.type == "cpu" for buffer in encoder.buffers()):
        return encoder.compact  # type: ignore[return-value]
    return lambda observations: (encode(observations), None)
