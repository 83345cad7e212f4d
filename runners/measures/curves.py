"""Learning curves of a visit to a task, without the bias of counting episodes when they end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


#: Fewer values than this say nothing of how sure their mean is.
FEW = 5


def mean_and_error(values: Array) -> tuple[float, float]:
    """The mean of independent values, and its standard error; NaN of nothing, and no error of :data:`FEW`."""
    mean = float(values.mean()) if len(values) else math.nan
    return mean, float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) >= FEW else math.nan


class Curve:
    """Collects the returns of the episodes of one visit, or the scores of its games.

    Parallel environments that begin together also fail together, at the time limit, while successes end one by one
    before it. A mean over the episodes that *end* in a short stretch is therefore a mean over successes for most of
    the time. Here an episode counts where it *began*, and only if any episode that began there would have been seen to
    end: if the next cut (the end of the visit, and of each segment) was no nearer than the longest episode is long. The
    episodes that ran when they were cut tell of its length too.

    So the means of a policy that does not change do not depend on where it is cut. Where every segment is shorter than
    the longest episode nothing counts.

    Attributes:
        ended: (start, length, return) of each episode that came to its own end; start and length in steps of one
            environment since the visit began.
        cuts: when the running episodes were cut, in the same steps.
        ages: how long the oldest of them had run, for each cut.
    """

    #: The mean is that of so many stretches of the visit, or fewer.
    BINS = 50
    #: So that a stretch has about so many episodes: the mean over few is nearer to that of the long ones.
    EPISODES = 20

    def __init__(
        self, ended: Sequence[Sequence[float]] = (), cuts: Sequence[int] = (), ages: Sequence[int] = ()
    ) -> None:
        self.ended = [tuple(episode) for episode in ended]
        self.cuts = list(cuts)
        self.ages = list(ages)

    def add(self, now: int, length: int, value: float) -> None:
        """An episode of this length and return has ended at step ``now``."""
        self.ended.append((now - length, length, value))

    def cut(self, now: int, age: int = 0) -> None:
        """The running episodes, the oldest of this age, are cut at step ``now``; the last is the end of the visit."""
        self.cuts.append(now)
        self.ages.append(age)

    @property
    def longest(self) -> int:
        """The steps of the longest episode that is known of; one that was cut would have taken one more, at least."""
        return int(max(max((length for _, length, _ in self.ended), default=0), max(self.ages, default=0) + 1))

    def counted(self) -> tuple[Array, Array]:
        """The episodes that count, in the order in which they began.

        Returns:
            Where each began, as a share of the steps where one would count, in [0, 1); and its return.
        """
        if not self.ended:
            return np.empty(0), np.empty(0)
        starts, _, values = (np.array(column) for column in zip(*self.ended, strict=True))
        cuts = np.array(self.cuts)
        begins = np.concatenate([[0], cuts[:-1]])
        room = np.maximum(cuts - begins - self.longest + 1, 0)  # the steps of each segment where an episode counts
        segment = np.searchsorted(cuts, starts, side="right")
        inside = starts - begins[segment]
        counts = inside < room[segment]
        places = (np.cumsum(room) - room)[segment] + inside
        order = np.argsort(places[counts], kind="stable")
        return places[counts][order] / max(1, room.sum()), values[counts][order]

    def curve(self) -> Array:
        """The mean return of the episodes that began in each stretch of the visit, all of the same length.

        There are :data:`BINS`, or fewer, so that a stretch has about :data:`EPISODES` and is no shorter than the
        longest episode. One in which none began repeats the one before. Empty if no episode counts.
        """
        places, values = self.counted()
        if not len(places):
            return np.empty(0)
        count = max(1, min(self.BINS, len(values) // self.EPISODES, self.cuts[-1] // self.longest))
        bins = (places * count).astype(int)
        counts, sums = np.bincount(bins, minlength=count), np.bincount(bins, values, minlength=count)
        last = np.maximum.accumulate(np.where(counts > 0, np.arange(count), np.flatnonzero(counts)[0]))
        found: Array = sums[last] / counts[last]
        return found

    def summary(self) -> dict[str, float]:
        """What tasks.csv has of the curve; NaN of nothing.

        Returns:
            ``mean``, of the curve. ``begin`` and ``final``, over the episodes that began in the first and in the last
            tenth, and at least over the last so many as there are environments; no ``final`` if these are of the first
            tenth, in a visit that is hardly longer than an episode. ``begin_error`` and ``final_error``, their standard
            errors. ``of_ended``, over all that ended, which are more often short than they began.
        """
        places, values = self.counted()
        curve = self.curve()
        copies = np.count_nonzero(places == 0.0)  # of the environment: each began an episode there
        latest = min(0.9, places[-copies]) if copies else 0.9
        begin, begin_error = mean_and_error(values[places < 0.1])
        final, final_error = mean_and_error(values[places >= latest])
        if latest < 0.1:  # nothing later is known
            final = final_error = math.nan
        return {
            "mean": float(curve.mean()) if len(curve) else math.nan,
            "begin": begin,
            "begin_error": begin_error,
            "final": final,
            "final_error": final_error,
            "of_ended": float(np.mean([value for *_, value in self.ended])) if self.ended else math.nan,
        }


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

    def summary(self) -> dict[str, float]:
        """As of a :class:`Curve`, per environment step; NaN of nothing."""
        if not self.stretches:
            return dict.fromkeys(("mean", "begin", "begin_error", "final", "final_error"), math.nan)
        steps, paid = np.array(self.stretches).T
        done, rates = np.cumsum(steps) / steps.sum(), paid / steps
        parts = {"begin": done - steps / steps.sum() < 0.1, "final": done > 0.9}
        found = {"mean": float(paid.sum() / steps.sum())}
        for name, part in parts.items():
            found[name] = float(paid[part].sum() / steps[part].sum())
            found[f"{name}_error"] = mean_and_error(rates[part])[1]
        return found
