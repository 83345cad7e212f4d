"""Pictures of a run: its learning curves over the bands of its tasks, what its networks did, and what it has kept."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from neoteny.runners.dashboards.layout import health
from neoteny.runners.measures import in_words
from neoteny.runners.measures.verdicts import Row, number

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

#: The colour of each network, the same in every panel.
COLORS = {"actor": "C0", "critic": "C3", "encoder": "C2"}
#: The panels below the learning curve: what is in them, of :data:`HEALTH`, and whether the axis is logarithmic.
PANELS = (
    ("σ_max", "spectral_norm_max", True),
    ("dormant units\n(worst layer)", "dormant_max", False),
    ("probe\n(1: as new)", "probe", True),
    ("rank of\nfeatures", "feature_rank_min", False),
    ("gradient\ndiversity", "gradient_diversity_min", False),
)
#: More tasks than this have numbers in place of names.
NAMED = 6


def draw_story(progress: Sequence[Row], tasks: Sequence[Row], headline: str, title: str) -> Pixels:
    """A picture, (height, width, 3), of a run so far: a panel for each number, over bands for its tasks.

    Args:
        progress: the rows of progress.csv.
        tasks: the rows of tasks.csv, of the tasks that are over.
        headline: the measure that the sequence is judged by.
        title: what stands above.
    """
    steps = np.array([int(row["step"]) for row in progress])
    found = [(what, networks(progress, column), log) for what, column, log in PANELS]
    entropy = {"": column_of(progress, "policy/entropy")}
    curve = {"": column_of(progress, f"rollout/{headline}")}
    what = in_words(headline)
    if headline == "return" and not np.isfinite(curve[""]).any():
        curve, what = {"": column_of(progress, "rollout/return_of_ended")}, "return of episodes\nthat ended of late"
    panels = [(what, curve, False), *found, ("entropy of\nthe policy", entropy, False)]
    panels = [panels[0], *(panel for panel in panels[1:] if any(np.isfinite(v).any() for v in panel[1].values()))]
    heights = [1.8] + [1.0] * (len(panels) - 1)
    figure = Figure(figsize=(7, 1.1 + 0.95 * sum(heights)), dpi=100)
    axes = np.atleast_1d(figure.subplots(len(panels), sharex=True, height_ratios=heights))
    high = figure.get_figheight()
    figure.subplots_adjust(left=0.13, right=0.86, top=1 - 0.9 / high, bottom=0.5 / high, hspace=0.12)
    for axis, (label, lines, log) in zip(axes, panels, strict=True):
        bands(axis, tasks)
        curves(axis, steps, lines, log)
        axis.set_ylabel(label, fontsize=8)
        axis.tick_params(labelsize=8)
    names(axes[0], tasks)
    axes[-1].set_xlabel("environment steps", fontsize=8)
    axes[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.suptitle(title, fontsize=9)
    return pixels(figure)


def curves(axis: Axes, steps: Any, lines: Mapping[str, Any], log: bool) -> None:
    """A line for each network, over environment steps, where the values are known."""
    for name, values in lines.items():
        known = np.isfinite(values)
        marker = "o" if known.sum() <= 40 else None
        color = COLORS.get(name, "black")
        axis.plot(steps[known], values[known], color=color, marker=marker, markersize=3, label=name)
    if log and all((values[np.isfinite(values)] > 0).all() for values in lines.values()):
        axis.set_yscale("log")
        plain_numbers(axis.yaxis)
    else:
        axis.yaxis.set_major_locator(MaxNLocator(4))
    if any(lines):
        axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as 0.5, 2, 30 instead of powers of ten, between decades where there are few."""
    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def networks(rows: Sequence[Row], column: str) -> dict[str, Any]:
    """What :data:`HEALTH` calls ``column``, of each network that has it, as numbers."""
    found = {network: column_of(rows, health(network, column)) for network in COLORS}
    return {network: values for network, values in found.items() if np.isfinite(values).any()}


def column_of(rows: Sequence[Row], column: str) -> Any:
    """A column as numbers, NaN where there is none."""
    return np.array([number(row, column) for row in rows])


def bands(axis: Axes, tasks: Sequence[Row]) -> None:
    """Every other task on grey, with a line where one ends; two artists, however many tasks there are."""
    ends = [int(row["step"]) for row in tasks]
    begins = [end - int(row["steps"]) for end, row in zip(ends, tasks, strict=True)]
    across = axis.get_xaxis_transform()  # heights are of the panel
    boxes = [[(left, 0), (left, 1), (right, 1), (right, 0)] for left, right in zip(begins, ends, strict=True)]
    lines = [[(end, 0), (end, 1)] for end in ends]
    grey = PolyCollection(boxes[1::2], facecolors="0.93", linewidth=0, zorder=0, transform=across)
    axis.add_collection(grey, autolim=False)
    axis.add_collection(LineCollection(lines, colors="0.8", linewidth=0.6, zorder=0, transform=across), autolim=False)
    axis.update_datalim([(x, 0) for x in [*begins[1:2], *ends]], updatey=False)


def names(axis: Axes, tasks: Sequence[Row]) -> None:
    """What the tasks are called, above their bands; their numbers, where there are many."""
    every = max(1, len(tasks) // 25)
    for row in tasks[::every]:
        middle = int(row["step"]) - int(row["steps"]) / 2
        text = f"{int(row['task']) + 1} {row['name']}" if len(tasks) <= NAMED else str(int(row["task"]) + 1)
        text = textwrap.fill(text, 72 // min(len(tasks), NAMED), max_lines=3, placeholder="…")
        axis.annotate(
            text, (middle, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=7, annotation_clip=False
        )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: max(1, length - 1)]}…"


def draw_matrix(matrix: Any, tasks: Sequence[str], measure: str) -> Pixels:
    """A picture of what the agent reached on every task before the first, and after each.

    Args:
        matrix: (visits + 1, tasks).
        tasks: what the columns are called.
        measure: what is in the matrix.
    """
    rows, columns = matrix.shape
    figure = Figure(figsize=(3.2 + 0.9 * columns, 1.9 + 0.4 * rows), dpi=80, layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(matrix, aspect="auto", cmap="viridis")
    figure.colorbar(image, label=in_words(measure))
    if matrix.size <= 200:
        low, high = np.nanmin(matrix, initial=np.inf), np.nanmax(matrix, initial=-np.inf)
        for (row, column), value in np.ndenumerate(matrix):
            dark = np.isfinite(value) and high > low and (value - low) / (high - low) < 0.6
            axis.text(column, row, f"{value:.3g}", ha="center", va="center", color="w" if dark else "k", fontsize=8)
    axis.set_xticks(range(columns), [_short(name, 24) for name in tasks], rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(rows), ["before", *(f"after {visit}" for visit in range(1, rows))], fontsize=8)
    axis.set_title(f"{in_words(measure)} on every task", fontsize=10)
    return pixels(figure)


def pixels(figure: Figure) -> Pixels:
    """A figure as a picture, (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
