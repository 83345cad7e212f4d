"""Ranges of a setting, of which a search tries values: ``log 1e-6 .. 1e-1``."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Self

from neoteny.configs import ConfigError

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"\s*(log\s+)?({NUMBER})\s*\.\.\s*({NUMBER})\s*")
#: What is tried has so many digits: it is part of a folder's name, and is written on command lines.
DIGITS = 3


class Range(NamedTuple):
    """All numbers from one to another.

    Attributes:
        low, high: the ends, which belong to it.
        log: whether orders of magnitude count alike.
        whole: whether they are whole numbers, as those are whose ends are written so.
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
        log, first, last = found.groups()
        low, high = float(first), float(last)
        if not low < high or (log and low <= 0):
            why = "is to begin above 0" if log and low <= 0 else "is to begin below its end"
            raise ConfigError(f"{setting}: the range {value!r} {why}; log 1e-6 .. 1e-1 or 1 .. 8 are ranges")
        whole = first.lstrip("+-").isdigit() and last.lstrip("+-").isdigit()
        return cls(low, high, bool(log), whole)

    def __contains__(self, value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and (not self.whole or value == int(value))

    def __str__(self) -> str:
        return f"{'log ' * self.log}{self.low:g} .. {self.high:g}"

    def rounded(self, value: float) -> float:
        """The nearest value that is tried."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)
