"""Tables on disk, in which a resumed run goes on where its checkpoint was taken."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from neoteny.agents.durable import put_in_place, sync

STEP = "step"

Row = dict[str, str]


def write_text(path: Path, text: str) -> None:
    """Write a file whole, and to the disk, or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    put_in_place(part, path)


def read_rows(path: Path, until: int) -> list[Row]:
    """The rows of a table up to the step ``until``; none if there is no such file. What a torn line holds is no row."""
    return [row for row in _rows(path) if int(row[STEP]) <= until]


def _rows(path: Path) -> list[Row]:
    """The rows of a table, as far as its lines are whole."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(errors="replace").rpartition("\n")
    with io.StringIO(whole + "\n", newline="") as lines:
        reader = csv.DictReader(lines)
        return list(itertools.takewhile(lambda row: _is_whole(row, reader.fieldnames or ()), reader))


def _is_whole(row: Mapping[Any, Any], columns: Iterable[str]) -> bool:
    return row.keys() == set(columns) and None not in row.values() and str(row.get(STEP)).isdecimal()


class Seal:
    """A checksum of a table's first rows, whatever the order of its columns and whether they have empty ones.

    A column that comes in later leaves the earlier rows with an empty cell, and their seal as it was.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def add(self, row: Row) -> None:
        cells = sorted((key, value) for key, value in row.items() if value != "")
        self._hash.update(repr(cells).encode())
        self.rows += 1

    def plain(self) -> dict[str, Any]:
        """As it stands in a checkpoint."""
        return {"rows": self.rows, "sha256": self._hash.hexdigest()}

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Seal:
        seal = cls()
        for row in rows:
            seal.add(row)
        return seal


def is_sealed(path: Path, seal: Mapping[str, Any]) -> bool:
    """Whether a table begins with the rows that a checkpoint was taken with."""
    return Seal.of(_rows(path)[: int(seal["rows"])]).plain() == dict(seal)


class Table(KVWriter):
    """A CSV file of rows with a ``step`` column, in which a resumed run goes on where its checkpoint was taken.

    Args:
        path: the file; rows in it that lie beyond ``until`` are dropped.
        until: the environment steps done.

    Attributes:
        seal: of all rows.
    """

    def __init__(self, path: Path, until: int):
        self.path = path
        rows = read_rows(path, until)
        self.seal = Seal.of(rows)
        self.columns = list(rows[0]) if rows else [STEP]
        self._rewrite(rows)

    @property
    def rows(self) -> list[Row]:
        """All rows, read anew: a long run has too many of them to keep."""
        return _rows(self.path)

    def add(self, row: Mapping[str, Any]) -> None:
        added = {key: str(value) for key, value in row.items()}
        self.seal.add(added)
        new = [key for key in row if key not in self.columns]
        if new:
            before = self.rows
            self.columns += sorted(new)
            self._rewrite([*before, added])
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(added)

    def sync(self) -> None:
        """Wait until all rows are on disk."""
        sync(self.path)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """stable-baselines3's logger writes here."""
        own = {k: v for k, v in key_values.items() if "csv" not in (key_excluded[k] or ())}
        plain = {k: v for k, v in own.items() if isinstance(v, (int, float)) or (hasattr(v, "item") and not np.ndim(v))}
        self.add({STEP: step, **plain})

    def _rewrite(self, rows: Iterable[Row]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())

    def close(self) -> None:
        pass
