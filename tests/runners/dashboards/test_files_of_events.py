"""TensorBoard reads a run's files by their names: the one of the process that went on is read last."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neoteny.runners.dashboards.events import Events


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
