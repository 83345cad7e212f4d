"""Rows that results keep: of all runs in one CSV file, as :func:`write_rows` writes it."""

from __future__ import annotations

import csv
from pathlib import Path

from neoteny.configs import ConfigError
from neoteny.runners.reports.scores import Runs

#: Columns that tell runs apart, beside those in which a run's settings are.
SEQUENCE, METHOD, SEED = "sequence", "method", "seed"


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
