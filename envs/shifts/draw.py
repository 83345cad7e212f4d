"""A number, or a distribution to draw it from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, InstanceOf

from neoteny.configs import suggestion
from neoteny.envs.shifts.settings import is_number

#: By distribution: how many numbers it takes (None: at least one), and a function that draws one value.
DISTRIBUTIONS: dict[str, tuple[int | None, Callable[[np.random.Generator, Any], float]]] = {
    "value": (1, lambda rng, numbers: numbers[0]),
    "uniform": (2, lambda rng, bounds: float(rng.uniform(*bounds))),
    "log-uniform": (2, lambda rng, bounds: math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))),
    "normal": (2, lambda rng, moments: float(rng.normal(*moments))),
    "choice": (None, lambda rng, numbers: numbers[int(rng.integers(len(numbers)))]),
}


@dataclass(frozen=True)
class Draw:
    """``kind`` is one of :data:`DISTRIBUTIONS`, ``numbers`` its bounds, its mean and standard deviation, or its values.

    Raises:
        ValueError: the numbers do not fit the distribution.
    """

    kind: str
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in DISTRIBUTIONS:
            known = ", ".join(sorted(DISTRIBUTIONS))
            raise ValueError(
                f"there is no distribution {self.kind!r}; choose from {known}{suggestion(self.kind, DISTRIBUTIONS)}"
            )
        count = DISTRIBUTIONS[self.kind][0]
        given = f"got {list(self.numbers)}"
        if len(self.numbers) != count if count else not self.numbers:
            raise ValueError(f"{self.kind} takes {f'{count} numbers' if count else 'at least one number'}, {given}")
        if self.kind in {"uniform", "log-uniform"} and self.numbers[0] > self.numbers[1]:
            raise ValueError(f"{self.kind} takes the lower bound first, {given}")
        if self.kind == "log-uniform" and self.numbers[0] <= 0:
            raise ValueError(f"log-uniform takes positive bounds, {given}")
        if self.kind == "normal" and self.numbers[1] < 0:
            raise ValueError(f"normal takes a standard deviation of at least 0, {given}")

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value. A plain number is returned without using ``rng``."""
        return DISTRIBUTIONS[self.kind][1](rng, self.numbers)


def parse_draw(value: object) -> Draw:
    """From YAML: a number, or a mapping from distribution to numbers, such as ``{log-uniform: [0.02, 2]}``.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, Draw):
        return value
    kind: object = "value"
    numbers: Any = [value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, numbers),) = value.items()
    if not isinstance(numbers, list | tuple) or not all(map(is_number, numbers)):
        raise ValueError(f"a number or a distribution such as {{uniform: [1, 2]}} is needed, got {value!r}")
    return Draw(str(kind), tuple(float(number) for number in numbers))


#: The type of a setting that is a number or a distribution.
Drawn = Annotated[InstanceOf[Draw], BeforeValidator(parse_draw)]
