"""Which method is better, and how sure that is: interquartile mean, probability of improvement, performance profile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neoteny.runners.measures import in_words
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell, Dots, Figure, Heat, Line, Numbers, Panel, estimate, short
from neoteny.runners.reports.reference import has_ratio, reference_of, without_method
from neoteny.runners.reports.scores import Scores
from neoteny.runners.reports.statistics import (
    Estimate,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)

#: More methods than this are not compared each with each.
PAIRS = 8
NOBODY = (math.nan, math.nan, math.nan)


@dataclass
class Comparison:
    """Methods by their scores on the tasks that all of them have.

    Attributes:
        env: the runs.
    """

    env: Environment

    @cached_property
    def raw(self) -> dict[str, Scores]:
        """(runs × tasks): the mean of the headline over each task; NaN where it is not finite."""
        found = {method: self.env.scores(method, f"{self.env.headline}_mean") for method in self.env.methods}
        return {method: np.where(np.isfinite(values), values, np.nan) for method, values in found.items()}

    @cached_property
    def common(self) -> list[int]:
        """The tasks of which every method has a score."""
        known = np.array([np.isfinite(values).any(0) for values in self.raw.values()])
        return [int(task) for task in np.flatnonzero(known.all(0))]

    @cached_property
    def by_fresh(self) -> bool:
        """Whether scores are divided by those of fresh agents: there is one kind of them, and it can be done."""
        if len(self.env.fresh) != 1 or not self.common:
            return False
        fresh = self.raw[self.env.fresh[0]]
        others = [self.raw[method] for method in self.env.live]
        return all(has_ratio(_known(one[:, i]), _known(fresh[:, i])) for one in others for i in self.common)

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Normalized, (runs × tasks), of the tasks in :attr:`tasks`."""
        return {method: self._normalized(values)[:, self._kept] for method, values in self.raw.items()}

    @cached_property
    def tasks(self) -> list[str]:
        """The tasks that are compared on: common, and with a scale."""
        return [self.env.tasks[i] for i, kept in enumerate(self._kept) if kept]

    @cached_property
    def _scale(self) -> tuple[Scores, Scores]:
        """What is subtracted from the scores of each task, and what they are divided by."""
        if self.by_fresh:
            middle = np.nanmean(self.raw[self.env.fresh[0]][:, self._at], 0)
            return self._everywhere(np.zeros_like(middle)), self._everywhere(middle)
        every = np.concatenate([values[:, self._at] for values in self.raw.values()])
        low, high = np.nanmin(every, 0), np.nanmax(every, 0)
        return self._everywhere(low), self._everywhere(high - low)

    @property
    def _at(self) -> list[int]:
        return self.common

    def _everywhere(self, values: Scores) -> Scores:
        found = np.full(len(self.env.tasks), np.nan)
        found[self.common] = values
        return found

    @cached_property
    def _kept(self) -> Scores:
        return np.isfinite(self._scale[1]) & (self._scale[1] != 0)

    def _normalized(self, values: Scores) -> Scores:
        less, by = self._scale
        return np.divide(values - less, by, out=np.full(values.shape, np.nan), where=by != 0)

    @cached_property
    def iqm(self) -> dict[str, Estimate]:
        """The interquartile mean of each method, the best first, fresh agents included."""
        if not self.tasks:
            return {}
        found = {method: stratified_interval(values, interquartile_mean) for method, values in self.scores.items()}
        return dict(sorted(found.items(), key=lambda each: -np.nan_to_num(each[1][0], nan=-math.inf)))

    @property
    def order(self) -> list[str]:
        """Methods without fresh agents, the best first."""
        return [method for method in self.iqm if method not in self.env.fresh]

    def better(self, one: str, other: str, whole_runs: bool = False) -> Estimate:
        """How probable it is that a run of one method does better than one of another in the same task."""
        if not self.tasks:
            return NOBODY
        found: Estimate = probability_of_improvement(self.scores[one], self.scores[other], whole_runs=whole_runs)
        return found

    @cached_property
    def about(self) -> str:
        """What scores are, and of which tasks."""
        what = f"mean {in_words(self.env.headline)} over the task"
        if self.by_fresh:
            text = f"Scores: the {what}, divided by that of fresh agents in the same task, so 1 is a fresh agent. "
        else:
            text = (
                f"Scores: the {what}, scaled in each task from 0, the lowest run of any method here, to 1, the "
                "highest; so they say who is better here, not how good that is. "
            )
        left = len(self.env.tasks) - len(self.tasks)
        return text + (
            f"{left} of {len(self.env.tasks)} tasks are left out: not every method has them, or all runs are alike. "
        ) * (left > 0)


