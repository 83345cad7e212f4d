"""Figures for the page, as what plotly.js draws."""

from __future__ import annotations

import html
import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any

from neoteny.runners.reports.figures import (
    BAND,
    DASHES,
    Dots,
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

GRID = "#E3E6EA"
TEXT = "#1A1A1A"
#: Numbers of tasks above the bands, at most.
NUMBERED = 20
#: Characters of a line of an axis' title, which fit a phone.
TITLE = 38

Trace = dict[str, Any]


def plot(panel: Panel) -> dict[str, Any]:
    """The traces and the layout of a panel, as plain data."""
    traces = [trace for mark in panel.marks for trace in _traces(mark)]
    lines = any(isinstance(mark, Line) for mark in panel.marks)
    layout: dict[str, Any] = {
        "margin": {"l": 56, "r": 12, "t": 22, "b": 46},
        "height": _height(panel),
        "showlegend": False,
        "hovermode": "closest",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": TEXT},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _axis(panel.x),
        "yaxis": _axis(panel.y),
        "shapes": [*_bands(panel), *_guide(panel, lines)],
        "annotations": list(_numbers(panel)),
    }
    if panel.log:
        _logarithmic(panel, layout["yaxis"])
    if panel.log_x:
        layout["xaxis"] |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    if panel.bands:
        layout["xaxis"]["range"] = [0, panel.bands[-1][1] * 1.01]
    elif ends := span(panel):
        layout["xaxis"]["range"] = list(ends)
    elif panel.x == "task":
        layout["xaxis"] |= {"tickformat": "d"} | ({"dtick": 1} if _tasks(panel) <= 15 else {})
    for mark in panel.marks:
        _names(mark, layout)
    return {"data": traces, "layout": layout}


def _tasks(panel: Panel) -> int:
    return max(len(mark.x) for mark in panel.marks if isinstance(mark, Line))


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": "<br>".join(map(_text, textwrap.wrap(title, TITLE))), "standoff": 8},
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "linecolor": "#888",
        "ticks": "outside",
        "tickcolor": "#888",
    }


def _height(panel: Panel) -> int:
    many = [len(m.names) if isinstance(m, Dots) else len(m.lines) for m in panel.marks if not isinstance(m, Line)]
    wide = 40 if any(isinstance(mark, Heat) for mark in panel.marks) else 0
    return max(110, 80 + wide + 24 * max(many)) if many else 300


