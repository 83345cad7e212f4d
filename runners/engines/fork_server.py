"""Processes for the runs of a sweep, each a fork of one that has imported everything: a run begins at once.

It is told on its standard input what is to be run, a line each, and says on its standard output how that has ended,
after how many seconds. When nobody is left to tell it anything, or on SIGTERM, it stops what runs, waits for it, and
ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, NamedTuple

if __name__ == "__main__":  # what is imported below takes its seconds, and Ctrl-C is for the caller
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)

import numpy as np
import torch
from setproctitle import setproctitle

from neoteny.envs.backends.orphans import end_with_caller, end_with_parent
from neoteny.versions import versions

#: What programs import, at their beginning and on their way. ``torch._dynamo`` comes with the first optimizer.
WANTED = (
    "neoteny.runners.runs.reinforcement",
    "neoteny.runners.runs.running",
    "neoteny.runners.runs.supervised",
    "torch._dynamo",
    "matplotlib.pyplot",
    *(["envpool"] if find_spec("envpool") else []),
)


class Order(NamedTuple):
    """What is to be run.

    Attributes:
        number: by which it is told of.
        command: a Python program of this interpreter is not begun anew; anything else is executed.
        log: the file that what it prints is added to.
    """

    number: int
    command: list[str]
    log: str


class Server:
    """Forks for each order.

    Args:
        orders: the file that they are read from, by its number.
        said: the file that is told how they have ended.
    """

    def __init__(self, orders: int, said: int):
        self.orders, self.said = orders, said
        self.running: dict[int, tuple[int, float]] = {}
        self._read = b""
        self._signals, wake = os.pipe()
        for end in (self._signals, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # the wakeup file gets it

    def serve(self) -> Order | None:
        """Fork until no more orders come.

        Returns:
            In a fork, its order; None at the end, when all forks have ended.
        """
        files = select.poll()
        for file in (self.orders, self._signals):
            files.register(file, select.POLLIN)
        while True:
            ready = [file for file, _ in files.poll()]
            if self._signals in ready and signal.SIGTERM in os.read(self._signals, 1024):
                break
            self._reap()
            if self.orders in ready:
                if not (text := os.read(self.orders, 1 << 16)):
                    break
                *lines, self._read = (self._read + text).split(b"\n")
                for line in lines:
                    order = Order(*json.loads(line))
                    if self._fork(order):
                        return order
        told = {signal.SIGTERM}
        while self.running:
            for process in self.running:
                if signal.SIGTERM in told:
                    os.kill(process, signal.SIGTERM)
            select.select([self._signals], [], [])
            told = {*os.read(self._signals, 1024)}
            self._reap()
        return None

    def _fork(self, order: Order) -> bool:
        """Whether this is the fork."""
        try:
            process = os.fork()
        except OSError as error:
            with open(order.log, "a") as log:
                print(f"no process can be begun: {error.strerror}", file=log)
            self._tell(order.number, 1, 0.0)
            return False
        if process:
            self.running[process] = order.number, time.monotonic()
            return False
        signal.set_wakeup_fd(-1)
        for file in (self.orders, self.said):
            os.close(file)
        return True

    def _reap(self) -> None:
        for process, (number, begun) in [*self.running.items()]:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                del self.running[process]
                self._tell(number, os.waitstatus_to_exitcode(status), time.monotonic() - begun)

    def _tell(self, number: int, code: int, seconds: float) -> None:
        with suppress(BrokenPipeError):  # nobody listens any more
            os.write(self.said, json.dumps([number, code, seconds]).encode() + b"\n")


def become(order: Order, parent: int, interrupt: Any) -> None:
    """Be the process that was ordered, with a parent's process id, and what it does on Ctrl-C."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt)  # not heard, if the sweep was begun in the background
    end_with_parent(lambda: os.getppid() == parent, signal.SIGTERM)
    np.random.seed()  # noqa: NPY002  # a process of its own begins with another state too
    atexit.unregister(shutil.rmtree)  # temporary folders of imports are all forks'
    log = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for file in (1, 2):
        os.dup2(log, file)
    program, script = (*order.command, "")[:2]
    python = program == sys.executable and script.endswith(".py")
    if not python or torch.cuda._is_in_bad_fork():  # an import has asked for CUDA, which cannot be had in a fork then
        try:
            os.execvp(program, order.command)
        except OSError as error:
            sys.exit(f"{program}: {error.strerror}")
    words = os.fsencode(shlex.join(order.command[1:])).decode(errors="replace")
    setproctitle(f"python {words}")
    sys.argv = order.command[1:]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")


def prepare() -> tuple[int, int]:
    """Import everything.

    Returns:
        Copies of standard input and output, which are the caller's: what imports print, nobody reads.
    """
    files = os.dup(0), os.dup(1)
    errors, nothing = os.dup(2), os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nothing, file)
    for name in WANTED:
        with suppress(Exception):  # whoever needs it will say so
            importlib.import_module(name)
    os.dup2(errors, 2)
    os.close(errors)
    versions()  # those of what was imported, whatever is installed later
    gc.freeze()
    return files


if __name__ == "__main__":
    end_with_caller()
    me, server = os.getpid(), Server(*prepare())
    if wanted := server.serve():
        become(wanted, me, heard)
    else:
        atexit._run_exitfuncs()
        os._exit(0)  # finalizing all that was imported takes seconds
