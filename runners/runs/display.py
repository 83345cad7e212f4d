"""What a run shows in the terminal: a live line while it learns, a table when it is done."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from neoteny.plasticity.survey import ACTED_ON
from neoteny.runners.measures import in_words, shown, transfer
from neoteny.runners.measures.visit import OF_EXAMPLES
from neoteny.runners.runs.answers import answers

#: A terminal with fewer columns than this shows less.
WIDE = 120
#: Seconds between two lines where there is no terminal.
EVERY = 60
#: Seconds after which the speed is known well enough to say what a kill would cost.
KNOWN = 20
#: The column with the tasks' names, and how narrow it may become.
NAME, NAME_WIDTH = "environment", 18
#: Columns that a narrow terminal has not.
OPTIONAL = ("episodes", "steps")
#: Marks a mean that is over the episodes that ended, and none of all that began.
OF_ENDED = "*"
#: What methods count that act now and then.
ACTS = ("resets", "injections", "perturbations")
#: The parts of a measure, and how their columns in tasks.csv end.
WHEN = {"mean": "mean", "end": "final"}


def number(value: float) -> str:
    """Three digits, or a dash for what is not known."""
    return "—" if math.isnan(value) else f"{value:.3f}"


class RateColumn(ProgressColumn):
    """Environment steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} steps/s" if speed else "— steps/s")


