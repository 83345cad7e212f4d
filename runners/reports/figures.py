"""What a figure shows, as data: drawn for the page by plotly, for files by matplotlib, and written as CSV."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

Cell = str | float | None

#: Colours that the colour-blind tell apart (Okabe and Ito), dark enough on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#7B3F00", "#6A3D9A")
#: Lines of methods beyond the colours differ in their dashes: plotly's names, and matplotlib's.
DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))
#: The colour of every second task, behind curves.
BAND = "#F0F2F5"


class Numbers(NamedTuple):
    """Values, and the ends of their intervals; NaN where there is none."""

    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    @classmethod
    def of(cls, estimates: Iterable[Sequence[float]]) -> Numbers:
        """Of (value, low, high) each."""
        values, low, high = ([float(number) for number in column] for column in zip(*estimates, strict=True))
        return cls(values, low, high)


@dataclass(frozen=True)
class Style:
    """How a method is drawn in all figures.

    Attributes:
        color: as #rrggbb.
        dash: which of :data:`DASHES`.
        shown: whether its curve is among those first shown.
    """

    color: str = COLORS[0]
    dash: int = 0
    shown: bool = True


@dataclass
class Line:
    """A curve, or a cloud of points.

    Attributes:
        name: of the method.
        x: of the points.
        numbers: their values, NaN where there is none; without intervals, ``low`` and ``high`` are empty.
        style: of the method.
        points: a cloud, with nothing between its points.
        marks: marks at the points, for curves of few.
        says: what it says, in words; by default where it begins and ends.
    """

    name: str
    x: Sequence[float]
    numbers: Numbers
    style: Style = Style()
    points: bool = False
    marks: bool = False
    says: str = ""

    def rows(self) -> Iterator[dict[str, Cell]]:
        values, low, high = self.numbers
        for i, (x, y) in enumerate(zip(self.x, values, strict=True)):
            ends = {"low": low[i], "high": high[i]} if len(low) else {}
            yield {"method": self.name, "x": x, "y": y, **ends}

    def words(self) -> str:
        known = [(x, y) for x, y in zip(self.x, self.numbers.values, strict=True) if not math.isnan(y)]
        if not known:
            return f"{self.name}: no numbers"
        if self.says or self.points:
            return f"{self.name}: {self.says or f'{len(known)} points'}"
        return f"{self.name} goes from {short(known[0][1])} to {short(known[-1][1])}"


@dataclass
class Dots:
    """A line for each name, the first on top: a value with its interval, and a small dot per run.

    Attributes:
        names: of the methods, or whatever is compared.
        numbers: of each; NaN where there is none.
        runs: the values of single runs.
        styles: of the names.
    """

    names: Sequence[str]
    numbers: Numbers
    styles: Sequence[Style]
    runs: Sequence[Sequence[float]] = ()

    def rows(self) -> Iterator[dict[str, Cell]]:
        for i, (name, value, low, high) in enumerate(zip(self.names, *self.numbers, strict=True)):
            of_runs = {"runs": " ".join(f"{value:.6g}" for value in self.runs[i])} if self.runs else {}
            yield {"method": name, "value": value, "low": low, "high": high, **of_runs}

    def words(self) -> str:
        cells = zip(self.names, *self.numbers, strict=True)
        return "; ".join(f"{name} {estimate(*numbers)}" for name, *numbers in cells)


@dataclass
class Heat:
    """A matrix.

    Attributes:
        columns, lines: what its columns and lines are called.
        values: (lines × columns), NaN where there is none.
        low, high: the ends of the colours; None: those of the values.
        middle: the value that is white, with two colours beside it; None for one colour.
        name: what it belongs to.
    """

    columns: Sequence[str]
    lines: Sequence[str]
    values: Sequence[Sequence[float]]
    low: float | None = None
    high: float | None = None
    middle: float | None = None
    name: str = ""

    def rows(self) -> Iterator[dict[str, Cell]]:
        for line, values in zip(self.lines, self.values, strict=True):
            for column, value in zip(self.columns, values, strict=True):
                yield {"line": line, "column": column, "value": value}

    def words(self) -> str:
        known = [value for values in self.values for value in values if not math.isnan(value)]
        inside = f"from {short(min(known))} to {short(max(known))}" if known else "without numbers"
        return f"{len(self.lines)} lines and {len(self.columns)} columns, {inside}"


@dataclass
class Panel:
    """A pair of axes.

    Attributes:
        title: what is shown.
        x, y: the labels of the axes.
        marks: what is drawn.
        log: whether the axis of the values is logarithmic.
        bands: where each task begins and ends on the x axis, and its name.
        guide: a value with a meaning, as 1 of a ratio.
        log_x: whether the x axis is logarithmic.
    """

    title: str
    x: str
    y: str
    marks: Sequence[Line | Dots | Heat]
    log: bool = False
    bands: Sequence[tuple[float, float, str]] = ()
    guide: float | None = None
    log_x: bool = False

    def rows(self) -> Iterator[dict[str, Cell]]:
        return ({"panel": self.title, **row} for mark in self.marks for row in mark.rows())

    def words(self, most: int = 12) -> str:
        said = [mark.words() for mark in self.marks if not (isinstance(mark, Line) and not mark.style.shown)]
        more = [f"and {len(said) - most} more"] if len(said) > most else []
        return f"{self.title}. " + "; ".join([*said[:most], *more]) + "."


@dataclass
class Figure:
    """Panels that belong together.

    Attributes:
        key: its files' name, and its id in the page.
        title: the heading.
        how: how it is read.
        panels: what is drawn; none, where a table says it all.
        says: what it says, in words.
        table: the numbers as people want to see them; by default those of the panels.
        pick: whether methods can be picked.
    """

    key: str
    title: str
    how: str
    panels: Sequence[Panel] = ()
    says: Sequence[str] = ()
    table: Sequence[Mapping[str, Cell]] = ()
    pick: bool = False

    def rows(self) -> list[dict[str, Cell]]:
        return [row for panel in self.panels for row in panel.rows()]

    def write(self, folder: Path) -> list[Path]:
        """Write its numbers as CSV: ``<key>.csv`` those that are drawn, ``<key>-table.csv`` the table."""
        tables: dict[str, Sequence[Mapping[str, Cell]]] = {
            f"{self.key}.csv": self.rows(),
            f"{self.key}-table.csv": self.table,
        }
        return [write_csv(folder / name, rows) for name, rows in tables.items() if rows]


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows, of which some may lack columns. NaN is an empty field."""
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list({key: None for row in rows for key in row}), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    return file


