"""Learning compared with that of fresh agents, which begin every task anew: what was lost, or gained, on the way."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neoteny import configs
from neoteny.runners.measures import in_words
from neoteny.runners.reports.scores import Runs, Scores, interval, resampled, scores
from neoteny.runners.reports.statistics import Estimate, bounds

#: What the folders of fresh runs without a method are called, after the agent; and those of runs that go on.
FRESH = ",fresh-none"
BARE = "-none"


class Line(NamedTuple):
    """A method on a task, or on all of them (``task`` None), compared with fresh agents."""

    method: str
    name: str
    task: int | None
    ratio: Estimate
    difference: Estimate


def reference_of(name: str, runs: Runs) -> str | None:
    """The fresh run of the same agent without a method; None if there is none, or ``name`` is fresh itself."""
    return _of_the_same_agent(name, FRESH, runs)


def without_method(name: str, runs: Runs) -> str | None:
    """The run of the same agent without a method; None if there is none, or ``name`` is fresh, or has no method."""
    found = _of_the_same_agent(name, BARE, runs)
    return None if found == name else found


def _of_the_same_agent(name: str, ending: str, runs: Runs) -> str | None:
    """The run of the same agent whose name ends so; none, if ``name`` is one of fresh agents without a method.

    Where the method is no preset, its name may be parted anywhere.
    """
    if name.endswith(FRESH):
        return None
    agents = agents_in(name) or [name[:i] for i, letter in enumerate(name) if letter == "-"]
    found = [ref for agent in agents if (ref := agent + ending) in runs]
    return max(found, key=len, default=None)


def agents_in(name: str) -> list[str]:
    """What the agent may be of a folder called ``<agent>-<reg>``, the shortest first: both may have dashes, and what
    follows is a preset of a method, or several joined."""
    presets = set(configs.names("regs"))
    places = [i for i, letter in enumerate(name) if letter == "-"]
    return [name[:i] for i in places if presets.issuperset(name[i + 1 :].partition(",")[0].split("+"))]


def references(runs: Runs) -> list[str]:
    """The fresh runs that others are compared with."""
    return [name for name in runs if any(reference_of(other, runs) == name for other in runs)]


def has_ratio(live: Scores, fresh: Scores) -> bool:
    """Whether the areas of a task, over seeds, can be divided: none is negative, and the fresh agents' mean is above 0
    by its 95 % interval."""
    return bool(np.isfinite(live).all() and min(live.min(), fresh.min()) >= 0 and interval(fresh)[1] > 0)


def ratio(live: Scores, fresh: Scores) -> Estimate:
    """Plasticity: the mean over tasks of area(live) / area(fresh), areas averaged over seeds; and its 95 % interval.

    The area under a learning curve is its mean, the same budget for both (``return_mean`` in tasks.csv). Seeds of both
    sides are drawn anew, independently. 1 is as good as new.

    Args:
        live, fresh: areas, (seeds × tasks), or (seeds) of one task.

    Returns:
        The mean, and the ends of the interval. Tasks without :func:`has_ratio` are left out; NaN if none is left.
    """
    tasks = [pair for pair in _tasks(live, fresh) if has_ratio(*pair)]
    if not tasks:
        return math.nan, math.nan, math.nan
    middle = float(np.mean([one.mean() / other.mean() for one, other in tasks]))
    with np.errstate(divide="ignore"):
        draws = np.mean([resampled(one) / resampled(other, 1) for one, other in tasks], axis=0)
    return middle, *bounds(draws)


def difference(live: Scores, fresh: Scores) -> Estimate:
    """The mean over tasks of area(live) − area(fresh), as :func:`ratio`: for returns that are negative or about 0."""
    tasks = _tasks(live, fresh)
    if not tasks:
        return math.nan, math.nan, math.nan
    middle = float(np.mean([one.mean() - other.mean() for one, other in tasks]))
    draws = np.mean([resampled(one) - resampled(other, 1) for one, other in tasks], axis=0)
    return middle, *bounds(draws)


def _tasks(live: Scores, fresh: Scores) -> list[tuple[Scores, Scores]]:
    """The areas of each task that both have finished."""
    one, other = live.reshape(len(live), -1), fresh.reshape(len(fresh), -1)
    return [(one[:, task], other[:, task]) for task in range(min(one.shape[1], other.shape[1]))]


def compared(runs: Runs, measure: str) -> list[Line]:
    """Every method that has a reference, on each task and on all together."""
    found: list[Line] = []
    for name, seeds in runs.items():
        if (reference := reference_of(name, runs)) is None:
            continue
        live, fresh = (scores(group, f"{measure}_mean") for group in (seeds, runs[reference]))
        rows = next(iter(seeds.values()))
        count = min(live.shape[1], fresh.shape[1])
        for task in range(count):
            pair = live[:, task], fresh[:, task]
            found.append(Line(name, rows[task]["name"], task, ratio(*pair), difference(*pair)))
        found.append(Line(name, "all", None, ratio(live, fresh), difference(live, fresh)))
    return found


def plasticity_tables(runs: Runs, measure: str) -> list[str]:
    """Markdown: the section on plasticity against fresh agents; nothing without a reference."""
    lines = compared(runs, measure)
    if not lines:
        return []
    name = in_words(measure)
    text = [
        "## Plasticity against fresh agents",
        "A fresh agent (`--fresh`, without a method) begins each task anew, with the same budget. The area is the mean "
        f"of the learning curve of the {name}. area(live) / area(fresh): 1 is as good as new. A dash: nothing can be "
        "divided, since an area is negative, or the fresh agents' mean is not above 0 by its interval; see the "
        "difference. The last row is the mean over the tasks that have one.",
    ]
    if not all(math.isnan(line.ratio[0]) for line in lines):
        text.append(_table(lines, "ratio"))
    return [*text, "### area(live) − area(fresh)", _table(lines, "difference")]


def _table(lines: list[Line], column: str) -> str:
    methods = list(dict.fromkeys(line.method for line in lines))
    tasks = dict.fromkeys((line.task, line.name) for line in lines)
    cells = {(line.method, line.task): getattr(line, column) for line in lines}
    order = sorted(tasks, key=lambda task: math.inf if task[0] is None else task[0])
    grid = [["task", *methods]]
    for index, name in order:
        label = name if index is None else f"{index + 1} {name}"
        grid.append([label, *(_show(cells.get((method, index))) for method in methods)])
    rows = ["| " + " | ".join(row) + " |" for row in grid]
    return "\n".join([rows[0], "|---|" + "---:|" * len(methods), *rows[1:]])


def _show(cell: Estimate | None) -> str:
    if cell is None or math.isnan(cell[0]):
        return "—"
    return f"{cell[0]:.3f} [{cell[1]:.3f}, {cell[2]:.3f}]"


def write_plasticity(runs: Runs, measure: str, file: Path) -> None:
    """The same as CSV: a row per method and task, and one per method for ``all``."""
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        ends = [f"{kind}{end}" for kind in ("ratio", "difference") for end in ("", "_low", "_high")]
        writer.writerow(["method", "task", "name", *ends])
        for line in compared(runs, measure):
            task = "" if line.task is None else line.task
            writer.writerow([line.method, task, line.name, *line.ratio, *line.difference])
