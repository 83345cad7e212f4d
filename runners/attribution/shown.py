"""An attribution on the console, as CSV and as a plot."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from neoteny.runners.attribution.interventions import INTERVENTIONS
from neoteny.runners.attribution.reading import in_plain_words, table
from neoteny.runners.attribution.shares import Array, Attribution, Estimate
from neoteny.runners.measures import in_words


def print_table(title: str, measure: str, areas: Mapping[str, Array], attribution: Attribution) -> None:
    """The table, and what it says, on standard output."""
    shown = Table(title=title, title_justify="left")
    for column in ("made fresh", "", "seeds", f"mean {in_words(measure)} of the task", "share of the gap"):
        shown.add_column(column, justify="left" if column in ("made fresh", "") else "right", no_wrap=True)
    for name, values in areas.items():
        area = attribution.areas[name]
        text = f"{area.middle:.3f} [{area.low:.3f}, {area.high:.3f}]" if np.isfinite(area.middle) else "—"
        share = attribution.shares.get(name)
        seeds = str(int(np.isfinite(values).sum()))
        shown.add_row(name, INTERVENTIONS[name].about, seeds, text, "" if share is None else str(share))
    Console(width=None if sys.stdout.isatty() else 160).print(shown)
    print("\n".join(in_plain_words(measure, attribution)))


def write_table(file: Path, measure: str, areas: Mapping[str, Array], attribution: Attribution) -> None:
    """The table as CSV."""
    rows = table(measure, areas, attribution)
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plot(file: Path, title: str, measure: str, areas: Mapping[str, Array], attribution: Attribution) -> None:
    """What was reached after each intervention, a small dot per seed, and the shares of the gap."""
    panels = 2 if attribution.shares else 1
    height = 1.2 + 0.27 * len(areas)
    figure, axes = plt.subplots(
        1, panels, figsize=(5.5 * panels, height), layout="constrained", sharey=True, squeeze=False
    )
    for number, (name, values) in enumerate(areas.items()):
        axes[0, 0].plot(values, [-number] * len(values), "o", color="0.7", markersize=3.5)
        _bar(axes[0, 0], number, attribution.areas[name])
        if name in attribution.shares:
            _bar(axes[0, 1], number, attribution.shares[name])
    axes[0, 0].set(xlabel=f"mean {in_words(measure)} of the task")
    axes[0, 0].set_yticks(-np.arange(len(areas)), list(areas))
    if panels == 2:
        axes[0, 1].set(xlabel="share of the gap between nothing and everything")
        for at in (0, 1):
            axes[0, 1].axvline(at, color="0.6", linewidth=0.8)
    for axis in axes[0]:
        axis.grid(alpha=0.25)
    figure.suptitle(title)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _bar(axis: Axes, number: int, value: Estimate) -> None:
    axis.plot([value.low, value.high], [-number] * 2, color="C0", linewidth=2)
    axis.plot(value.middle, -number, "o", color="C0", markersize=6)
