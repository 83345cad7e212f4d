"""Learning curves, and which tasks were learned."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from neoteny.runners.measures import in_words, logged, steps_of
from neoteny.runners.measures.verdicts import number
from neoteny.runners.reports.environment import Environment, mean, means
from neoteny.runners.reports.figures import Cell, Figure, Line, Numbers, Panel, estimate, short
from neoteny.runners.reports.scores import Scores
from neoteny.runners.reports.sources import Run

#: How much of the way from an untrained agent to the best end of any method is needed for a task to be learned.
LEARNED = 0.5
#: Tasks whose best means differ by more than this factor are also drawn on scales of their own.
DIFFERENT = 6

HOW = (
    "Higher is better. Each grey or white band is a task, and at its edge the task switches. A line is the mean "
    "over seeds, the band around it the 95 % bootstrap interval of that mean. A curve that comes up again after "
    "each switch is of an agent that still learns; one that stays down no longer does, or has a harder task: "
    "compare it with the dashed black curve of fresh agents, where there is one."
)


def rollout(run: Run, measure: str) -> Scores:
    """A measure in progress.csv."""
    return run.progress.get(logged(measure), np.full(len(run.progress.get("step", ())), np.nan))


def learning_curves(env: Environment) -> Figure:
    """The headline over steps; by task, where there is no progress.csv."""
    what = in_words(env.headline)
    lines, x = [], [float(edge) for edge in env.edges[1:]]
    for method in env.methods:
        values = env.binned(method, lambda run: rollout(run, env.headline))
        if len(values) and np.isfinite(values).any():
            style, says = env.styles[method], _says(env, method)
            lines.append(Line(env.called[method], x, means(values).numbers, style=style, says=says))
    title, how = f"{what} while it learns", HOW
    if not lines:
        title = f"mean {what} of each task"
        how = f"There is no progress.csv, so each task is one point: its mean {what}. {HOW}"
        lines = [_by_task(env, method) for method in env.methods]
    panels = [Panel(title, steps_of(env.headline), what, lines, bands=env.bands)]
    if _unlike(env):
        how += (
            " Tasks have numbers of different sizes, so a second panel has them scaled, in each task from the lowest "
        )
        how += "mean of any curve, 0, to the highest, 1."
        scaled = _scaled(env, lines)
        panels.append(Panel(f"{title}, scaled in each task", steps_of(env.headline), "scaled", scaled, bands=env.bands))
    return Figure("learning-curves", "Learning curves", how, panels, table=of_tasks(env), pick=True)


def _unlike(env: Environment) -> bool:
    """Whether the best mean of one task would be lost beside that of another."""
    every = np.concatenate([env.scores(method, f"{env.headline}_mean") for method in env.methods])
    tops = [float(top) for top in np.abs(np.where(np.isfinite(every), every, 0.0)).max(0) if top > 0]
    return len(tops) > 1 and max(tops) > DIFFERENT * min(tops)


def _scaled(env: Environment, lines: list[Line]) -> list[Line]:
    found = []
    x = np.array(lines[0].x)
    values = np.array([line.numbers.values for line in lines])
    low, high = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for begin, end, _ in env.bands:
        inside = (x > begin) & (x <= end)
        known = values[:, inside][np.isfinite(values[:, inside])]
        if known.size:
            low[inside], high[inside] = known.min(), known.max()
    room = np.where(high > low, high - low, np.nan)
    for line in lines:
        numbers = Numbers(*([float(value) for value in (np.array(each) - low) / room] for each in line.numbers))
        found.append(dataclasses.replace(line, numbers=numbers, says=""))
    return found


def _by_task(env: Environment, method: str) -> Line:
    ends = [end for _, end, _ in env.bands]
    numbers = means(env.scores(method, f"{env.headline}_mean"))
    return Line(env.called[method], ends, numbers.numbers, style=env.styles[method], marks=True)


def _says(env: Environment, method: str) -> str:
    """The mean in the first task and in the last that there is."""
    middle = means(env.scores(method, f"{env.headline}_mean")).middle
    known = np.flatnonzero(np.isfinite(middle))
    if not len(known):
        return "no mean of a task"
    ends = [f"{short(float(middle[i]))} over task {i + 1}" for i in dict.fromkeys((known[0], known[-1]))]
    return f"mean {in_words(env.headline)} " + ", ".join(ends)


def of_tasks(env: Environment) -> list[dict[str, Cell]]:
    """The headline of each task and method: over the task, and at its end."""
    found: list[dict[str, Cell]] = []
    for task, name in enumerate(env.tasks):
        for method in env.methods:
            row: dict[str, Cell] = {"task": name, "method": env.called[method]}
            for column, words in (("mean", "mean"), ("final", "at its end")):
                values = env.scores(method, f"{env.headline}_{column}")[:, task : task + 1]
                middle, low, high = means(values).at(0)
                row |= {words: middle, f"{words}, low": low, f"{words}, high": high}
            row["runs"] = int(np.isfinite(values).sum())
            found.append(row)
    return found


def untrained(env: Environment) -> list[float]:
    """Of each task what an agent reaches that has learned nothing of it, as far as is known; NaN where it is not.

    The mean of what the new agents of all runs reach where they were evaluated; else the lowest mean over a method's
    runs of what was logged first in the task.
    """
    rows = [row for run in env.runs for row in run.evaluations if row.get("after") == "0"]
    found = []
    for task, name in enumerate(env.tasks):
        value = mean(np.array([number(row, env.headline) for row in rows if row.get("name") == name.partition(" ")[2]]))
        firsts = [mean(np.array([_first(env, run, task) for run in env.of(method)])) for method in env.methods]
        known = [first for first in firsts if not math.isnan(first)]
        found.append(min(known, default=math.nan) if math.isnan(value) else value)
    return found


def _first(env: Environment, run: Run, task: int) -> float:
    inside = run.inside(task, rollout(run, env.headline))
    return float(inside[0]) if inside.size else math.nan


def learned(env: Environment) -> Figure:
    """Which tasks which method has learned."""
    base = untrained(env)
    ends = {method: means(env.scores(method, f"{env.headline}_final")) for method in env.methods}
    best = np.array([end.middle for end in ends.values()])
    rows: list[dict[str, Cell]] = []
    for task, name in enumerate(env.tasks):
        known = best[:, task][np.isfinite(best[:, task])]
        top = float(known.max()) if known.size else math.nan
        row: dict[str, Cell] = {"task": name, "untrained": base[task]}
        for method, end in ends.items():
            cell = end.at(task)
            row[env.called[method]] = f"{verdict(*cell, base[task], top)}: {estimate(*cell)}"
        rows.append(row)
    how = (
        f"The {in_words(env.headline)} at each task's end (the last tenth), with its 95 % interval over seeds. A "
        f"task is learned if its end is at least {LEARNED:.0%} of the way from an untrained agent to the best end of "
        "any method here, and the interval lies above the untrained agent. Not sure: the mean does, but seeds "
        "differ so much that the interval does not. Partly learned: better than untrained, but less than that. What "
        "an untrained agent reaches is what the new agent reached where it was evaluated, or else the lowest first "
        "value that any method logs in the task; with neither, nothing is said."
    )
    return Figure("tasks-learned", "Which tasks were learned", how, table=rows)


def verdict(value: float, low: float, high: float, base: float, best: float) -> str:
    """Whether a task with this end was learned: learned, partly learned, not sure, not learned, or not known."""
    if math.isnan(value) or math.isnan(base):
        return "not known"
    enough = best > base and value - base >= LEARNED * (best - base)
    above = (value if math.isnan(low) else low) > base
    return {(True, True): "learned", (True, False): "not sure", (False, True): "partly learned"}.get(
        (enough, above), "not learned"
    )


def learned_tasks(env: Environment) -> dict[str, list[int] | None]:
    """The tasks, the first being 1, that each method has learned; None if that is not known."""
    found: dict[str, list[int] | None] = {}
    table = learned(env).table
    for method in env.methods:
        cells = [str(row[env.called[method]]) for row in table]
        known = [cell for cell in cells if "not known" not in cell]
        found[method] = [i + 1 for i, cell in enumerate(cells) if cell.startswith("learned")] if known else None
    return found
