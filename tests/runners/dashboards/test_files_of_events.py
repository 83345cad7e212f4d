"""A run's files of events: the one of the process that went on is read last, and a row's numbers are one event."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from neoteny.runners.dashboards.events import FILES, Events


def write(folder: Path, until: int, pid: int, clock: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps after those that were done, of a process with this number."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock)
        patch.setattr("os.getpid", lambda: pid)
        events = Events(folder, until)
        for step in range(until + 1, until + 7):
            events.write({"return": float(pid)}, {"return": ()}, step)
        events.close()


@pytest.mark.parametrize(
    "clocks",
    [(1e9, 1e9, 1e9), (1e9, 0.9e9, 0.8e9), (0.8e9, 1e9, 0.9e9), (1e9, 1e9 - 1, 1e9)],
    ids=["in the same second", "set back twice", "set back once", "set back by a second"],
)
def test_what_went_on_is_read_last(clocks: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for until, pid, clock in zip((0, 4, 2), (9999, 10000, 9), clocks, strict=True):
        write(tmp_path, until, pid, clock, monkeypatch)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("return")] == [
        *((step, 9999.0) for step in range(1, 3)),
        *((step, 9.0) for step in range(3, 9)),
    ]


def test_numbers_of_a_row_are_one_event(tmp_path: Path) -> None:
    events = Events(tmp_path, 0)
    numbers = {"mine/a": 1, "mine/b": np.float32(0.5), "mine/c": True, "mine/d": float("nan")}
    row = numbers | {"mine/words": "said", "mine/left": 2}
    events.write(row, {key: ("tensorboard",) if key == "mine/left" else () for key in row}, 7)
    events.close()
    (file,) = tmp_path.glob(FILES)
    seen = [[value.tag for value in event.summary.value] for event in LegacyEventFileLoader(str(file)).Load()]
    assert [tags for tags in seen if tags] == [[*numbers], ["mine/words/text_summary"]]
    read = EventAccumulator(str(tmp_path)).Reload()
    found = [(point.step, point.value) for tag in "abc" for point in read.Scalars(f"mine/{tag}")]
    assert found == [(7, 1), (7, 0.5), (7, 1)]
    assert np.isnan(read.Scalars("mine/d")[0].value)
