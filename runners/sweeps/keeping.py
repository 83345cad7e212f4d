"""The rows of one environment's runs and attributions: from their folders, or from the two files that results keep."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from neoteny.configs import ConfigError
from neoteny.runners.reports.flat import read_flat
from neoteny.runners.reports.scores import Runs, read_runs
from neoteny.runners.reports.tables import write_rows

Rows = list[dict[str, str]]


class Place(NamedTuple):
    """Which attribution: of the runs in a folder, of a seed, into a task, the first being 1."""

    method: str
    seed: int
    task: int


Trials = dict[Place, Rows]


def read_folder(folder: Path) -> tuple[Runs, Trials]:
    """The runs by the names of their folders, and the trials of their attributions.

    Raises:
        ConfigError: ``tasks.csv`` has several sequences, or cannot be read.
    """
    tasks, trials = folder / "tasks.csv", folder / "trials.csv"
    if not tasks.is_file():
        return read_runs(folder), _trials(folder)
    kept = read_flat(tasks)
    if len(kept) > 1:
        raise ConfigError(f"{tasks} has the runs of {len(kept)} sequences; those of one are needed")
    found: Trials = {}
    if trials.is_file():
        for row in _read(trials):
            place = Place(row.pop("method"), int(row.pop("seed")), int(row.pop("at_task")))
            found.setdefault(place, []).append(row)
    return next(iter(kept.values())), found


def _trials(folder: Path) -> Trials:
    found: Trials = {}
    for file in sorted(folder.glob("*/seed-*/attribution/task-*/trials.csv")):
        method, seed, _, task, _ = file.relative_to(folder).parts
        found[Place(method, int(seed[5:]), int(task[5:]))] = _read(file)
    return found


def _read(file: Path) -> Rows:
    with file.open(newline="") as lines:
        return [*csv.DictReader(lines)]


def write_folder(folder: Path, runs: Runs, trials: Trials) -> list[Path]:
    """Write what :func:`read_folder` reads, and say where."""
    write_rows(runs, folder / "tasks.csv")
    if not trials:
        return [folder / "tasks.csv"]
    rows = [{"method": p.method, "seed": p.seed, "at_task": p.task, **row} for p, own in trials.items() for row in own]
    with (folder / "trials.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list({key: None for row in rows for key in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return [folder / "tasks.csv", folder / "trials.csv"]
