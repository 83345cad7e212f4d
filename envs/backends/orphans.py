"""Processes that end when the one that began them ends, however it does."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

#: Linux's prctl: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1
#: Programs that begin others tell them their process id by this environment variable.
PARENT = "NEOTENY_PARENT"


def end_with_parent(parent_is_there: Callable[[], bool], number: int = signal.SIGKILL) -> None:
    """From now on this process gets a signal when its parent ends; at once, if it has ended already. Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if not parent_is_there():
        os.kill(os.getpid(), number)


def end_with_caller() -> None:
    """End, as by SIGTERM, when the process ends whose id the environment variable :data:`PARENT` has; if it has one."""
    if caller := os.environ.pop(PARENT, None):
        end_with_parent(lambda: str(os.getppid()) == caller, signal.SIGTERM)


def no_orphan(make: Callable[[], Any]) -> Callable[[], Any]:
    """A function that makes what ``make`` does; a worker process that it is called in ends with its parent.

    Nor does such a process hear Ctrl-C, which a terminal sends to all: its parent lets it close its environment.
    """
    home = os.getpid()

    def made() -> Any:
        parent = multiprocessing.parent_process()
        if parent is not None and os.getpid() != home:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            end_with_parent(parent.is_alive)
        return make()

    return made
