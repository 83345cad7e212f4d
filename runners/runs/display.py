"""What a run shows in the terminal: a live line while it learns, a table when it is done."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from neoteny.plasticity.survey import ACTED_ON
from neoteny.runners.measures import in_words, shown, transfer


def number(value: float) -> str:
    """Three digits, or a dash for what is not known."""
    return "—" if math.isnan(value) else f"{value:.3f}"


class RateColumn(ProgressColumn):
    """Environment steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} steps/s" if speed else "— steps/s")


class Display:
    """The progress of a run: a live line on a terminal, one line per task elsewhere."""

    def __init__(self, total_steps: int, done_steps: int, visits: int, headline: str = "return"):
        self.console = Console(file=sys.stderr, soft_wrap=True)
        self.visits = visits
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            RateColumn(),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[headline]} {task.fields[last]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            speed_estimate_period=60,
        )
        self.bar = self.progress.add_task(
            "", total=total_steps, completed=done_steps, last="—", headline=in_words(headline)
        )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def task(self, index: int, label: str) -> None:
        self.progress.update(self.bar, description=f"task {index + 1}/{self.visits} {label}")

    def update(self, steps: int, last_return: float | None = None) -> None:
        if last_return is not None:
            self.progress.update(self.bar, last=number(last_return))
        self.progress.update(self.bar, completed=steps)

    def say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False)

    def task_done(self, row: dict[str, Any]) -> None:
        name = row["headline"]
        self.say(
            f"task {row['task'] + 1:>2}/{self.visits}  {row['name']:<40} "
            f"{in_words(name)} {number(row[f'{name}_mean'])} over the task, "
            f"{number(row[f'{name}_final'])} at its end  ({row['steps_per_second']:,.0f} steps/s)"
        )


def summary(rows: Sequence[dict[str, str]], title: str, coverage: Mapping[str, str]) -> None:
    """The table of tasks and what the methods act on, on standard output.

    Args:
        rows: of ``tasks.csv``.
        title: what stands above the table.
        coverage: what is done with each matrix, by name.
    """
    table = Table(title=title, title_justify="left")
    names = shown(rows)
    columns = [f"{in_words(name)} ({when})" for name in names for when in ("mean", "end")]
    for column in ("task", "environment", "steps", "episodes", *columns, "largest σ₁"):
        table.add_column(column, justify="left" if column == "environment" else "right", no_wrap=True)
    keys = [f"{name}_{when}" for name in names for when in ("mean", "final")]
    for row in rows:
        table.add_row(
            str(int(row["task"]) + 1),
            row["name"],
            f"{int(row['steps']):,}",
            f"{int(row['episodes']):,}",
            *(number(float(row.get(key) or "nan")) for key in (*keys, "spectral_norm_max")),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for row in rows:
        if note := row.get("note"):
            print(f"Task {int(row['task']) + 1}: {note}; see reward rate")
    for how in dict.fromkeys(row["updates"] for row in rows if row.get("updates")):
        print(f"Updates:       {how}")
    left = {name: what for name, what in coverage.items() if what != ACTED_ON}
    if rows and "acted_on" in rows[-1] and len(left) < len(coverage):
        rest = "; ".join(f"{', '.join(names)} ({what})" for what, names in _by_value(left).items())
        print(f"Acted on:      {float(rows[-1]['acted_on']):.1%} of the weights{f', not: {rest}' if rest else ''}")


def kept_and_lost(rows: Sequence[Mapping[str, str]], measure: str) -> None:
    """What the rows of ``evaluations.csv`` say of forgetting and transfer, on standard output; nothing of none."""
    if not rows:
        return
    matrix, visits = transfer.to_matrix(rows, measure)
    found = {name: number(value) for name, value in transfer.measures(matrix, visits).items()}
    seconds = sum(float(row["seconds"]) for row in rows)
    print(
        f"Evaluated:     {matrix.size} times in {seconds:,.0f} s; {in_words(measure)} "
        f"{found['average_performance']} on average at the end, forgetting {found['forgetting']}, "
        f"backward transfer {found['backward_transfer']} (Continual World); isolated forgetting "
        f"{found['isolated_forgetting']}, zero-shot transfer {found['zero_shot_transfer']} (CORA)"
    )


def _by_value(texts: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in texts.items():
        found.setdefault(value, []).append(key)
    return found
