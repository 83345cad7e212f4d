"""Types of settings shared by several shifts."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeInt, PlainValidator

Ramp = NonNegativeInt
Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> float | tuple[float, ...]:
    if is_number(value):
        return float(value)
    if isinstance(value, list | tuple) and value and all(map(is_number, value)):
        return tuple(map(float, value))
    raise ValueError(f"a number or a list of numbers is needed, got {value!r}")


#: One number for all entries of an observation, or one for each entry of its last axis.
Numbers = Annotated[float | tuple[float, ...], PlainValidator(_numbers)]


def _different(actions: tuple[int, ...]) -> tuple[int, ...]:
    if not actions or len(set(actions)) < len(actions):
        raise ValueError(f"one or more different actions are needed, got {list(actions)}")
    return actions


#: A subset of the actions of a Discrete space.
Actions = Annotated[tuple[int, ...], AfterValidator(_different)]
