"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
import socket
import time
import weakref
from pathlib import Path

from neoteny.configs import ConfigError

FILE = "lock"
#: The environment variable that says for how many seconds a process waits for the one that has its folder: a program
#: that begins a run again, on another machine maybe, knows that the one before is about to end.
PATIENCE = "NEOTENY_PATIENCE"

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A folder is this process's, until the lock is let go or the process ends, however it ends.

    The file ``lock`` is never replaced or removed, so that all processes lock the same one. It has the process id of
    the last that held it.

    Args:
        folder: made, if it is not there.

    Raises:
        ConfigError: another process has it.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        self._close = weakref.finalize(self, os.close, self._handle)
        deadline = time.monotonic() + float(os.environ.get(PATIENCE, 0))
        while not self._claim():
            if time.monotonic() >= deadline:
                raise ConfigError(f"--out: another process is running in {folder}: {self._holder()}")
            time.sleep(0.1)
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        _held.add(self)

    def _claim(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> str:
        for _ in range(20):
            time.sleep(0.1)  # who has it since this moment has not yet written its name over the last one's
            if name := os.pread(self._handle, 200, 0).decode(errors="replace").strip():
                return name
        return "it has just begun"

    def release(self) -> None:
        """Let it go; a process that was forked off does not hold it."""
        self._close()


def holder(folder: Path) -> str | None:
    """Who has the folder, if a process has it."""
    try:
        handle = os.open(folder / FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(handle, 200, 0).decode(errors="replace").strip() or "a process that has just begun"
    finally:
        os.close(handle)
    return None


def _forget() -> None:
    """In a forked process: the lock stays the parent's alone."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget)
