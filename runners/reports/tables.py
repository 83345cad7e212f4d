"""Tables: as Markdown, and of all tasks as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path

import numpy as np

from neoteny.runners.measures import in_words, transfer
from neoteny.runners.reports.figures import Cell, short
from neoteny.runners.reports.scores import Runs, Scores, Seeds, interval, scores


def show(values: Scores) -> str:
    """The mean over seeds with its interval; of one seed there is none. A dash where a seed has no value."""
    middle, low, high = interval(values)
    if np.isnan(middle):
        return "—"
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]" if len(values) > 1 else f"{middle:.3f}"


def seeds_of(name: str, values: Sized) -> str:
    """A method, and how many seeds it has."""
    return f"{name} ({len(values)} seed{'s' * (len(values) != 1)})"


def as_markdown(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Rows, of which some may lack columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [
        [short(v) if isinstance(v := row.get(name), float) else str("" if v is None else v) for name in columns]
        for row in rows
    ]
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in (columns, ["---"] + ["---:"] * (len(columns) - 1), *cells)
    )


def table(runs: Runs, column: str) -> str:
    """Markdown: a score for every task and method, and the mean over all tasks at the end. More of them go down."""
    methods = {name: scores(seeds, column) for name, seeds in runs.items()}
    tasks = max(values.shape[1] for values in methods.values())
    names = next([row["name"] for row in rows] for s in runs.values() for rows in s.values() if len(rows) >= tasks)
    common = min(values.shape[1] for values in methods.values())
    grid = [["task", *(seeds_of(name, values) for name, values in methods.items())]]
    for task, name in enumerate(names[:tasks]):
        grid.append([f"{task + 1} {name}", *(show(v[:, task]) if task < v.shape[1] else "" for v in methods.values())])
    label = "all" if common == tasks else f"first {common}"
    grid.append([label, *(f"**{show(values[:, :common])}**" for values in methods.values())])
    if len(methods) > tasks:
        grid = [list(row) for row in zip(*grid, strict=True)]
        grid[0][0] = "method"
    lines = ["| " + " | ".join(row) + " |" for row in grid]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(grid[0]) - 1), *lines[1:]])


def measured(runs: Runs, measure: str) -> list[str]:
    """Markdown: a measure over each task, and at its end, with headings."""
    name = in_words(measure)
    return [
        f"## Mean {name} of each task",
        table(runs, f"{measure}_mean"),
        f"## {name.capitalize()} at each task's end",
        table(runs, f"{measure}_final"),
    ]


def transfer_table(runs: Runs, measure: str) -> str:
    """Markdown: what each method has kept, lost and carried over.

    Args:
        runs: the rows of evaluations.csv.
        measure: the column with the performance.
    """
    found = {
        method: [transfer.measures(*transfer.to_matrix(rows, measure)) for rows in seeds.values() if rows]
        for method, seeds in runs.items()
    }
    names = list(next(iter(found.values()))[0])
    lines = ["| method | " + " | ".join(map(in_words, names)) + " |", "|---|" + "---:|" * len(names)]
    for method, seeds in found.items():
        known = {name: np.array([each[name] for each in seeds if not np.isnan(each[name])]) for name in names}
        cells = [show(values) if len(values) else "—" for values in known.values()]
        lines.append(f"| {seeds_of(method, seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def solved_table(seeds: Seeds, threshold: float, measure: str = "return") -> str:
    """Markdown: for agents trained from scratch on each task, in how many seeds the end of the budget is solved."""
    final = scores(seeds, f"{measure}_final")
    rows = next(iter(seeds.values()))
    lines = [
        f"| environment | steps | solved | {in_words(measure)} at the end: median | worst seed |",
        "|---|---:|---:|---:|---:|",
    ]
    for task, values in enumerate(final.T):
        solved = f"{(values >= threshold).sum()} of {len(values)}"
        steps = f"{int(rows[task]['steps']):,}"
        lines.append(f"| {rows[task]['name']} | {steps} | {solved} | {np.median(values):.3f} | {values.min():.3f} |")
    return "\n".join(lines)


def write_rows(runs: Runs, file: Path) -> None:
    """Every row of every tasks.csv, with its method and seed."""
    with file.open("w", newline="") as lines:
        rows = [{"method": m, "seed": s, **row} for m, seeds in runs.items() for s, r in seeds.items() for row in r]
        writer = csv.DictWriter(lines, list({key: None for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)
