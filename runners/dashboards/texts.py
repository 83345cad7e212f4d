"""What a run has come to: numbers over all tasks, and a table of the tasks as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neoteny.runners.measures import in_words, shown
from neoteny.runners.measures.groups import COLUMNS

Row = Mapping[str, Any]

#: The columns of networks in the table of tasks, and what they are called there.
NETWORKS = {
    "spectral_norm_max": "σ_max",
    "dormant_max": "dormant units",
    "feature_rank_min": "rank of features",
    "gradient_diversity_min": "gradient diversity",
}


def overall(rows: Sequence[Row]) -> dict[str, float]:
    """What the rows of tasks.csv come to: means over tasks of each measure, and how the networks are at the end.

    A mean is over the tasks where the number is known; names of which none is known are missing.
    """
    found: dict[str, float] = {"tasks": len(rows)}
    for name in shown(rows):
        for when in ("mean", "final"):
            values = [number(row, f"{name}_{when}") for row in rows]
            known = [value for value in values if not math.isnan(value)]
            if known:
                found[f"{name}_{when}"] = float(np.mean(known))
    for name in COLUMNS:
        if not math.isnan(value := number(rows[-1], name)):
            found[name] = value
    return found


def number(row: Row, column: str) -> float:
    """A number in a row of a table; NaN where there is none."""
    value = row.get(column)
    return math.nan if value in (None, "") else float(value)


def tasks_text(tasks: Sequence[Row], progress: Sequence[Row]) -> str:
    """Markdown: a line for each task, with what the agent reached in it and how its networks were at its end.

    Args:
        tasks: the rows of tasks.csv.
        progress: the rows of progress.csv.
    """
    names = sorted(shown(tasks), key=lambda name: name != tasks[0].get("headline"))
    ends = {int(row["step"]): row for row in progress}
    last = [ends.get(int(row["step"]), {}) for row in tasks]
    columns = {"task": [str(int(row["task"]) + 1) for row in tasks], "": [row["name"] for row in tasks]}
    for name in names:
        columns[f"{in_words(name)}, mean"] = _cells(tasks, f"{name}_mean")
        columns[f"{in_words(name)}, at its end"] = _cells(tasks, f"{name}_final")
    for column, title in NETWORKS.items():
        for network in ("actor", "critic", "encoder"):
            columns[f"{title}, {network}"] = _cells(last, f"{network}/{column}")
    columns["entropy of the policy"] = _cells(last, "policy/entropy")
    for network in ("actor", "critic"):
        columns[f"probe, {network}"] = _cells(tasks, f"probe_{network}")
    kept = {title: cells for title, cells in columns.items() if any(cell != "–" for cell in cells)}
    lines = ["| " + " | ".join(kept) + " |", "|" + "---|" * len(kept)]
    for cells in zip(*kept.values(), strict=True):
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _cells(rows: Sequence[Row], column: str) -> list[str]:
    return ["–" if math.isnan(value := number(row, column)) else f"{value:.3g}" for row in rows]