def counter(what: str, console: Console) -> Progress:
    """A bar of things that are done, of so many; without a terminal nothing, and its console still prints."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


class Display:
    """The progress of a run: a live line on a terminal; elsewhere a line per task, and one a minute between."""

    def __init__(self, total_steps: int, done_steps: int, visits: int, headline: str = "return", segment: int = 0):
        self.console = Console(file=sys.stderr, soft_wrap=True)
        self.visits = visits
        self.headline = in_words(headline)
        self.started = self.said = time.monotonic()
        self.total, self.first, self.segment = total_steps, done_steps, segment
        whole = (BarColumn(bar_width=20), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"), TimeElapsedColumn())
        narrow = self.console.width < WIDE
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            *((TextColumn("{task.percentage:.0f} %"),) if narrow else whole),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[headline]} {task.fields[last]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            speed_estimate_period=60,
            expand=True,
        )
        self.bar = self.progress.add_task("", total=total_steps, completed=done_steps, last="—", headline=self.headline)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def task(self, index: int, label: str) -> None:
        self.label = f"task {index + 1}/{self.visits} {label}"
        self.progress.update(self.bar, description=self.label)

    def update(self, steps: int, last_return: float | None = None) -> None:
        if last_return is not None:
            self.progress.update(self.bar, last=number(last_return))
        self.progress.update(self.bar, completed=steps)
        now = time.monotonic()
        if self.segment and now - self.started >= KNOWN:
            self._say_what_a_kill_costs((steps - self.first) / (now - self.started))
        if self.progress.disable and now - self.said >= EVERY:
            self.said = now
            rate = (steps - self.first) / (now - self.started)
            left = timedelta(seconds=round((self.total - steps) / rate)) if rate else "—"
            seen = f", {self.headline} {number(last_return)}" if last_return is not None else ""
            self.say(f"{self.label}: step {steps:,} of {self.total:,}, {rate:,.0f} steps/s, {left} left{seen}")

    def _say_what_a_kill_costs(self, rate: float) -> None:
        """Once: that is up to a segment, which would be learned again."""
        lost = f"{self.segment:,} steps, {timedelta(seconds=round(self.segment / rate))}" if rate else "a segment"
        self.say(f"Stopped or killed, at most {lost} would be learned again; --segment-steps changes that")
        self.segment = 0

    def say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False)

    def task_done(self, row: dict[str, Any]) -> None:
        name = row["headline"]
        mean, ended = row[f"{name}_mean"], row.get(f"{name}_of_ended", math.nan)
        only = f" ({number(ended)} of what ended)" if math.isnan(mean) and not math.isnan(ended) else ""
        self.say(
            f"task {row['task'] + 1:>2}/{self.visits}  {row['name']:<40} "
            f"{in_words(name)} {number(mean)} over the task{only}, "
            f"{number(row[f'{name}_final'])} at its end  ({row['steps_per_second']:,.0f} steps/s)"
        )


def _width(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


def _fit(columns: dict[str, list[str]], called: str, width: int) -> list[str]:
    """Take columns away until the table is as narrow as that, and say which."""
    left_out = []
    for heading in (*[name for name in OPTIONAL if name in columns], *[name for name in columns if "(" in name][:1:-1]):
        needed = [_width([*cells, *name.split()]) + 3 for name, cells in columns.items() if name != called]
        if sum(needed) + NAME_WIDTH + 4 <= width:
            break
        left_out.append(heading)
        del columns[heading]
    return left_out


def _cell(row: Mapping[str, str], key: str) -> str:
    """A number of tasks.csv. Where there is no mean, that over the episodes that ended, marked."""
    value = float(row.get(key) or "nan")
    if math.isnan(value) and key.endswith("_mean"):
        ended = float(row.get(f"{key.removesuffix('_mean')}_of_ended") or "nan")
        return number(value) if math.isnan(ended) else number(ended) + OF_ENDED
    return number(value)


def summary(
    rows: Sequence[dict[str, str]],
    title: str,
    coverage: Mapping[str, str],
    progress: Sequence[Mapping[str, str]] = (),
) -> None:
    """The table of tasks, what they come to, and what the methods act on, on standard output.

    Args:
        rows: of ``tasks.csv``.
        title: what stands above the table.
        coverage: what is done with each matrix, by name.
        progress: the rows of ``progress.csv``.
    """
    names = sorted(shown(rows), key=lambda name: name != rows[0].get("headline"))
    called = "name" if rows and rows[0].get("headline") in OF_EXAMPLES else NAME
    columns = {
        "task": [str(int(row["task"]) + 1) for row in rows],
        called: [row["name"] for row in rows],
        "steps": [f"{int(row['steps']):,}" for row in rows],
    }
    columns |= {key: [f"{int(row[key]):,}" for row in rows] for key in ("episodes",) if rows and key in rows[0]}
    measures = {f"{in_words(name)} ({when})": f"{name}_{key}" for name in names for when, key in WHEN.items()}
    for heading, key in (measures | {"largest σ₁": "spectral_norm_max"}).items():
        columns[heading] = [_cell(row, key) for row in rows]
    console = Console(width=None if sys.stdout.isatty() else 160)
    left_out = _fit(columns, called, console.width)
    table = Table(title=title, title_justify="left")
    for heading, cells in columns.items():
        if heading == called:
            table.add_column(heading, min_width=NAME_WIDTH, overflow="fold")
        else:
            table.add_column(heading, justify="right", width=_width([*cells, *heading.split()]))
    for line in zip(*columns.values(), strict=True):
        table.add_row(*line)
    console.print(table)
    if left_out:
        print(f"Left out:      {', '.join(left_out)} (this terminal is narrow; tasks.csv has them)")
    if any(OF_ENDED in cell for cells in columns.values() for cell in cells):
        print(f"{OF_ENDED} over the episodes that ended, which are the short ones: no mean return (see below)")
    for row in rows:
        if note := row.get("note"):
            print(f"Task {int(row['task']) + 1}: {note}; see reward rate")
    print("\n".join(answers(rows, progress)))
    for how in dict.fromkeys(row["updates"] for row in rows if row.get("updates")):
        print(f"Updates:       {how}")
    left = {name: what for name, what in coverage.items() if what != ACTED_ON}
    if rows and "acted_on" in rows[-1] and len(left) < len(coverage):
        rest = "; ".join(f"{', '.join(names)} ({what})" for what, names in _by_value(left).items())
        print(f"Acted on:      {float(rows[-1]['acted_on']):.1%} of the weights{f', not: {rest}' if rest else ''}")
    if never := _never(progress):
        print(f"Never acted:   no {', no '.join(never)} in this run")


def _never(progress: Sequence[Mapping[str, str]]) -> list[str]:
    """What methods that act now and then have not done once."""
    last = (progress or [{}])[-1].items()
    found = [key for key, value in last if key.startswith("reg/") and key.endswith(ACTS) and float(value or "nan") == 0]
    return [key.removeprefix("reg/").removeprefix("all/") for key in found]


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
