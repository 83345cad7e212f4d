"""All runs on one sequence of tasks, with what every figure needs: names, styles, task bands, scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neoteny.runners.measures.verdicts import number
from neoteny.runners.reports.figures import COLORS, DASHES, Numbers, Style
from neoteny.runners.reports.plots import short_names
from neoteny.runners.reports.reference import reference_of, references
from neoteny.runners.reports.scores import Runs, Scores
from neoteny.runners.reports.sources import Run, as_rows, find
from neoteny.runners.reports.wording import in_its_words

#: Curves that are shown at first, beside those of fresh agents.
SHOWN = 6
#: Bins of the x axis, about.
BINS = 150
DRAWS = 1000


def environments(given: Sequence[Path]) -> list[Environment]:
    """The environments that these folders hold runs of, named by their folders.

    Args:
        given: see :func:`~neoteny.runners.reports.sources.find`.
    """
    found = find(given)
    names = Counter(folder.name for folder in found)
    made = []
    for folder, runs in found.items():
        name = folder.name if names[folder.name] == 1 else f"{folder.parent.name}/{folder.name}"
        made.append(Environment(name, runs))
    return made


class Environment:
    """The runs on one sequence.

    Args:
        name: of the sequence.
        runs: of all methods.

    Attributes:
        all: every run that is there.
        runs: those with at least one finished task.
        methods: their names.
    """

    def __init__(self, name: str, runs: Sequence[Run]):
        self.name, self.all = name, list(runs)
        self.runs = [run for run in runs if run.tasks]
        self.methods = list(dict.fromkeys(run.method for run in self.runs))
        self.rows: Runs = as_rows(self.runs)
        self.fresh = references(self.rows)
        self.live = [method for method in self.methods if method not in self.fresh]

    @cached_property
    def headline(self) -> str:
        """The measure that the sequence is about."""
        found = Counter(row["headline"] for run in self.runs for row in run.tasks if row.get("headline"))
        return found.most_common(1)[0][0] if found else "return"

    @cached_property
    def called(self) -> dict[str, str]:
        """What methods are called."""
        return in_its_words(short_names(self.methods, self.fresh), self.headline)

    @cached_property
    def tasks(self) -> list[str]:
        """The names of the tasks, numbered from 1, of the run with most of them."""
        longest = max(self.runs, key=lambda run: len(run.tasks))
        return [f"{i + 1} {row.get('name', '')}".strip() for i, row in enumerate(longest.tasks)]

    @cached_property
    def bands(self) -> list[tuple[float, float, str]]:
        """Where each task begins and ends, in environment steps, in the run with most of them."""
        longest = max(self.runs, key=lambda run: len(run.tasks))
        ends = [number(row, "step") for row in longest.tasks]
        if any(map(math.isnan, ends)):
            ends = [float(end) for end in np.cumsum([number(row, "steps") for row in longest.tasks])]
        return list(zip([0.0, *ends], ends, self.tasks, strict=False))

    def only(self, methods: Sequence[str]) -> Environment:
        """These methods, in this order, and the fresh runs that they are compared with."""
        fresh = [reference for method in methods if (reference := reference_of(method, self.rows))]
        order = list(dict.fromkeys([*methods, *fresh]))
        return self._in(order)

    def the_best_first(self) -> Environment:
        """The same, the methods with the highest mean first."""
        return self._in(list(dict.fromkeys([*self.by_mean, *(run.method for run in self.all)])))

    def _in(self, order: Sequence[str]) -> Environment:
        return Environment(self.name, [run for method in order for run in self.all if run.method == method])

    @cached_property
    def by_mean(self) -> list[str]:
        """All methods, the highest mean of the headline first."""
        means = {method: mean(self.scores(method, f"{self.headline}_mean")) for method in self.methods}
        return sorted(self.methods, key=lambda method: -np.nan_to_num(means[method], nan=-math.inf))

    def of(self, method: str) -> list[Run]:
        return [run for run in self.runs if run.method == method]

    def scores(self, method: str, column: str) -> Scores:
        """(runs × tasks) of tasks.csv; NaN where a run has not come so far, or has no number."""
        runs = self.of(method)
        return np.array([self._padded([number(row, column) for row in run.tasks]) for run in runs])

    def _padded(self, values: list[float]) -> list[float]:
        return values + [math.nan] * (len(self.tasks) - len(values))

    @cached_property
    def ranked(self) -> list[str]:
        """Methods without fresh agents, the highest mean of the headline first."""
        return [method for method in self.by_mean if method in self.live]

    @cached_property
    def baseline(self) -> str | None:
        """The method ``none``, if there is one agent's."""
        found = [method for method in self.live if self.called[method] == "none" or method.endswith("-none")]
        return found[0] if len(found) == 1 else None

    @cached_property
    def styles(self) -> dict[str, Style]:
        """Colours in the order of the folders, fresh agents black; shown are the best methods and ``none``."""
        first = self.ranked[: SHOWN if len(self.live) <= SHOWN else SHOWN - 1]
        shown = [method for method in self.live if method in first or method == self.baseline]
        rest = [method for method in self.ranked if method not in shown]
        order = self.live if not rest else [*shown, *rest]
        found = {
            m: Style(COLORS[i % len(COLORS)], i // len(COLORS) % len(DASHES), m in shown) for i, m in enumerate(order)
        }
        return found | {method: Style("#000000", 1, True) for method in self.fresh}

    @cached_property
    def dots(self) -> dict[str, Style]:
        """Styles where methods stand one below the other: grey, where the curve is not shown at first."""
        return {m: style if style.shown else Style("#6B7785") for m, style in self.styles.items()}

    @cached_property
    def edges(self) -> Scores:
        """The edges of bins of steps, none over a switch."""
        total = self.bands[-1][1]
        found = [0.0]
        for begin, end, _ in self.bands:
            found += list(np.linspace(begin, end, max(2, round(BINS * (end - begin) / total)) + 1))[1:]
        return np.array(found)

    def binned(self, method: str, column: Callable[[Run], Scores]) -> Scores:
        """(runs × bins): the mean of a column of progress.csv in each bin of steps; NaN where there is nothing."""
        return np.array([self._bins(run, column(run)) for run in self.of(method) if run.progress])

    def _bins(self, run: Run, values: Scores) -> Scores:
        steps = run.progress["step"]
        known = ~np.isnan(values) & (steps > 0) & (steps <= self.edges[-1])
        place = np.searchsorted(self.edges, steps[known], side="left") - 1
        count = len(self.edges) - 1
        sums, counts = np.bincount(place, values[known], count), np.bincount(place, minlength=count)
        return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)


def mean(values: Scores) -> float:
    """The mean of what is known; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


class Means(NamedTuple):
    """Means, and the ends of their intervals, of columns."""

    middle: Scores
    low: Scores
    high: Scores

    def at(self, column: int) -> tuple[float, float, float]:
        """Of one column."""
        return float(self.middle[column]), float(self.low[column]), float(self.high[column])

    @property
    def numbers(self) -> Numbers:
        """As figures have them."""
        return Numbers(*(list(map(float, each)) for each in self))


def means(values: Scores, seed: int = 0) -> Means:
    """The mean over runs of each column, and the ends of its 95 % bootstrap interval over runs.

    Args:
        values: (runs × columns); NaN is left out. Of fewer than two known values there is no interval: NaN.
        seed: of the draws.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    count = known.sum(0)
    middle = np.divide(filled.sum(0), count, out=np.full(values.shape[1], np.nan), where=count > 0)
    picked = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    times = np.array([(picked == run).sum(1) for run in range(len(values))], float).T
    sums, counts = times @ filled, times @ known
    drawn = np.divide(sums, counts, out=np.tile(middle, (DRAWS, 1)), where=counts > 0)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    few = count < 2
    return Means(middle, np.where(few, np.nan, low), np.where(few, np.nan, high))
