"""TensorBoard's events of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from neoteny.agents.durable import sync
from neoteny.runners.dashboards.hparams import end_of, summary_of
from neoteny.runners.dashboards.layout import charts_of, page

#: TensorBoard's files, read in the order of their names: a time in seconds, then host, process and number.
FILES = "events.out.tfevents.*"


class Events(TensorBoardOutputFormat):
    """TensorBoard's events, with a page of custom scalars that grows as more is measured.

    Args:
        folder: where the file of events is made. What an earlier, cut-off process wrote beyond ``until`` is declared
            void.
        until: the environment steps done.
        charts: the titles of the charts that the page has so far.

    Attributes:
        charts: those that it has now.
    """

    def __init__(self, folder: Path, until: int, charts: Iterable[str] = ()):
        self._folder = folder
        _let_a_new_one_be_last(folder)
        self.writer = SummaryWriter(str(folder), purge_step=until + 1)
        self._is_closed = False
        self._seen: set[str] = set()
        self.charts = set(charts)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        shown = {key: value for key, value in key_values.items() if "tensorboard" not in (key_excluded[key] or ())}
        numbers = {key: value for key, value in sorted(shown.items()) if _is_number(value)}
        if numbers:  # in one event: each wakes the thread that writes
            values = [Summary.Value(tag=key, simple_value=float(value)) for key, value in numbers.items()]
            self._add(Summary(value=values), step)
        rest = {key: value for key, value in shown.items() if key not in numbers}
        super().write(rest, {key: key_excluded[key] for key in rest}, step)
        new = {key for key in shown.keys() - self._seen if isinstance(shown[key], np.ScalarType)}
        self._seen |= new
        charts = {title for tag in new for title in charts_of(tag)}
        if charts - self.charts:
            self.charts |= charts
            self._add(page(self.charts), step)

    def sync(self) -> None:
        """Wait until all events are on disk."""
        self.writer.flush()
        for file in self._folder.glob(FILES):
            sync(file)
        sync(self._folder)

    def describe(self, plain: Mapping[str, Any]) -> None:
        """Say what the run's settings are, for the page HParams: a row for the run, however often it goes on."""
        self._add(summary_of(plain))

    def finish(self) -> None:
        """Say there that the run is complete."""
        self._add(end_of())

    def _add(self, summary: Any, step: int | None = None) -> None:
        assert self.writer.file_writer is not None
        self.writer.file_writer.add_summary(summary, step)


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ScalarType) and not isinstance(value, str | bytes)


def _let_a_new_one_be_last(folder: Path) -> None:
    """Rename the files that were made in this second, or by a clock that has been set back since.

    What is read last declares void what was cut off; read first, it would void what is to stay.
    """
    files = sorted(folder.glob(FILES))
    for latest, file in enumerate(files, int(time.time()) - len(files)):
        *kind, stamp, rest = file.name.split(".", 4)
        if stamp.isdecimal() and int(stamp) > latest:
            file.rename(file.with_name(".".join([*kind, f"{latest:010d}", rest])))
