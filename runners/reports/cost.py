"""What methods cost in time."""

from __future__ import annotations

import math

import numpy as np

from neoteny.runners.measures import steps_of
from neoteny.runners.reports.environment import Environment, means
from neoteny.runners.reports.figures import Cell, Dots, Figure, Numbers, Panel
from neoteny.runners.reports.scores import Scores

HOW = (
    "Steps per second while training (environment steps, or examples learned from), of all finished tasks of a run: "
    "more is faster. Dots are runs, lines 95 % intervals over them. Relative to none: how many times as long a step "
    "takes as without a method. Runs that shared a machine with others were slower for it, so small differences mean "
    "little; runners/benchmark.py --methods measures side by side."
)


def speeds(env: Environment, method: str) -> Scores:
    """Steps per second of each run; NaN where the tables do not say."""
    steps, seconds = (np.nansum(env.scores(method, column), 1) for column in ("steps", "seconds"))
    known = (seconds > 0) & (steps > 0)
    return np.divide(steps, seconds, out=np.full(len(steps), np.nan), where=known)


def cost(env: Environment) -> Figure | None:
    """Steps per second, and time relative to the method ``none``."""
    found = {method: values for method in env.methods if np.isfinite(values := speeds(env, method)).any()}
    if not found:
        return None
    numbers = {method: means(values[:, None]).at(0) for method, values in found.items()}
    order = sorted(found, key=lambda method: -numbers[method][0])
    runs = [[float(value) for value in found[method]] for method in order]
    dots = Dots(
        [env.called[m] for m in order], Numbers.of(numbers[m] for m in order), [env.dots[m] for m in order], runs
    )
    base = numbers[env.baseline][0] if env.baseline in numbers else math.nan
    rows: list[dict[str, Cell]] = []
    for method in order:
        row: dict[str, Cell] = {"method": env.called[method], "steps per second": numbers[method][0]}
        row |= {"low": numbers[method][1], "high": numbers[method][2]}
        row["seconds of a run, mean"] = float(np.mean(np.nansum(env.scores(method, "seconds"), 1)))
        if not math.isnan(base):
            row["time relative to none"] = base / numbers[method][0]
        rows.append(row | {"runs": len(runs[order.index(method)])})
    panel = Panel(f"{steps_of(env.headline)} per second", "steps per second", "", [dots])
    return Figure("cost", "Cost", HOW, [panel], table=rows)