def short(value: float) -> str:
    """A number as people read it."""
    if math.isnan(value):
        return "—"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def estimate(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A number with its interval, if it has one."""
    return short(value) if math.isnan(low) else f"{short(value)} [{short(low)}, {short(high)}]"


def clipped(text: str, most: int = 24) -> str:
    """A label that fits beside an axis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def brief(names: Sequence[str], most: int = 12) -> list[str]:
    """Labels for the columns of a matrix: the names or, where one is too long, their first words."""
    fit = all(len(name) <= most for name in names)
    return list(names) if fit else [clipped(name.split(" ")[0], most) for name in names]


def span(panel: Panel) -> tuple[float, float] | None:
    """The ends of the axis along which dots lie, with room beside them; None without dots."""
    marks = [mark for mark in panel.marks if isinstance(mark, Dots)]
    known = [
        x
        for m in marks
        for x in (*itertools.chain(*m.numbers), *(x for run in m.runs for x in run))
        if math.isfinite(x)
    ]
    if not known:
        return None
    low, high = min(known), max(known)
    if panel.guide is not None:
        low, high = min(low, panel.guide), max(high, panel.guide)
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis, to be written as plain numbers: 1 of each decade, or 1, 2 and 5 of few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 3 else (1,)
    every = max(1, len(decades) // 8)
    return [s * 10.0**d for d in decades[::every] for s in steps if low * 0.999 <= s * 10.0**d <= high * 1.001]


def colors_of(mark: Heat) -> tuple[float, float, list[str]]:
    """The ends of a matrix's colours, and the colours, from low to high."""
    known = [value for values in mark.values for value in values if not math.isnan(value)]
    low = mark.low if mark.low is not None else min(known, default=0.0)
    high = mark.high if mark.high is not None else max(known, default=1.0)
    return low, high, ["#F7FBFF", "#08519C"] if mark.middle is None else ["#B35806", "#FFFFFF", "#08519C"]
