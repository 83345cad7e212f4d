"""How far runs are, read from what they write, whoever runs them and wherever."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

from neoteny.runners.measures import HEADLINES
from neoteny.runners.runs.lock import FILE
from neoteny.runners.sweeps.progress import Progress

#: The last row of progress.csv is within so many bytes of its end.
TAIL = 1 << 16
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "FAILED"


class Watched:
    """One job, and the run that it is, if it is one.

    Attributes:
        name: the job's folder.
        state: one of :data:`WAITING`, :data:`RUNNING`, :data:`DONE`, :data:`FAILED`.
        step: environment steps, and ``steps`` those of the whole run; 0, if it is none.
        task: the task's number, the first being 1, and ``tasks`` how many there are.
        rate: environment steps per second; None before there are any.
        last: the last return, or whatever the sequence is scored by, as text.
        node: the machine that it runs on.
    """

    def __init__(self, name: str, progress: Progress | None = None):
        self.name, self.state, self.node, self.last = name, WAITING, "", ""
        self.step = self.steps = self.task = self.tasks = 0
        self.rate: float | None = None
        self._headline = ""
        if progress:
            sequence = progress.run.experiment.sequence
            self.step, self.steps, self.tasks = progress.step, progress.steps, len(sequence.visits)
            self.rate, self._headline = progress.rate, HEADLINES[sequence.score]
        self._files = [Path(name, file) for file in (FILE, "progress.csv")]
        self._seen = self._stamps()

    def _stamps(self) -> list[int]:
        return [_stamp(path) for path in self._files]

    @property
    def seconds(self) -> float | None:
        """What is left takes so long; None if nobody knows."""
        return (self.steps - self.step) / self.rate if self.rate and self.steps else None

    def look(self) -> None:
        """Read what has changed."""
        stamps = self._stamps()
        if self.state not in (WAITING, RUNNING) or stamps == self._seen:
            return
        self._seen, self.state = stamps, RUNNING
        lock, progress = self._files
        if found := re.search(r" on (\S+)", lock.read_text(errors="replace") if lock.exists() else ""):
            self.node = found[1]
        row = last_row(progress)
        self.step = _number(row, "step", int, self.step)
        self.task = _number(row, "task/index", int, self.task - 1) + 1
        self.rate = _number(row, "time/steps_per_second", float, self.rate)
        value = _number(row, f"rollout/{self._headline}", float, None)
        self.last = self.last if value is None else f"{value:.4g}"


def _number(row: dict[str, str], key: str, kind: type, otherwise: float | None) -> Any:
    return kind(float(row[key])) if row.get(key) else otherwise


def _stamp(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def last_row(path: Path) -> dict[str, str]:
    """The last row of a table that is whole; nothing, if there is none."""
    try:
        with path.open("rb") as file:
            header = file.readline()
            file.seek(max(len(header), file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return {}
    if not lines:
        return {}
    columns, cells = csv.reader(line.decode(errors="replace") for line in (header.rstrip(b"\n"), lines[-1]))
    return dict(zip(columns, cells, strict=True)) if len(columns) == len(cells) else {}
