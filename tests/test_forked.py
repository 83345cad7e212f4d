"""Programs that tests run in a fork of themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from forked import forked


class Left:
    """What an earlier test has left, in a circle: here an environment would wait for its threads."""

    def __init__(self) -> None:
        self.itself, self.process = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.process:
            print("collected", flush=True)


def test_what_earlier_tests_left_is_not_collected_in_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text("import gc\ngc.collect()\nprint('done')\n")
    Left()
    assert forked("program.py") == (0, "done\n", "")
