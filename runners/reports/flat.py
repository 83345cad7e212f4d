"""Rows that results keep: of all runs in one CSV file, of all their attributions in another."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from neoteny.configs import ConfigError
from neoteny.runners.reports.scores import Runs

#: Columns that tell runs apart, beside those in which a run's settings are.
SEQUENCE, METHOD, SEED = "sequence", "method", "seed"
#: The column that tells attributions of one run apart.
AT = "at_task"

Rows = list[dict[str, str]]


class Place(NamedTuple):
    """Which attribution: of the runs in a folder, of a seed, into a task, the first being 1."""

    method: str
    seed: int
    task: int


Trials = dict[Place, Rows]


def read_flat(file: Path) -> dict[str, Runs]:
    """The rows of a CSV file of many runs, by sequence (``""`` where the file has one), method and seed.

    What stands left of ``seed`` tells runs apart. Its column ``method`` is the method as it is; where there are others,
    the method is called by all of them: ``closed_form=True``.

    Raises:
        ConfigError: it has no column ``seed``, a row is twice in it, or it has no rows.
    """
    with file.open(newline="") as lines:
        reader = csv.DictReader(lines)
        columns = [*(reader.fieldnames or [])]
        if SEED not in columns:
            raise ConfigError(f"{file}: there is no column {SEED}; the columns are {', '.join(columns)}")
        apart = [column for column in columns[: columns.index(SEED)] if column != SEQUENCE]
        found: dict[str, Runs] = {}
        seen: set[tuple[str, ...]] = set()
        for row in reader:
            if (key := tuple(row.values())) in seen:
                raise ConfigError(f"{file}: line {reader.line_num} is there twice")
            seen.add(key)
            sequence = row.pop(SEQUENCE, "")
            method = row[METHOD] if METHOD in row else ",".join(f"{name}={row[name]}" for name in apart)
            rows = {name: value for name, value in row.items() if name not in (*apart, SEED)}
            seeds = found.setdefault(sequence, {}).setdefault(method or "all", {})
            seeds.setdefault(int(row[SEED]), []).append(rows)
    if not found:
        raise ConfigError(f"{file}: there are no rows")
    return found


def read_trials(file: Path) -> Trials:
    """The trials of all attributions, as :func:`write_trials` writes them; none if there is no such file.

    Raises:
        ConfigError: a column that tells attributions apart is missing.
    """
    found: Trials = {}
    if file.is_file():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if missing := {METHOD, SEED, AT} - row.keys():
                    raise ConfigError(f"{file}: there is no column {min(missing)}")
                found.setdefault(Place(row.pop(METHOD), int(row.pop(SEED)), int(row.pop(AT))), []).append(row)
    return found


def write_trials(trials: Mapping[Place, Rows], file: Path) -> None:
    """Write all rows, each with the method, the seed and the task of its attribution."""
    rows = [{METHOD: p.method, SEED: p.seed, AT: p.task, **row} for p, own in trials.items() for row in own]
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list({key: None for row in rows for key in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def attributions(run: Path) -> dict[int, Path]:
    """The files of a run's attributions, by the task that they are into."""
    return {int(file.parent.name[5:]): file for file in sorted(run.glob("attribution/task-*/trials.csv"))}
