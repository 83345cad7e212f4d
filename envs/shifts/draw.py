"""A number, a distribution to draw it from, or a table to read it from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, InstanceOf

from neoteny.configs import ConfigError, suggestion
from neoteny.envs.shifts.base import Site
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
            known = sorted([*DISTRIBUTIONS, "per-seed"])
            raise ValueError(
                f"there is no distribution {self.kind!r}; choose from {', '.join(known)}{suggestion(self.kind, known)}"
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

    def plain(self) -> float | dict[str, list[float]]:
        """What :func:`parse_draw` takes."""
        return self.numbers[0] if self.kind == "value" else {self.kind: list(self.numbers)}

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value. A plain number is returned without using ``rng``."""
        return DISTRIBUTIONS[self.kind][1](rng, self.numbers)

    def value(self, site: Site, setting: str) -> float:
        """The value for a visit."""
        return self.sample(site.rng)

    def foreseen(self, rng: np.random.Generator | None) -> float | None:
        """The value for the visit with this generator; None if that is not known."""
        if self.kind == "value":
            return self.numbers[0]
        return None if rng is None else self.sample(rng)


@dataclass(frozen=True)
class Table:
    """Values that are written down: one row for each seed of a run, one column for each visit.

    So each run has tasks of its own, as in the slippery Ant of Dohare et al. (2024).
    """

    rows: tuple[tuple[float, ...], ...]

    def plain(self) -> dict[str, list[list[float]]]:
        """What :func:`parse_draw` takes."""
        return {"per-seed": [list(row) for row in self.rows]}

    def foreseen(self, rng: np.random.Generator | None) -> None:
        """The value is the run's, and not known here."""

    def value(self, site: Site, setting: str) -> float:
        """The value for a visit.

        Raises:
            ConfigError: the table has no row for the run's seed, or no column for the visit.
        """
        if site.run_seed >= len(self.rows):
            raise ConfigError(
                f"{setting}: there are rows for the seeds 0 to {len(self.rows) - 1}, the run's seed is {site.run_seed}"
            )
        row = self.rows[site.run_seed]
        if site.visit >= len(row):
            raise ConfigError(f"{setting}: row {site.run_seed} has {len(row)} values, visit {site.visit + 1} has none")
        return row[site.visit]


def _table(rows: object) -> Table:
    """From YAML: lists of numbers, or the path of a file with comma-separated ones.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(rows, str):
        try:
            rows = np.loadtxt(rows, delimiter=",", ndmin=2).tolist()
        except OSError as error:
            raise ValueError(f"{rows} cannot be read ({error})") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise ValueError(f"per-seed takes a list of numbers for each seed, or a file of them, got {rows!r}")
    if wrong := [value for row in rows for value in row if not is_number(value)]:
        raise ValueError(f"per-seed takes finite numbers, got {wrong[0]!r}")
    return Table(tuple(tuple(map(float, row)) for row in rows))


def parse_draw(value: object) -> Draw | Table:
    """From YAML: a number, a mapping from distribution to numbers, such as ``{log-uniform: [0.02, 2]}``, or a table.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(value, Draw | Table):
        return value
    kind: object = "value"
    numbers: Any = [value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, numbers),) = value.items()
    if kind == "per-seed":
        return _table(numbers)
    if not isinstance(numbers, list | tuple) or not all(map(is_number, numbers)):
        raise ValueError(f"a number or a distribution such as {{uniform: [1, 2]}} is needed, got {value!r}")
    return Draw(str(kind), tuple(float(number) for number in numbers))


#: The type of a setting that is a number, a distribution or a table.
Drawn = Annotated[InstanceOf[Draw] | InstanceOf[Table], BeforeValidator(parse_draw)]
