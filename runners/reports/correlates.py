"""What goes with the next task's return: correlations, which are no causes."""

from __future__ import annotations

import math

import numpy as np

from neoteny.runners.measures import in_words
from neoteny.runners.measures.verdicts import number
from neoteny.runners.reports.comparison import Comparison
from neoteny.runners.reports.drift import KINDS
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell, Figure, Line, Numbers, Panel
from neoteny.runners.reports.scores import Scores

#: What is compared: columns of tasks.csv at the end of the task before, or at the switch into the task itself.
BEFORE = {kind.summary: kind.title for kind in KINDS if kind.summary}
LOGARITHMIC = {kind.summary for kind in KINDS if kind.log}
AT_SWITCH = {
    "probe_actor": "probe of the actor",
    "probe_critic": "probe of the critic",
    "switch_entropy": "policy entropy on the first rollout",
    "switch_value_error": "value error on the first rollout",
}
#: Fewer points say nothing.
FEWEST = 5
DRAWS = 500


def spearman(x: Scores, y: Scores) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, ties having the mean of theirs; NaN if one is constant."""
    a, b = (_ranks(values) - (len(values) + 1) / 2 for values in (x, y))
    length = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / length if length else math.nan


def _ranks(values: Scores) -> Scores:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Scores = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def points(env: Environment, found: Comparison, column: str, same: bool) -> list[tuple[str, int, int, float, float]]:
    """(method, seed, task, value, score) of every task of a run but the first. Fresh agents bring nothing, and are out.

    Args:
        env: the runs.
        found: whose scores they are.
        column: of tasks.csv.
        same: the value is in the task's own row; else in that of the task before.
    """
    places = {name: i for i, name in enumerate(found.tasks)}
    cells = []
    for method in env.live:
        for run, scores in zip(env.of(method), found.scores[method], strict=True):
            for task in range(1, len(run.tasks)):
                place = places.get(env.tasks[task])
                value = number(run.tasks[task if same else task - 1], column)
                if place is not None and math.isfinite(value) and math.isfinite(scores[place]):
                    cells.append((method, run.seed, task + 1, value, float(scores[place])))
    return cells


def interval(cells: list[tuple[str, int, int, float, float]]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the correlation, whole runs drawn; NaN of fewer than three runs."""
    runs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for method, seed, _, value, score in cells:
        runs.setdefault((method, seed), []).append((value, score))
    groups = [np.array(pairs) for pairs in runs.values()]
    if len(groups) < 3:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    drawn = []
    for picked in rng.integers(0, len(groups), (DRAWS, len(groups))):
        pairs = np.concatenate([groups[i] for i in picked])
        drawn.append(spearman(pairs[:, 0], pairs[:, 1]))
    known = [value for value in drawn if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def correlates(env: Environment, found: Comparison) -> Figure | None:
    """A scatter and a rank correlation for each number that is there."""
    panels, rows = [], []
    kinds = [(column, title, False) for column, title in BEFORE.items()]
    kinds += [(column, title, True) for column, title in AT_SWITCH.items()]
    for column, title, same in kinds:
        cells = points(env, found, column, same)
        values = np.array([[value, score] for *_, value, score in cells])
        if len(cells) < FEWEST or math.isnan(rho := spearman(values[:, 0], values[:, 1])):
            continue
        low, high = interval(cells)
        when = "at the switch" if same else "at the end of the task before"
        rows.append(
            {"number": f"{title} {when}", "rank correlation": rho, "low": low, "high": high, "points": len(cells)}
        )
        lines = []
        for method in env.live:
            own = [(value, score) for name, *_, value, score in cells if name == method]
            if own:
                x, y = (list(side) for side in zip(*own, strict=True))
                lines.append(Line(env.called[method], x, Numbers(y), style=env.styles[method], points=True))
        label = f"{title}: ρ = {rho:.2f}, {len(cells)} points"
        wide = column in LOGARITHMIC and 0 < 4 * values[:, 0].min() < values[:, 0].max()
        panels.append(Panel(label, f"{title} {when}", "score in the task", lines, log_x=bool(wide)))
    if not panels:
        return None
    table: list[dict[str, Cell]] = sorted(rows, key=lambda row: -abs(float(row["rank correlation"])))  # type: ignore[arg-type]
    how = (
        "Each point is a task of a run, from the second on. x is a number that the run brought along to the task, y "
        f"what it then reached in it (the mean {in_words(env.headline)}, as a score of the comparison). Spearman's ρ "
        "is 1 or −1 where one always rises or falls with the other, and 0 where they have nothing to do with each "
        "other. This is correlation: a number that goes with a low return need not be its cause. Intervals draw "
        "whole runs. "
    )
    title = f"What goes with the next task's {in_words(env.headline)}"
    return Figure("correlates", title, how + found.about, panels, table=table, pick=True)
