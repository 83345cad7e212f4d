"""The matrix of evaluation: what was kept, lost and carried over."""

from __future__ import annotations

import math

import numpy as np

from neoteny.runners.measures import in_words, transfer
from neoteny.runners.reports.environment import Environment, means
from neoteny.runners.reports.figures import Cell, Dots, Figure, Heat, Numbers, Panel, estimate
from neoteny.runners.reports.scores import Scores
from neoteny.runners.reports.sources import Run

HOW = (
    "Each square is what the agent reaches on the task of its column, without learning, after the visit of its "
    "line; the first line is the new agent. Read a column downwards: it should become dark when the task is "
    "learned, and stay dark. Where it becomes pale again below, the task was forgotten. Forgetting is what a task "
    "has lost from the end of its last visit to the end of the run, in the unit of the {measure}: 0 is nothing "
    "lost, negative is what later tasks have improved."
)


def matrices(env: Environment, method: str) -> list[tuple[Scores, list[int], Run]]:
    """The matrix of each run that was evaluated, and the column learned in each visit."""
    found = []
    for run in env.of(method):
        try:
            rows = [row for row in run.evaluations if row.get(env.headline) is not None]
            if rows:
                matrix, learned = transfer.to_matrix(rows, env.headline)
                found.append((matrix, learned, run))
        except (KeyError, ValueError):
            continue
    return found


def measures(env: Environment, method: str) -> dict[str, Scores]:
    """Average performance, forgetting and so on, of each run; NaN where it is not known."""
    found = [transfer.measures(matrix, learned) for matrix, learned, _ in matrices(env, method)]
    return {name: np.array([each[name] for each in found]) for name in found[0]} if found else {}


def kept(env: Environment) -> Figure | None:
    """A matrix per method that is shown, the mean over runs, and forgetting of all."""
    evaluated = {method: found for method in env.live if (found := matrices(env, method))}
    if not evaluated:
        return None
    averages = {method: _average(found) for method, found in evaluated.items()}
    known = np.concatenate([values[np.isfinite(values)] for values in averages.values()])
    ends = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    what = in_words(env.headline)
    panels = []
    for method, values in averages.items():
        if env.styles[method].shown:
            names = _names(evaluated[method][0][2])
            lines = ["new agent", *(f"after {i}" for i in range(1, len(values)))]
            heat = Heat(names, lines, [list(map(float, line)) for line in values], *ends, name=env.called[method])
            panels.append(Panel(f"{env.called[method]}: {what} on every task", "evaluated on task", "", [heat]))
    rows: list[dict[str, Cell]] = []
    lost = []
    for method in evaluated:
        of = measures(env, method)
        row: dict[str, Cell] = {"method": env.called[method], "runs": len(evaluated[method])}
        for name, values in of.items():
            numbers = means(values[:, None]).at(0)
            row[in_words(name)] = estimate(*numbers)
            if name == "forgetting" and not math.isnan(numbers[0]):
                lost.append((method, numbers, [float(value) for value in values]))
        rows.append(row)
    if lost:
        lost.sort(key=lambda each: each[1][0])
        order, estimates, runs = zip(*lost, strict=True)
        dots = Dots([env.called[m] for m in order], Numbers.of(estimates), [env.dots[m] for m in order], runs)
        panels.insert(0, Panel("forgetting, mean over tasks", f"forgetting ({what})", "", [dots], guide=0.0))
    how = HOW.format(measure=what)
    if left := [env.called[m] for m in averages if not env.styles[m].shown]:
        how += f" Matrices of {len(left)} more methods are in evaluation-matrix.csv."
    return Figure("evaluation-matrix", "Kept and forgotten: the matrix of evaluation", how, panels, table=rows)


def _average(found: list[tuple[Scores, list[int], Run]]) -> Scores:
    """The mean over runs, up to the visit that all have; runs with other tasks than the first are left out."""
    wide = found[0][0].shape[1]
    alike = [matrix for matrix, _, _ in found if matrix.shape[1] == wide]
    deep = min(len(matrix) for matrix in alike)
    stack = np.array([matrix[:deep] for matrix in alike])
    return means(stack.reshape(len(alike), -1)).middle.reshape(deep, wide)


def _names(run: Run) -> list[str]:
    names = {int(row["on"]): row.get("name", "") for row in run.evaluations if (row.get("on") or "").isdigit()}
    return [f"{on} {names[on]}" for on in sorted(names)]
