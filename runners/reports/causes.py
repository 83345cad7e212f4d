"""Why: what attribution found in the runs that have it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neoteny.runners.attribution import named, read
from neoteny.runners.attribution.reading import in_plain_words
from neoteny.runners.attribution.shares import Array, Attribution
from neoteny.runners.measures import in_words
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell, Dots, Figure, Numbers, Panel, Style, estimate
from neoteny.runners.reports.sources import Run

HOW = (
    "One thing of an agent was made fresh at a switch, and the next task learned: if the return then comes back, "
    "that thing was what held it back. A share of 1 is as good as a fresh agent, 0 no better than the old one. A "
    "part is named if its interval lies above 0. Unlike the correlations this is an intervention, of one agent at "
    "one switch."
)


@dataclass(frozen=True)
class Attributed:
    """An attribution of one run at one switch.

    Attributes:
        title: of which run and task.
        measure, areas, attribution: see :func:`neoteny.runners.attribution.read`.
    """

    title: str
    measure: str
    areas: dict[str, Array]
    attribution: Attribution

    @property
    def says(self) -> list[str]:
        return [f"{self.title}: {line}" for line in in_plain_words(self.measure, self.attribution)]

    @property
    def verdict(self) -> str:
        """Where the loss sits, in a few words."""
        if not self.attribution.gap.sign > 0:
            return "the agent is not shown to be worse than a fresh one there, so there is nothing to explain"
        parts = [f"{name} (share {self.attribution.shares[name]})" for name in self.named]
        return f"the loss sits in {', '.join(parts)}" if parts else "the loss sits in no part alone"

    @property
    def named(self) -> list[str]:
        """The parts that the loss sits in, the largest share first; empty where there is no loss, or none."""
        return named(self.attribution) if self.attribution.gap.sign > 0 else []


def attributed(env: Environment) -> list[Attributed]:
    """All attributions there are."""
    return [found for run in env.runs for found in _of_run(env, run)]


def _of_run(env: Environment, run: Run) -> Iterator[Attributed]:
    for file in sorted(run.folder.glob("attribution/task-*/trials.csv")):
        try:
            with file.open(newline="") as lines:
                measure, areas, attribution = read(list(csv.DictReader(lines)))
        except (KeyError, ValueError, OSError, csv.Error):
            continue
        title = f"“{env.called.get(run.method, run.method)}”, seed {run.seed}, task {int(file.parent.name[5:])}"
        yield Attributed(title, measure, areas, attribution)


def causes(found: list[Attributed]) -> Figure | None:
    """Shares of the gap, a panel for each switch; where there is no gap, what was reached."""
    if not found:
        return None
    panels = [panel for each in found for panel in _panels(each)]
    rows: list[dict[str, Cell]] = []
    for each in found:
        for name, area in each.attribution.areas.items():
            share = each.attribution.shares.get(name)
            row: dict[str, Cell] = {"run": each.title, "fresh": name, f"mean {in_words(each.measure)}": estimate(*area)}
            rows.append(row | {"share of the gap": "—" if share is None else estimate(*share)})
    says = [line for each in found for line in each.says]
    return Figure("attribution", "Why: attribution", HOW, panels, says=says, table=rows)


def _panels(each: Attributed) -> Iterator[Panel]:
    shares, areas = each.attribution.shares, each.attribution.areas
    if shares:
        names = list(shares)
        styles = [Style("#D55E00" if name in each.named else "#0072B2") for name in names]
        yield Panel(each.title, "share of the gap", "", [Dots(names, Numbers.of(shares.values()), styles)], guide=0.0)
        return
    known = {name: area for name, area in areas.items() if math.isfinite(area.middle)}
    if known:
        runs = [[float(value) for value in each.areas[name] if np.isfinite(value)] for name in known]
        dots = Dots(list(known), Numbers.of(known.values()), [Style()] * len(known), runs)
        yield Panel(f"{each.title}: no gap to explain", f"mean {in_words(each.measure)} of the task", "", [dots])