def _logarithmic(panel: Panel, axis: dict[str, Any]) -> None:
    known = [y for mark in panel.marks if isinstance(mark, Line) for y in itertools.chain(*mark.numbers) if y > 0]
    ticks = log_ticks(min(known), max(known)) if known else []
    axis["type"] = "log"
    if len(ticks) > 1:
        axis |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _bands(panel: Panel) -> Iterator[dict[str, Any]]:
    for begin, end, _ in panel.bands[::2]:
        place = {"x0": begin, "x1": end, "y0": 0, "y1": 1, "yref": "paper"}
        yield {"type": "rect", **place, "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}


def _numbers(panel: Panel) -> Iterator[dict[str, Any]]:
    every = max(1, math.ceil(len(panel.bands) / NUMBERED))
    for number, (begin, end, name) in list(enumerate(panel.bands, 1))[::every]:
        place = {"x": (begin + end) / 2, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        yield {**place, "text": str(number), "hovertext": _text(name), "font": {"size": 10, "color": "#555"}}


def _guide(panel: Panel, lines: bool) -> Iterator[dict[str, Any]]:
    if panel.guide is not None:
        value = math.log10(panel.guide) if panel.log else panel.guide
        ends = {"x0": 0, "x1": 1, "xref": "paper", "y0": value, "y1": value}
        if not lines:
            ends = {"y0": 0, "y1": 1, "yref": "paper", "x0": value, "x1": value}
        yield {"type": "line", **ends, "line": {"color": "#666", "width": 1.2, "dash": "dot"}}


@singledispatch
def _traces(mark: Line | Dots | Heat) -> Iterator[Trace]:
    raise NotImplementedError(type(mark))


@_traces.register
def _line(mark: Line) -> Iterator[Trace]:
    color, name = mark.style.color, _text(mark.name)
    same = {"type": "scatter", "name": name, "legendgroup": mark.name, "visible": mark.style.shown}
    values, low, high = mark.numbers
    known = [i for i, y in enumerate(values) if math.isfinite(y)]
    if inside := [i for i in known if len(low) and math.isfinite(low[i])]:
        edge = {**same, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": [mark.x[i] for i in inside]}
        yield {**edge, "y": [low[i] for i in inside], "meta": "low"}
        fill = f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},0.16)"
        yield {**edge, "y": [high[i] for i in inside], "fill": "tonexty", "fillcolor": fill, "meta": "high"}
    mode = "markers" if mark.points else "lines+markers" if mark.marks else "lines"
    yield {
        **same,
        "mode": mode,
        "x": [mark.x[i] for i in known],
        "y": [values[i] for i in known],
        "line": {"color": color, "width": 2, "dash": DASHES[mark.style.dash][0]},
        "marker": {"color": color, "size": 7 if mark.points else 5, "opacity": 0.75 if mark.points else 1},
        "hovertemplate": f"{name}<br>%{{x}}: %{{y:.4g}}<extra></extra>",
        "meta": "values",
    }


@_traces.register
def _dots(mark: Dots) -> Iterator[Trace]:
    places = [-i for i in range(len(mark.names))]
    colors = [style.color for style in mark.styles]
    if mark.runs:
        x = [value for values in mark.runs for value in values]
        y = [place for place, values in zip(places, mark.runs, strict=True) for _ in values]
        grey = {"color": "#B4B9C0", "size": 6}
        yield {
            "type": "scatter",
            "mode": "markers",
            "x": _known(x),
            "y": y,
            "marker": grey,
            "hoverinfo": "x",
            "meta": "runs",
        }
    for i, place in enumerate(places):
        if math.isfinite(mark.numbers.low[i]):
            line = {"color": colors[i], "width": 3}
            ends = [mark.numbers.low[i], mark.numbers.high[i]]
            yield {
                "type": "scatter",
                "mode": "lines",
                "x": ends,
                "y": [place] * 2,
                "line": line,
                "hoverinfo": "skip",
                "meta": "interval",
            }
    cells = zip(mark.names, *mark.numbers, strict=True)
    text = [
        _text(f"{name}: {short(value)}" + (f" [{short(low)}, {short(high)}]" if math.isfinite(low) else ""))
        for name, value, low, high in cells
    ]
    marker = {"color": colors, "size": 10}
    same = {"type": "scatter", "mode": "markers", "hoverinfo": "text", "meta": "values"}
    yield {**same, "x": _known(mark.numbers.values), "y": places, "marker": marker, "text": text}


@_traces.register
def _heat(mark: Heat) -> Iterator[Trace]:
    low, high, colors = colors_of(mark)
    values = [_known(line) for line in mark.values]
    trace: Trace = {"type": "heatmap", "z": values, "zmin": low, "zmax": high, "showscale": False, "xgap": 1, "ygap": 1}
    scale = [[i / (len(colors) - 1), color] for i, color in enumerate(colors)]
    said = [
        [_text(f"{line}, {column}: {short(value)}") for column, value in zip(mark.columns, line_values, strict=True)]
        for line, line_values in zip(mark.lines, mark.values, strict=True)
    ]
    trace |= {"colorscale": scale, "hovertext": said, "hoverinfo": "text", "meta": "values"}
    if len(mark.columns) <= 12:
        text = [["" if math.isnan(value) else short(value) for value in line] for line in mark.values]
        trace |= {"text": text, "texttemplate": "%{text}", "textfont": {"size": 12}}
    yield trace


@singledispatch
def _names(mark: Line | Dots | Heat, layout: dict[str, Any]) -> None:
    """Put the names of what is drawn on the axes."""


@_names.register
def _names_of_dots(mark: Dots, layout: dict[str, Any]) -> None:
    count = len(mark.names)
    ticks = {"tickvals": [-i for i in range(count)], "ticktext": [_text(clipped(name)) for name in mark.names]}
    layout["yaxis"] |= {**ticks, "range": [0.6 - count, 0.6], "fixedrange": True, "ticks": ""}


@_names.register
def _names_of_heat(mark: Heat, layout: dict[str, Any]) -> None:
    for axis, names, most in (("xaxis", mark.columns, 14), ("yaxis", mark.lines, 18)):
        places = list(range(len(names)))
        layout[axis] |= {"tickvals": places, "ticktext": [_text(name) for name in brief(names, most)], "ticks": ""}
        layout[axis] |= {"showgrid": False, "fixedrange": True}
    layout["yaxis"]["autorange"] = "reversed"


def _known(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _text(text: str) -> str:
    """Text that plotly.js shows as it is, tags included."""
    return html.escape(text, quote=False)
