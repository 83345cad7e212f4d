"""Scores of runs, and how sure their means over seeds are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from neoteny.runners.reports.statistics import Estimate, bounds

Scores = np.ndarray[Any, np.dtype[np.float64]]

#: The rows of tasks.csv by seed; and those by method.
Seeds = dict[int, list[dict[str, str]]]
Runs = dict[str, Seeds]


def read_runs(folder: Path, name: str = "tasks.csv") -> Runs:
    """The rows of every tasks.csv, or another table, under ``folder``, by method (the run folder's name) and seed."""
    runs: Runs = {}
    for file in sorted(folder.glob(f"*/seed-*/{name}")):
        with file.open(newline="") as lines:
            runs.setdefault(file.parent.parent.name, {})[int(file.parent.name[5:])] = list(csv.DictReader(lines))
    return runs


def scores(seeds: Seeds, column: str) -> Scores:
    """(seeds × tasks); only tasks that every seed has finished."""
    tasks = min(len(rows) for rows in seeds.values())
    return np.array([[float(row.get(column) or "nan") for row in rows[:tasks]] for rows in seeds.values()])


def interval(values: Scores, draws: int = 5000) -> Estimate:
    """The mean over seeds and its 95 % bootstrap interval; ``values`` is (seeds) or (seeds × tasks), tasks averaged."""
    per_seed = values.reshape(len(values), -1).mean(1)
    return float(per_seed.mean()), *bounds(resampled(per_seed, draws=draws))


def resampled(per_seed: Scores, seed: int = 0, draws: int = 5000) -> Scores:
    """The means of so many bootstrap samples of the seeds, (draws)."""
    rng = np.random.default_rng(seed)
    means: Scores = per_seed[rng.integers(0, len(per_seed), (draws, len(per_seed)))].mean(1)
    return means
