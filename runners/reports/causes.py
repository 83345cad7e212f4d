"""Why: what attribution found in the runs that have it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neoteny.runners.attribution import named, read
from neoteny.runners.attribution.reading import in_plain_words, of_runs, sign
from neoteny.runners.attribution.shares import Array, Attribution, attribute
from neoteny.runners.measures import in_words
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell, Dots, Figure, Numbers, Panel, Style, estimate
from neoteny.runners.reports.sources import Run

HOW = (
    "One thing of an agent was made fresh at a switch, and the next task learned: if the return then comes back, "
    "that thing was what held it back. A share of 1 is as good as a fresh agent, 0 no better than the old one. A "
    "part is named if its interval lies above 0: over trials of one agent, or over the agents of several runs. Unlike "
    "the correlations this is an intervention, at one switch."
)


@dataclass(frozen=True)
class Attributed:
    """An attribution at one switch, of one run or of several together.

    Attributes:
        title: of which run, or of how many, and task.
        runs: how many they are.
        measure, areas, attribution: see :func:`neoteny.runners.attribution.read`.
    """

    title: str
    runs: int
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
        where = f"the loss sits in {', '.join(parts)}" if parts else "the loss sits in no part alone"
        scale = self.attribution.shares.get("rescale")
        if scale is not None and sign(scale) > 0:
            where += f"; old hidden layers scaled back to their first σ₁ have a share of {scale}"
        return where

    @property
    def named(self) -> list[str]:
        """The parts that the loss sits in, the largest share first; empty where there is no loss, or none."""
        return named(self.attribution) if self.attribution.gap.sign > 0 else []


def attributed(env: Environment) -> list[Attributed]:
    """All attributions there are: of several runs of a method at a switch first together, then each."""
    alone: dict[tuple[str, int], dict[int, Attributed]] = {}
    for run in env.runs:
        for task, found in _of_run(env, run):
            alone.setdefault((run.method, task), {})[run.seed] = found
    return [each for (method, task), seeds in alone.items() for each in _of_method(env, method, task, seeds)]


def _of_method(env: Environment, method: str, task: int, seeds: dict[int, Attributed]) -> Iterator[Attributed]:
    whole = [each for each in seeds.values() if {"nothing", "everything"} <= each.areas.keys()]
    if len({each.measure for each in whole}) == 1 and len(whole) > 1:
        areas = of_runs([each.areas for each in whole])
        title = f"“{env.called.get(method, method)}”, {len(whole)} runs, task {task}"
        yield Attributed(title, len(whole), whole[0].measure, areas, attribute(areas))
    yield from seeds.values()


def _of_run(env: Environment, run: Run) -> Iterator[tuple[int, Attributed]]:
    for task, rows in run.trials.items():
        try:
            measure, areas, attribution = read(rows)
        except (KeyError, ValueError):
            continue
        title = f"“{env.called.get(run.method, run.method)}”, seed {run.seed}, task {task}"
        yield task, Attributed(title, 1, measure, areas, attribution)


def of_most(found: list[Attributed]) -> list[Attributed]:
    """Those of several runs of a method together; where there are none, all."""
    return [each for each in found if each.runs > 1] or found


def overview(found: list[Attributed]) -> list[dict[str, Cell]]:
    """A row for each switch: what was reached as it is and with everything fresh, and the share of each intervention.

    Where there are several runs of a method, of all of them together.
    """
    rows: list[dict[str, Cell]] = []
    for each in of_most(found):
        areas = each.attribution.areas
        row: dict[str, Cell] = {"agents": each.title}
        row |= {name: estimate(*areas[name]) for name in ("nothing", "everything")}
        rows.append(row | {name: str(share) for name, share in each.attribution.shares.items()})
    return rows


def causes(found: list[Attributed]) -> Figure | None:
    """Shares of the gap, a panel for each switch; where there is no gap, what was reached. The table has all runs."""
    if not found:
        return None
    panels = [panel for each in of_most(found) for panel in _panels(each)]
    rows: list[dict[str, Cell]] = []
    for each in found:
        for name, area in each.attribution.areas.items():
            share = each.attribution.shares.get(name)
            row: dict[str, Cell] = {"run": each.title, "fresh": name, f"mean {in_words(each.measure)}": estimate(*area)}
            rows.append(row | {"share of the gap": "—" if share is None else estimate(*share)})
    says = [line for each in of_most(found) for line in each.says]
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
