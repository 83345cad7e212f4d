"""Learning curves of a visit to a task, without the bias of counting episodes when they end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Curve:
    """Collects the returns of the episodes of one visit, or the scores of its games.

    Parallel environments that begin together also fail together, at the time limit, while successes end one by one
    before it. A mean over the episodes that *end* in a short stretch is therefore a mean over successes for most of
    the time. Here an episode counts where it *began*, and the stretches before the running episodes were cut (at the
    end of the visit, and of each segment), as long as the longest episode, do not count: of the episodes that began
    there only the short ones were seen to end.

    Attributes:
        ended: (start, length, return) of each episode that came to its own end; start and length in steps of one
            environment since the visit began.
        cuts: when the running episodes were cut, in the same steps.
    """

    BINS = 50

    def __init__(self, ended: Sequence[Sequence[float]] = (), cuts: Sequence[int] = ()):
        self.ended = [tuple(episode) for episode in ended]
        self.cuts = list(cuts)

    def add(self, now: int, length: int, value: float) -> None:
        """An episode of this length and return has ended at step ``now``."""
        self.ended.append((now - length, length, value))

    def cut(self, now: int) -> None:
        """The running episodes are cut at step ``now``; the last cut is the end of the visit."""
        self.cuts.append(now)

    def curve(self) -> Array:
        """The mean return of the episodes that began in each fiftieth of the visit.

        A bin in which none began repeats the one before. The bins from which not every episode could end are left
        out. Empty if no bin is left.
        """
        if not self.ended:
            return np.empty(0)
        starts, lengths, values = (np.array(column) for column in zip(*self.ended, strict=True))
        edges = np.arange(self.BINS + 1) * self.cuts[-1] / self.BINS
        bins = np.searchsorted(edges, starts, side="right") - 1
        counts = np.bincount(bins, minlength=self.BINS)
        sums = np.bincount(bins, values, minlength=self.BINS)
        curve: list[float] = []
        for low, high, count, total in zip(edges[:-1], edges[1:], counts, sums, strict=True):
            if any(cut - lengths.max() < high and low < cut for cut in self.cuts):
                continue
            if count:
                curve.append(total / count)
            elif curve:
                curve.append(curve[-1])
        return np.array(curve)

    def summary(self) -> tuple[float, float]:
        """The mean of the curve, and that of its last tenth; NaN of nothing."""
        curve = self.curve()
        if not len(curve):
            return math.nan, math.nan
        last = max(1, len(curve) // 10)
        return float(curve.mean()), float(curve[-last:].mean())


class Rate:
    """Collects the reward of one visit per environment step; also of environments whose episodes never end.

    Attributes:
        stretches: (environment steps, sum of their rewards), one after the other.
    """

    def __init__(self, stretches: Sequence[Sequence[float]] = ()):
        self.stretches = [tuple(stretch) for stretch in stretches]

    def add(self, steps: int, paid: float) -> None:
        """In so many more environment steps so much was paid."""
        self.stretches.append((steps, paid))

    def summary(self) -> tuple[float, float]:
        """Reward per environment step over the visit, and over its last tenth; NaN of nothing."""
        if not self.stretches:
            return math.nan, math.nan
        steps, paid = np.array(self.stretches).T
        last = np.cumsum(steps) > 0.9 * steps.sum()
        return float(paid.sum() / steps.sum()), float(paid[last].sum() / steps[last].sum())
