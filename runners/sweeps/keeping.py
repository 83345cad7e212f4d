"""The rows of one environment's runs and attributions: from their folders, or from the two files that results keep."""

from __future__ import annotations

import csv
from pathlib import Path

from neoteny.configs import ConfigError
from neoteny.runners.reports.flat import Place, Trials, attributions, read_flat, read_trials, write_trials
from neoteny.runners.reports.scores import Runs, read_runs
from neoteny.runners.reports.tables import write_rows


def read_folder(folder: Path) -> tuple[Runs, Trials]:
    """The runs by the names of their folders, and the trials of their attributions.

    Raises:
        ConfigError: ``tasks.csv`` has several sequences, or cannot be read.
    """
    tasks = folder / "tasks.csv"
    if not tasks.is_file():
        return read_runs(folder), _trials(folder)
    kept = read_flat(tasks)
    if len(kept) > 1:
        raise ConfigError(f"{tasks} has the runs of {len(kept)} sequences; those of one are needed")
    return next(iter(kept.values())), read_trials(folder / "trials.csv")


def _trials(folder: Path) -> Trials:
    found: Trials = {}
    for run in sorted(folder.glob("*/seed-*")):
        for task, file in attributions(run).items():
            with file.open(newline="") as lines:
                found[Place(run.parent.name, int(run.name[5:]), task)] = [*csv.DictReader(lines)]
    return found


def write_folder(folder: Path, runs: Runs, trials: Trials) -> list[Path]:
    """Write what :func:`read_folder` reads, and say where."""
    write_rows(runs, folder / "tasks.csv")
    if not trials:
        return [folder / "tasks.csv"]
    write_trials(trials, folder / "trials.csv")
    return [folder / "tasks.csv", folder / "trials.csv"]
