"""How a run is stopped: Ctrl-C, or SIGTERM, which is what schedulers send."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The run is to stop.

    Attributes:
        code: the exit code, 130 after Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class Interruption:
    """Stops what runs in :meth:`stoppable` by raising :class:`Stopped`, but not while something is being written.

    A second signal ends the process at once: whatever is on disk is whole.

    Attributes:
        code: the exit code that the last signal asks for. Libraries (Ray) may turn :class:`Stopped` into a plain
            KeyboardInterrupt, which has none.
    """

    def __init__(self) -> None:
        self.code = 130
        self._writing = 0
        self._pending: int | None = None
        self._stopping = False

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Signals are heard in here; in the main thread, which is the only one that can hear them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._pending, self._stopping, self.code = None, False, 130
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is in here comes to its end first."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
        if self._pending is not None and not self._writing:
            self._stop(self._pending)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self._writing:
            self._pending = number
        elif self._stopping:
            os._exit(128 + number)
        else:
            self._stop(number)

    def _stop(self, number: int) -> None:
        self._pending, self._stopping, self.code = None, True, 128 + number
        raise Stopped(number)


interruption = Interruption()
