"""Ranges of a setting, of which a search tries values: ``log 1e-6 .. 1e-1``."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple, Self

from neoteny.configs import ConfigError, parse_yaml

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"\s*(log\s+)?({NUMBER})\s*\.\.\s*({NUMBER})\s*")
#: What is tried has so many digits, of the value or of its place in the range: it is part of a folder's name.
DIGITS = 3


class Range(NamedTuple):
    """All numbers from one to another.

    Attributes:
        low, high: the ends, which belong to it.
        log: whether orders of magnitude count alike.
        whole: whether they are whole numbers, as those are whose ends are.
    """

    low: float
    high: float
    log: bool
    whole: bool

    @classmethod
    def read(cls, setting: str, value: Any) -> Self | None:
        """The range that a setting's value is; None, if it is something else.

        Raises:
            ConfigError: it is a range of nothing.
        """
        found = RANGE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return None
        log, *ends = found.groups()
        low, high = (parse_yaml(end) for end in ends)
        if not low < high or (log and low <= 0):
            why = "is to begin above 0" if log and low <= 0 else "is to begin below its end"
            raise ConfigError(f"{setting}: the range {value!r} {why}; log 1e-6 .. 1e-1 or 1 .. 8 are ranges")
        return cls(low, high, bool(log), isinstance(low, int) and isinstance(high, int))

    def __contains__(self, value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and (not self.whole or value == int(value))

    def __str__(self) -> str:
        return f"{'log ' * self.log}{self.low:g} .. {self.high:g}"

    def rounded(self, value: float) -> float:
        """The nearest value that is tried."""
        if self.whole:
            return int(value)
        decimals = DIGITS - math.floor(math.log10(self.high - self.low)) - 1
        near = float(f"{value:.{DIGITS}g}") if self.log else round(value, decimals)
        return min(max(near, self.low), self.high)
