"""Plasticity as a figure: learning compared with that of fresh agents, task by task."""

from __future__ import annotations

import math

import numpy as np

from neoteny.runners.measures import in_words
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell, Dots, Figure, Line, Numbers, Panel
from neoteny.runners.reports.reference import Line as Compared
from neoteny.runners.reports.reference import compared


def against_fresh(env: Environment) -> Figure | None:
    """area(live) / area(fresh) by task and over all tasks; the difference, where nothing can be divided."""
    found = compared(env.rows, env.headline)
    if not found:
        return None
    divided = any(not math.isnan(line.ratio[0]) for line in found)
    which, sign, guide = ("ratio", "÷", 1.0) if divided else ("difference", "−", 0.0)
    what = f"mean {in_words(env.headline)} {sign} that of fresh agents"
    how = (
        f"A fresh agent begins every task anew, without a method, with the same budget. {guide:.0f} is as good as "
        f"new. {'Below' if divided else 'A number below'} {guide:.0f} the agent has lost something that a fresh one "
        "has: the ability to learn, or exploration, or both. Above, what it learned before helps. Where the "
        "intervals lie below the line, task after task, the agent is losing its ability to learn."
    )
    if not divided:
        how += " Differences, not ratios: returns are negative, or those of fresh agents are not above 0."
    lines, overall = [], []
    for method in env.live:
        of = [line for line in found if line.method == method and line.task is not None]
        if of:
            numbers = Numbers.of(getattr(line, which) for line in of)
            single = min(len(env.of(method)), *(len(env.of(name)) for name in env.fresh)) < 2
            x = [float(line.task or 0) + 1 for line in of]
            lines.append(
                Line(
                    env.called[method],
                    x,
                    Numbers(numbers.values) if single else numbers,
                    style=env.styles[method],
                    marks=True,
                )
            )
            overall += [(method, line) for line in found if line.method == method and line.task is None]
    overall.sort(key=lambda pair: -np.nan_to_num(getattr(pair[1], which)[0], nan=-math.inf))
    panels = [
        Panel(f"{what}, by task", "task", what, lines, guide=guide),
        Panel(f"{what}, mean over tasks", what, "", [_dots(env, overall, which)], guide=guide),
    ]
    table: list[dict[str, Cell]] = [_row(env, line) for line in found]
    return Figure("plasticity-against-fresh", "Plasticity against fresh agents", how, panels, table=table, pick=True)


def _dots(env: Environment, overall: list[tuple[str, Compared]], which: str) -> Dots:
    numbers = [getattr(line, which) for _, line in overall]
    names = [env.called[method] for method, _ in overall]
    single = [len(env.of(method)) < 2 for method, _ in overall]
    nobody = (math.nan, math.nan)
    shown = Numbers.of((value, *(nobody if one else ends)) for (value, *ends), one in zip(numbers, single, strict=True))
    return Dots(names, shown, [env.dots[method] for method, _ in overall])


def _row(env: Environment, line: Compared) -> dict[str, Cell]:
    ends = {}
    for kind in ("ratio", "difference"):
        for end, value in zip(("", ", low", ", high"), getattr(line, kind), strict=True):
            ends[f"{kind}{end}"] = value
    task = "all" if line.task is None else f"{line.task + 1} {line.name}"
    return {"method": env.called[line.method], "task": task, **ends}
