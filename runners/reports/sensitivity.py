"""How much a setting matters that was swept, such as the strength of a penalty."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from neoteny.runners.measures import in_words
from neoteny.runners.reports.environment import Environment, means
from neoteny.runners.reports.figures import COLORS, DASHES, Cell, Figure, Line, Numbers, Panel, Style, estimate, short
from neoteny.runners.reports.reference import reference_of
from neoteny.runners.reports.scores import Scores
from neoteny.runners.reports.statistics import bounds

#: The share of fresh agents' return from which on a value is called good.
GOOD = 0.8
#: A sweep has at least so many values.
VALUES = 3
DRAWS = 1000
#: A positive number in a label: ``strength=0.001``.
SETTING = re.compile(r"(?<=[,+(])([\w.]+)=(\d+\.?\d*(?:e[-+]?\d+)?)(?=$|[,+)]|-[A-Za-z])")

HOW = (
    "Runs that differ in one number alone, over its values: the mean {measure} over all tasks, with 95 % "
    "intervals over runs. A value is good that reaches {good:.0f} % of {reference}, the dotted line. The width of "
    "the good range is in orders of magnitude: from where the line between the means of neighbouring values "
    "crosses that level to where it crosses it again, about the best value; ≥ where it goes on beyond the values "
    "that were tried. The wider, the less does the setting need to be tuned. The width's interval draws all runs "
    "anew."
)


class Width(NamedTuple):
    """A good range, in orders of magnitude.

    Attributes:
        decades: its width; 0, if no value is good.
        is_open: it goes on beyond the values.
    """

    decades: float
    is_open: bool

    def __str__(self) -> str:
        return f"{'≥ ' * self.is_open}{self.decades:.1f}"


@dataclass
class Sweep:
    """Methods that differ in one number.

    Attributes:
        label: what they have in common, the number as ``*``.
        setting: what it is the number of.
        runs: the means over tasks of all runs, by the number, in rising order.
        reference: those of what they are measured by.
    """

    label: str
    setting: str
    runs: dict[float, Scores]
    reference: Scores

    @cached_property
    def best(self) -> float:
        return max(self.runs, key=lambda value: float(self.runs[value].mean()))

    @cached_property
    def level(self) -> float:
        """What is good; NaN, where a share of the reference means nothing."""
        middle = float(self.reference.mean())
        return GOOD * middle if middle > 0 else math.nan

    @property
    def width(self) -> Width:
        return width([*self.runs], [float(values.mean()) for values in self.runs.values()], self.level)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval of the width, all runs drawn anew; NaN, where there is one run of something."""
        if min(map(len, (self.reference, *self.runs.values()))) < 2:
            return math.nan, math.nan
        rng = np.random.default_rng(0)
        drawn = np.array(
            [rng.choice(each, (DRAWS, len(each))).mean(1) for each in (self.reference, *self.runs.values())]
        )
        return bounds(np.array([width([*self.runs], of[1:], GOOD * of[0]).decades for of in drawn.T]))

    @property
    def row(self) -> dict[str, Cell]:
        counts = sorted({len(values) for values in self.runs.values()})
        good = [f"{value:g}" for value, values in self.runs.items() if values.mean() >= self.level]
        row: dict[str, Cell] = {
            "method": self.label,
            "values": ", ".join(f"{value:g}" for value in self.runs),
            "runs of each": " or ".join(map(str, counts)),
            "best": f"{self.best:g}",
            "mean there": estimate(*means(self.runs[self.best][:, None]).at(0)),
        }
        if math.isnan(self.level):
            return row
        low, high = self.interval
        row |= {"good from": self.level, "good": ", ".join(good) or "none"}
        return row | {
            "width (orders of magnitude)": f"{self.width}" + ("" if math.isnan(low) else f" [{low:.1f}, {high:.1f}]")
        }


def width(values: Sequence[float], reached: Sequence[float], level: float) -> Width:
    """The range about the best value in which ``level`` is reached.

    Args:
        values: of the setting, rising.
        reached: with each.
        level: what is good.
    """
    best = int(np.argmax(reached))
    if not reached[best] >= level:
        return Width(0.0, False)
    x = np.log10(values)
    ends = []
    for step in (-1, 1):
        at = best
        while 0 <= at + step < len(x) and reached[at + step] >= level:
            at += step
        beyond = at + step
        is_open = not 0 <= beyond < len(x)
        share = 0.0 if is_open else (reached[at] - level) / (reached[at] - reached[beyond])
        ends.append((x[at] + share * (x[at if is_open else beyond] - x[at]), is_open))
    (low, low_open), (high, high_open) = ends
    return Width(float(high - low), low_open or high_open)


def sweeps(env: Environment) -> list[Sweep]:
    """What was swept, as the labels of the methods say: those that differ in one positive number, of three or more."""
    column = f"{env.headline}_mean"
    means_of = {method: _over_tasks(env.scores(method, column)) for method in env.methods}
    best = max(
        (means_of[method] for method in env.live), key=lambda values: float(values.mean()) if len(values) else -math.inf
    )
    found: dict[tuple[str, str], dict[float, str]] = {}
    for method in env.live:
        name = env.called[method]
        for match in SETTING.finditer(name):
            if float(match[2]) > 0 and len(means_of[method]):
                label = f"{name[: match.start(2)]}*{name[match.end(2) :]}"
                found.setdefault((match[1], label), {})[float(match[2])] = method
    made = []
    for (setting, label), methods in found.items():
        if len(methods) >= VALUES:
            fresh = [means_of[ref] for method in methods.values() if (ref := reference_of(method, env.rows))]
            reference = max([each for each in fresh if len(each)] or [best], key=np.mean)
            made.append(Sweep(label, setting, {v: means_of[m] for v, m in sorted(methods.items())}, reference))
    return made


def _over_tasks(scores: Scores) -> Scores:
    """(runs): the mean over tasks of those that have all of them."""
    values: Scores = scores.mean(1)
    return values[np.isfinite(values)]


def sensitivity(env: Environment) -> Figure | None:
    """A curve for each sweep, a panel for each setting, and the width of the good range as a table."""
    found = sweeps(env)
    if not found:
        return None
    what = f"mean {in_words(env.headline)}"
    panels = []
    for setting in dict.fromkeys(sweep.setting for sweep in found):
        of = [sweep for sweep in found if sweep.setting == setting]
        levels = {sweep.level for sweep in of}
        guide = levels.pop() if len(levels) == 1 else math.nan
        lines = [_line(sweep, number) for number, sweep in enumerate(of)]
        guided = None if math.isnan(guide) else guide
        panels.append(Panel(f"{what} by {setting}", setting, what, lines, guide=guided, log_x=True))
    reference = "fresh agents" if env.fresh else "the best method here"
    how = HOW.format(measure=in_words(env.headline), good=100 * GOOD, reference=reference)
    table = [sweep.row for sweep in found]
    return Figure("sensitivity", "How much a swept setting matters", how, panels, table=table)


def _line(sweep: Sweep, number: int) -> Line:
    numbers = Numbers.of(means(values[:, None]).at(0) for values in sweep.runs.values())
    single = all(map(math.isnan, numbers.low))
    style = Style(COLORS[number % len(COLORS)], number // len(COLORS) % len(DASHES))
    said = f"best at {sweep.best:g}, {short(float(sweep.runs[sweep.best].mean()))}"
    return Line(
        sweep.label, [*sweep.runs], Numbers(numbers.values) if single else numbers, style, marks=True, says=said
    )
