"""Figures as files, by matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from neoteny.runners.dashboards import plain_numbers
from neoteny.runners.reports.figures import (
    BAND,
    DASHES,
    Dots,
    Figure,
    Heat,
    Line,
    Panel,
    brief,
    clipped,
    colors_of,
    log_ticks,
    short,
    span,
)

COLUMNS = 2
#: Of a panel, in inches; and the width of a letter of 10 points.
SIZE = (5.4, 3.2)
LETTER = 0.083


def save(figure: Figure, folder: Path, title: str, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure as files of these kinds; nothing, if it has no panels."""
    if not figure.panels:
        return []
    count = len(figure.panels)
    columns = min(COLUMNS, count)
    rows = [figure.panels[i : i + columns] for i in range(0, count, columns)]
    heights = [max(map(_height, row)) for row in rows]
    canvas = Canvas(figsize=(SIZE[0] * columns, sum(heights) + 0.9), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for axis, panel in zip(axes.flat, figure.panels, strict=False):
        draw(panel, axis)
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    canvas.suptitle(textwrap.fill(_plain(f"{title}: {figure.title}"), int(SIZE[0] * columns / LETTER / 1.2)))
    handles, labels = _legend(axes)
    if handles:
        fit = int(SIZE[0] * columns / (0.6 + LETTER * max(map(len, labels))))
        canvas.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, fit)), frameon=False)
    files = [folder / f"{figure.key}.{kind}" for kind in kinds]
    for file in files:
        canvas.savefig(file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else None)
        canvas.set_layout_engine(None)  # what was laid out once stays so, and is not drawn twice
    return files


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _height(panel: Panel) -> float:
    longest = max(
        (len(m.names) if isinstance(m, Dots) else len(m.lines) for m in panel.marks if not isinstance(m, Line)),
        default=0,
    )
    return max(SIZE[1] if not longest else 1.8, 1 + 0.27 * longest)


def draw(panel: Panel, axis: Axes) -> None:
    """Draw a panel."""
    for number, (begin, end, _) in enumerate(panel.bands):
        if number % 2 == 0:
            axis.axvspan(begin, end, color=BAND, linewidth=0, zorder=0)
    lines = any(isinstance(mark, Line) for mark in panel.marks)
    if panel.guide is not None and not math.isnan(panel.guide):
        (axis.axhline if lines else axis.axvline)(panel.guide, color="0.4", linewidth=0.9, linestyle=":")
    axis.set(xlabel=_plain(panel.x), ylabel=_plain(panel.y))
    axis.set_title(textwrap.fill(_plain(panel.title), int((SIZE[0] - 0.6) / LETTER)), fontsize=10)
    for mark in panel.marks:
        _mark(mark, axis)
    if panel.log:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_yticks(log_ticks(low, high))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    if panel.log_x:
        axis.set_xscale("log")
        left, right = axis.get_xlim()
        if right / left < 100:  # powers of ten would be one or two, and those between overlap
            plain_numbers(axis.xaxis)
    if panel.bands:
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _steps(value)))
        axis.set_xlim(0, panel.bands[-1][1])
    elif ends := span(panel):
        axis.set_xlim(*ends)
    elif panel.x == "task":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


@singledispatch
def _mark(mark: Line | Dots | Heat, axis: Axes) -> None:
    raise NotImplementedError(type(mark))


@_mark.register
def _line(mark: Line, axis: Axes) -> None:
    if not mark.style.shown:
        return
    color, dash = mark.style.color, DASHES[mark.style.dash][1]
    x, y = np.asarray(mark.x, float), np.asarray(mark.numbers.values, float)
    known = np.isfinite(y)
    if mark.points:
        axis.plot(x, y, "o", color=color, markersize=4, alpha=0.7, label=_plain(mark.name))
        return
    if len(mark.numbers.low):
        low, high = np.asarray(mark.numbers.low, float), np.asarray(mark.numbers.high, float)
        inside = np.isfinite(low)
        axis.fill_between(x[inside], low[inside], high[inside], color=color, alpha=0.16, linewidth=0)
    marker = "o" if mark.marks else None
    axis.plot(
        x[known], y[known], dash, color=color, linewidth=1.8, marker=marker, markersize=3.5, label=_plain(mark.name)
    )


@_mark.register
def _dots(mark: Dots, axis: Axes) -> None:
    for i, style in enumerate(mark.styles):
        if mark.runs:
            axis.plot(mark.runs[i], [-i] * len(mark.runs[i]), "o", color="0.72", markersize=3.5)
        value, low, high = (each[i] for each in mark.numbers)
        axis.plot([low, high], [-i, -i], color=style.color, linewidth=2)
        axis.plot(value, -i, "o", color=style.color, markersize=6)
    axis.set_ylim(0.6 - len(mark.names), 0.6)
    axis.set_yticks([-i for i in range(len(mark.names))], [_plain(clipped(name)) for name in mark.names])
    axis.grid(alpha=0.25)


@_mark.register
def _heat(mark: Heat, axis: Axes) -> None:
    values = np.asarray(mark.values, float)
    low, high, colors = colors_of(mark)
    axis.imshow(values, cmap=LinearSegmentedColormap.from_list("", colors), vmin=low, vmax=high, aspect="auto")
    axis.set_xticks(range(len(mark.columns)), [*map(_plain, brief(mark.columns))])
    axis.set_yticks(range(len(mark.lines)), [_plain(clipped(name)) for name in mark.lines])
    axis.tick_params(labelsize=8)
    if values.shape[1] <= 12:
        for (line, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = high > low and abs((value - low) / (high - low) - (0.0 if len(colors) == 2 else 0.5)) > (
                    0.6 if len(colors) == 2 else 0.4
                )
                axis.text(
                    column,
                    line,
                    short(float(value)),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if dark else "black",
                )


def _plain(text: str) -> str:
    """Text without matplotlib's mathematics."""
    return text.replace("$", r"\$")


def _steps(value: float) -> str:
    for size, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
