"""What a run has come to, as answers in Markdown: what was learned, what drifts, what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neoteny.runners.dashboards.layout import HEALTH, NETWORKS, health
from neoteny.runners.measures import in_words, shown, transfer
from neoteny.runners.measures.groups import COLUMNS
from neoteny.runners.measures.verdicts import RULES, SHORT, Difference, Row, drift_since, measure_of, number, verdicts

#: Tasks in a table, at most.
WIDE = 10


def overall(rows: Sequence[Row]) -> dict[str, float]:
    """What the rows of tasks.csv come to: means over tasks of each measure, and how the networks are at the end.

    A mean is over the tasks where the number is known; names of which none is known are missing.
    """
    found: dict[str, float] = {"tasks": len(rows)}
    for name in shown(rows):
        for when in ("mean", "final"):
            values = [number(row, f"{name}_{when}") for row in rows]
            if known := [value for value in values if not math.isnan(value)]:
                found[f"{name}_{when}"] = float(np.mean(known))
    for name in COLUMNS:
        if not math.isnan(value := number(rows[-1], name)):
            found[name] = value
    return found


def learned(tasks: Sequence[Row]) -> str:
    """Which tasks were learned: of each what the agent reached as it came to it, over it, and at its end.

    Args:
        tasks: the rows of tasks.csv.
    """
    measure, found = measure_of(tasks), verdicts(tasks)
    what = in_words(measure)
    columns = {
        "task": [numbered(row) for row in tasks],
        "learned?": [f"**{KINDS[verdict.kind]}**" for verdict in found],
        f"{what} at its beginning": [_text(verdict.change.before) for verdict in found],
        f"{what}, mean": [_text(number(row, f"{measure}_mean")) for row in tasks],
        f"{what} at its end": [_text(verdict.change.after) for verdict in found],
        "change [95 %]": [_change(verdict.change) for verdict in found],
        "against its first visit [95 %]": [_change(verdict.again) if verdict.again else "–" for verdict in found],
    }
    for name in shown(tasks):
        columns.setdefault(f"{in_words(name)} at its end", [_text(number(row, f"{name}_final")) for row in tasks])
    kept = {title: cells for title, cells in columns.items() if set(cells) != {"–"}}
    notes = [f"{numbered(row)}: {row['note']}." for row in tasks if row.get("note")]
    count = sum(verdict.kind == "learned" for verdict in found)
    return "\n\n".join(
        [f"{count} of {len(found)} tasks learned.", _table(kept), SURE[measure if measure in SURE else ""], *notes]
    )


KINDS = {"learned": "yes", "same": "no", "worse": "no, worse", "unknown": "not known"}
#: What the verdicts are by, of measures with a level and of others.
SURE = {
    "": "Learned: the end is above the beginning, by a 95 % interval of this one run's episodes. Over seeds: "
    "report.py.",
    "success": "Learned: more than half of the games at its end are solved, by a 95 % interval of this one run's "
    "games. Over seeds: report.py.",
    "accuracy": "Learned: more than 90 % of the training examples are right at its end, by a 95 % interval. Over "
    "seeds: report.py.",
    "r_squared": "Learned: the end is above the beginning, by a 95 % interval of the examples. Over seeds: report.py.",
}


def _change(change: Difference) -> str:
    if math.isnan(gain := change.after - change.before):
        return "–"
    return f"{gain:+.3g}" + ("" if math.isnan(change.low) else f" [{change.low:.3g}, {change.high:.3g}]")


RULE = (
    "The numbers are of the end of each task (the probe's of its beginning). Drifts: from this task on, worse than at "
    "the first by half as much again, or 0.1 more of the units dormant. These go with a loss of plasticity; they do "
    "not say what causes it. An intervention does: `python runners/attribute.py RUN --task N`, on a run with "
    "`--keep-agents`."
)


def drifts(tasks: Sequence[Row], progress: Sequence[Row]) -> str:
    """Where each network's numbers have become worse than they were at the end of the first task, and since when.

    Args:
        tasks: the rows of tasks.csv.
        progress: the rows of progress.csv.
    """
    at = sorted({round(place) for place in np.linspace(0, len(tasks) - 1, min(WIDE, len(tasks)))})
    lines: list[list[str]] = []
    found: dict[int, list[str]] = {}
    for network, tag, values in _of_networks(tasks, progress):
        since = drift_since(values, *RULES[tag]) if any(map(math.isfinite, values)) else None
        said = "no" if since is None else f"**since task {since}**"
        lines.append([NETWORKS[network], HEALTH[tag], *(_text(values[place]) for place in at), said])
        if since is not None:
            found.setdefault(since, []).append(f"the {NETWORKS[network]}'s {SHORT[tag]}")
    if not lines:
        return "Nothing was measured of the networks."
    titles = ["network", "number", *(f"task {place + 1}" for place in at), "drifts"]
    texts = [f"Since task {numbered(tasks[since - 1])}: {', '.join(what)}." for since, what in sorted(found.items())]
    columns = dict(zip(titles, map(list, zip(*lines, strict=True)), strict=True))
    return "\n\n".join([*(texts or ["Nothing drifts."]), _table(columns), RULE])


def _of_networks(tasks: Sequence[Row], progress: Sequence[Row]) -> Iterator[tuple[str, str, list[float]]]:
    """The network, the tag in :data:`HEALTH`, and the value of each task, where one is known."""
    ends = {int(row["step"]): row for row in progress}
    last = [ends.get(int(row["step"]), {}) for row in tasks]
    for network in NETWORKS:
        for tag in HEALTH:
            if tag == "probe":
                values = [number(row, f"probe_{network}") for row in tasks]
            else:
                values = [number(row, health(network, tag)) for row in last]
            if not all(map(math.isnan, values)):
                yield network, tag, values


def forgotten(matrix: Any, visits: Sequence[int], tasks: Sequence[str], measure: str) -> str:
    """What was forgotten: of each task what the agent reached right after it, and now.

    Args:
        matrix: (visits + 1, tasks).
        visits: the column learned in each visit.
        tasks: what the columns are called.
        measure: what is in the matrix.
    """
    if not visits:
        return "No task is over yet."
    lost = transfer.forgetting(matrix, visits)
    known = [task for task in range(len(tasks)) if task in visits]
    after = {task: visit for visit, task in enumerate(visits, 1)}
    columns = {
        "task": [tasks[task] for task in known],
        f"{in_words(measure)} right after it": [_text(matrix[after[task], task]) for task in known],
        f"after task {len(visits)}": [_text(matrix[-1, task]) for task in known],
        "**lost**": [f"**{_text(lost[task])}**" for task in known],
    }
    mean = transfer.measures(matrix, visits)["forgetting"]
    return f"Lost on average: {_text(mean)}. Negative is what later tasks have improved.\n\n{_table(columns)}"


def numbered(row: Row) -> str:
    """A task's number, the first being 1, and its name."""
    return f"{int(row['task']) + 1} {row['name']}"


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in zip(*columns.values(), strict=True)
    ]
    return "\n".join(lines)


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"
