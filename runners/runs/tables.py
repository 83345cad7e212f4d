"""Tables on disk, in which a resumed run goes on where its checkpoint was taken."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

STEP = "step"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def read_rows(path: Path, until: int) -> list[dict[str, str]]:
    """The rows of a table up to the step ``until``; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row[STEP]) <= until]


class Table(KVWriter):
    """A CSV file of rows with a ``step`` column, in which a resumed run goes on where its checkpoint was taken.

    Args:
        path: the file; rows in it that lie beyond ``until`` are dropped.
        until: the environment steps done.
    """

    def __init__(self, path: Path, until: int):
        self.path = path
        self.rows = read_rows(path, until)
        self.columns = list(self.rows[0]) if self.rows else [STEP]
        self._rewrite()

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.append({key: str(value) for key, value in row.items()})
        new = [key for key in row if key not in self.columns]
        if new:
            self.columns += sorted(new)
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(self.rows[-1])

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """stable-baselines3's logger writes here."""
        own = {k: v for k, v in key_values.items() if "csv" not in (key_excluded[k] or ())}
        plain = {k: v for k, v in own.items() if isinstance(v, (int, float)) or (hasattr(v, "item") and not np.ndim(v))}
        self.add({STEP: step, **plain})

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def close(self) -> None:
        pass