def _known(values: Scores) -> Scores:
    return values[np.isfinite(values)]


MEASURES = (
    "The interquartile mean (IQM) is the mean of the middle half of all scores, runs and tasks together: neither "
    "one lucky run nor one easy task decides it. Its 95 % interval is of a bootstrap stratified by task. The "
    "probability of improvement is how probable it is that a run of one method does better than a run of the other "
    "in the same task: 0.5 is no difference, and where the interval holds 0.5 the runs do not tell which is better. "
    "Tasks of one run share an agent, so these intervals can be too narrow: those in the table that are called so "
    "draw whole runs. "
)
PROFILE = (
    "A performance profile says which share of scores lies above the number on the x axis: the higher curve is better. "
)


def comparison(env: Environment, found: Comparison) -> Figure | None:
    """The three figures of it."""
    if len(env.methods) < 2 or not found.tasks:
        return None
    order = list(found.iqm)
    runs = [[float(interquartile_mean(run[None])) for run in found.scores[method]] for method in order]
    dots = Dots([env.called[m] for m in order], Numbers.of(found.iqm.values()), [env.dots[m] for m in order], runs)
    guide = 1.0 if found.by_fresh else None
    panels = [
        Panel("interquartile mean of scores", "score (IQM)", "", [dots], guide=guide),
        *_probabilities(env, found),
    ]
    panels.append(_profile(env, found))
    return Figure(
        "comparison",
        "Which method is better",
        MEASURES + PROFILE + found.about,
        panels,
        table=compared(env, found),
        pick=True,
    )


def _probabilities(env: Environment, found: Comparison) -> list[Panel]:
    """Each method against the baseline, or the best; of few, each against each."""
    order = found.order
    if len(order) < 2:
        return []
    against = env.baseline or order[0]
    rest = [method for method in order if method != against]
    cells = {method: found.better(method, against) for method in rest}
    rest.sort(key=lambda method: -np.nan_to_num(cells[method][0], nan=-math.inf))
    label = f"P(better than {env.called[against]})"
    dots = Dots([env.called[m] for m in rest], Numbers.of(cells[m] for m in rest), [env.dots[m] for m in rest])
    panels = [Panel(f"probability of improvement over {env.called[against]}", label, "", [dots], guide=0.5)]
    if 2 < len(order) <= PAIRS:
        names = [env.called[m] for m in order]
        values = [[math.nan if a == b else found.better(a, b)[0] for b in order] for a in order]
        title = "probability that the method of the line is better than that of the column"
        panels.append(Panel(title, "", "", [Heat(names, names, values, 0.0, 1.0, 0.5)]))
    return panels


def _profile(env: Environment, found: Comparison) -> Panel:
    every = np.concatenate([values[np.isfinite(values)] for values in found.scores.values()])
    thresholds = np.linspace(min(0.0, float(every.min())), float(every.max()), 61)
    lines = []
    for method in env.methods:
        profile = performance_profile(found.scores[method], thresholds, draws=500)
        x = [float(value) for value in thresholds]
        half = float(np.nanmedian(found.scores[method]))
        lines.append(
            Line(
                env.called[method],
                x,
                Numbers.of(np.transpose(profile)),
                style=env.styles[method],
                says=f"half of its scores are above {short(half)}",
            )
        )
    return Panel("performance profile", "score", "share of scores above", lines)


def compared(env: Environment, found: Comparison) -> list[dict[str, Cell]]:
    """A row for each method, the best first; none, where there is nothing to compare."""
    if len(env.methods) < 2 or not found.order:
        return []
    best = found.order[0]
    rows: list[dict[str, Cell]] = []
    for method, (value, low, high) in found.iqm.items():
        scores = found.scores[method]
        _, *wide = stratified_interval(scores, interquartile_mean, whole_runs=True)
        row: dict[str, Cell] = {"method": env.called[method], "runs": len(scores)}
        row |= {"IQM": value, "low": low, "high": high}
        row |= {"whole runs, low": wide[0], "whole runs, high": wide[1]}
        for name, other in (("none", without_method(method, env.rows)), ("fresh", reference_of(method, env.rows))):
            if other in env.rows:
                row[f"P(better than {name})"] = estimate(*found.better(method, other))
        if method != best and method not in env.fresh:
            row["P(best is better)"] = estimate(*found.better(best, method))
        rows.append(row | {"missing scores": int(np.isnan(scores).sum())})
    return rows
