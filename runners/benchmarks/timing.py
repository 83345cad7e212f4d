"""Interleaved timing, and how its numbers are shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

Slice = Callable[[], int]
Seconds = dict[str, np.ndarray[Any, Any]]


def measure(
    slices: Mapping[str, Slice],
    rounds: int,
    progress: Progress,
    name: str = "measuring",
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Seconds per environment step of each contender in each round, after one round of warming up.

    Args:
        slices: by contender, what does a slice of its work and returns how many environment steps that took. They take
            turns, in one order and the opposite one by turns.
        rounds: how many slices of each are timed.
        progress: where a bar is shown, called ``name``.
        clock: what seconds are of; ``time.process_time`` for those that the processor works for this process.
    """
    seconds: dict[str, list[float]] = {contender: [] for contender in slices}
    bar = progress.add_task(name, total=(rounds + 1) * len(slices))
    for round_ in range(rounds + 1):
        for contender in list(slices) if round_ % 2 else list(slices)[::-1]:
            begun = clock()
            steps = slices[contender]()
            if round_:
                seconds[contender].append((clock() - begun) / steps)
            progress.advance(bar)
    return {contender: np.array(values) for contender, values in seconds.items()}


def figures(seconds: np.ndarray[Any, Any], ratio: np.ndarray[Any, Any] | None) -> dict[str, float]:
    """A contender's numbers, over rounds: its speed and, where there is something to compare it with, its ratio."""
    found = {"steps_per_second": float(1 / np.median(seconds))}
    if ratio is not None:
        low, middle, high = np.percentile(ratio, [25, 50, 75]).tolist()
        found |= {"ratio": middle, "ratio_25": low, "ratio_75": high}
    return found


def texts(found: dict[str, float]) -> list[str]:
    """Speed, ratio and its range, as the tables show them."""
    speed = f"{found['steps_per_second']:,.0f}"
    if "ratio" not in found:
        return [speed, "", ""]
    return [speed, f"{found['ratio']:.3f}", f"{found['ratio_25']:.3f} – {found['ratio_75']:.3f}"]


def show(table: Table, *notes: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, markup=False)
