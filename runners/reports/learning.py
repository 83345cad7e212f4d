"""Learning curves, and which tasks were learned."""

from __future__ import annotations

import math

import numpy as np

from neoteny.runners.measures import in_words
from neoteny.runners.reports.environment import Environment, mean, means
from neoteny.runners.reports.figures import Cell, Figure, Line, Panel, estimate
from neoteny.runners.reports.scores import Scores
from neoteny.runners.reports.sources import Run, number

#: How much of the way from an untrained agent to the best end of any method is needed for a task to be learned.
LEARNED = 0.5

HOW = (
    "Higher is better. Each grey or white band is a task, and at its edge the task switches. A line is the mean over seeds, "
    "the band around it the 95 % bootstrap interval of that mean. A curve that comes up again after each switch is of an "
    "agent that still learns; one that stays down no longer does, or has a harder task: compare it with the dashed black "
    "curve of fresh agents, where there is one."
)


def rollout(run: Run, measure: str) -> Scores:
    """A measure in progress.csv."""
    return run.progress.get(f"rollout/{measure}", np.full(len(run.progress["step"]), np.nan))


def learning_curves(env: Environment) -> Figure | None:
    """The headline over steps; by task, where there is no progress.csv."""
    measure = env.headline
    lines, x = [], [float(edge) for edge in env.edges[1:]]
    for method in env.methods:
        values = env.binned(method, lambda run: rollout(run, measure))
        if len(values) and np.isfinite(values).any():
            lines.append(Line(env.called[method], x, *map(list, means(values)), style=env.styles[method]))
    what = in_words(measure)
    if lines:
        panel = Panel(f"{what} while it learns", "environment steps", what, lines, bands=env.bands)
        return Figure("learning-curves", "Learning curves", HOW, [panel], table=of_tasks(env), pick=True)
    ends = [end for _, end, _ in env.bands]
    lines = [
        Line(
            env.called[method],
            ends,
            *map(list, means(env.scores(method, f"{measure}_mean"))),
            style=env.styles[method],
            marks=True,
        )
        for method in env.methods
    ]
    how = f"There is no progress.csv, so each task is one point: its mean {what}. " + HOW
    panel = Panel(f"mean {what} of each task", "environment steps", what, lines, bands=env.bands)
    return Figure("learning-curves", "Learning curves", how, [panel], table=of_tasks(env), pick=True)


def of_tasks(env: Environment) -> list[dict[str, Cell]]:
    """The headline of each task and method: over the task, and at its end."""
    found: list[dict[str, Cell]] = []
    for task, name in enumerate(env.tasks):
        for method in env.methods:
            row: dict[str, Cell] = {"task": name, "method": env.called[method]}
            for column, words in (("mean", "mean"), ("final", "at its end")):
                values = env.scores(method, f"{env.headline}_{column}")[:, task : task + 1]
                middle, low, high = (float(value[0]) for value in means(values))
                row |= {words: middle, f"{words}, low": low, f"{words}, high": high}
            row["runs"] = int(np.isfinite(values).sum())
            found.append(row)
    return found


def untrained(env: Environment) -> list[float]:
    """Of each task what an agent reaches that has learned nothing of it, as far as is known; NaN where it is not.

    The mean of what the new agents of all runs reach where they were evaluated; else the lowest mean over a method's
    runs of what was logged first in the task.
    """
    found = []
    for task in range(len(env.tasks)):
        rows = [row for run in env.runs for row in run.evaluations if row.get("after") == "0"]
        new = [number(row, env.headline) for row in rows if row.get("on") == str(task + 1)]
        firsts = [mean(np.array([_first(env, run, task) for run in env.of(method)])) for method in env.methods]
        known = [value for value in firsts if not math.isnan(value)]
        value = mean(np.array(new)) if new else math.nan
        found.append(min(known, default=math.nan) if math.isnan(value) else value)
    return found


def _first(env: Environment, run: Run, task: int) -> float:
    if not run.progress:
        return math.nan
    begin, end, _ = env.bands[task]
    steps, values = run.progress["step"], rollout(run, env.headline)
    inside = values[(steps > begin) & (steps <= end) & np.isfinite(values)]
    return float(inside[0]) if inside.size else math.nan


def learned(env: Environment) -> Figure:
    """Which tasks which method has learned."""
    base = untrained(env)
    ends = {method: means(env.scores(method, f"{env.headline}_final")) for method in env.methods}
    best = np.array([end[0] for end in ends.values()])
    rows: list[dict[str, Cell]] = []
    for task, name in enumerate(env.tasks):
        known = best[:, task][np.isfinite(best[:, task])]
        top = float(known.max()) if known.size else math.nan
        row: dict[str, Cell] = {"task": name, "untrained": base[task]}
        for method, (middle, low, high) in ends.items():
            cell = float(middle[task]), float(low[task]), float(high[task])
            row[env.called[method]] = f"{verdict(*cell, base[task], top)}: {estimate(*cell)}"
        rows.append(row)
    how = (
        f"The {in_words(env.headline)} at each task's end (the last tenth), with its 95 % interval over seeds. A task counts as "
        f"learned if the end is at least {LEARNED:.0%} of the way from an untrained agent to the best end of any method here, "
        "and the interval lies above the untrained agent; as partly learned if only the second holds. What an untrained "
        "agent reaches is from evaluations of the new agent, or else the lowest first return that any method logs in the "
        "task; with neither, nothing is said."
    )
    return Figure("tasks-learned", "Which tasks were learned", how, table=rows)


def verdict(value: float, low: float, high: float, base: float, best: float) -> str:
    """Whether a task with this end was learned."""
    if math.isnan(value):
        return "not known"
    if math.isnan(base):
        return "untrained not known"
    if best <= base or (value if math.isnan(low) else low) <= base:
        return "not learned"
    return "learned" if value - base >= LEARNED * (best - base) else "partly learned"


def learned_tasks(env: Environment) -> dict[str, list[int] | None]:
    """The tasks, the first being 1, that each method has learned; None if that is not known."""
    found: dict[str, list[int] | None] = {}
    table = learned(env).table
    for method in env.methods:
        cells = [str(row[env.called[method]]) for row in table]
        known = [cell for cell in cells if "not known" not in cell]
        found[method] = [i + 1 for i, cell in enumerate(cells) if cell.startswith("learned")] if known else None
    return found
