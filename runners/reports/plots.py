"""Plots: return (or another measure) and spectral norm, by task or over all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from neoteny.runners.dashboards import plain_numbers
from neoteny.runners.measures import in_words
from neoteny.runners.reports.reference import agents_in, references
from neoteny.runners.reports.scores import Runs, Scores, interval, scores
from neoteny.runners.reports.wording import in_its_words

#: Of more methods than this the curves could not be told apart.
CURVES = 6

#: Ten colours each.
MARKS = "o^sD"

#: The column of the largest spectral norm.
NORM = "spectral_norm_max"


def plot(runs: Runs, file: Path, title: str, measure: str = "return") -> None:
    """A measure and the largest spectral norm: task by task for a few methods, over all tasks for many.

    Fresh agents that others are compared with are black and dashed, or black.
    """
    fresh = references(runs)
    called = in_its_words(short_names([*runs], fresh), measure)
    many = len(runs) > CURVES
    height = 1.2 + 0.27 * len(runs) if many else 4
    panels = {f"{measure}_mean": f"mean {in_words(measure)}"}
    if any(row.get(NORM) for seeds in runs.values() for rows in seeds.values() for row in rows):
        panels[NORM] = "largest spectral norm at a task's end"
    figure, (axes,) = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), height), layout="constrained", sharey=many, squeeze=False
    )
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        methods = {called[name]: scores(seeds, column) for name, seeds in runs.items()}
        (dots if many else curves)(axis, methods, label, [called[name] for name in fresh])
        axis.grid(alpha=0.25)
        if column == NORM:
            (axis.set_xscale if many else axis.set_yscale)("log")
            plain_numbers(axis.xaxis if many else axis.yaxis)
    if not many:
        axes[0].set_ylim(bottom=min(0, axes[0].get_ylim()[0]))
        axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def short_names(names: Sequence[str], fresh: Sequence[str] = ()) -> dict[str, str]:
    """What methods are called in plots: their folders' names without the agent, where all have the same."""
    live = [name for name in names if name not in fresh]
    # the longest: an agent may be called as a method is, ppo-trac
    agents = {max(agents_in(name), key=len, default=None) for name in live}
    if len(agents) != 1 or None in agents:
        return {name: name for name in names}
    (agent,) = agents
    return {name: name.removeprefix(f"{agent}-") if name in live else "fresh agents" for name in names}


def curves(axis: Axes, methods: dict[str, Scores], label: str, fresh: Sequence[str] = ()) -> None:
    """A line per method, with a band for the 95 % interval of its mean over seeds."""
    for number, (name, values) in enumerate(methods.items()):
        x = np.arange(1, values.shape[1] + 1)
        color, style = ("black", "--") if name in fresh else (f"C{number}", "-")
        if len(values) > 1:
            low, high = np.array([interval(values[:, task])[1:] for task in range(len(x))]).T
            axis.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        marks = {"marker": MARKS[number // 10 % len(MARKS)], "markersize": 3.5 if number < 10 else 6}
        axis.plot(x, values.mean(0), style, color=color, linewidth=2.2, label=name, **marks)  # type: ignore[arg-type]
    axis.set(xlabel="task", ylabel=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def dots(axis: Axes, methods: dict[str, Scores], label: str, fresh: Sequence[str] = ()) -> None:
    """A line of its own for each method, the first on top: mean over tasks, 95 % interval, and a small dot per seed."""
    for number, (name, values) in enumerate(methods.items()):
        middle, low, high = interval(values)
        color = "black" if name in fresh else "C0"
        axis.plot(values.mean(1), [-number] * len(values), "o", color="0.7", markersize=3.5)
        axis.plot([low, high], [-number] * 2, color=color, linewidth=2)
        axis.plot(middle, -number, "o", color=color, markersize=6)
    axis.set(xlabel=label)
    axis.set_yticks(-np.arange(len(methods)), [*methods])
