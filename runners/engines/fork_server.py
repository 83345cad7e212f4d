"""Processes for the runs of a sweep, each a fork of one that has imported everything: a run begins at once.

It is told on its standard input what is to be run, a line each, and says on its standard output how that has ended,
after how many seconds. The forks end, as by SIGTERM, when it does: when there is nobody left to tell it anything.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import shlex
import signal
import sys
import time
from importlib.util import find_spec
from types import FrameType
from typing import NamedTuple

import torch
from setproctitle import setproctitle

from neoteny.envs.backends.orphans import end_with_caller, end_with_parent

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


def serve() -> Order | None:
    """Fork for each order.

    Returns:
        In a fork, its order; None when there will be no more.
    """
    running: dict[int, tuple[int, float]] = {}

    def reap(_: int, __: FrameType | None) -> None:
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            number, begun = running.pop(ended[0])
            said = [number, os.waitstatus_to_exitcode(ended[1]), time.monotonic() - begun]
            os.write(1, json.dumps(said).encode() + b"\n")

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        order = Order(*json.loads(line))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if process := os.fork():
            running[process] = order.number, time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if not process:
            return order
    return None


def become(order: Order, parent: int) -> None:
    """Be the process that was ordered."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with_parent(lambda: os.getppid() == parent, signal.SIGTERM)
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number, file in enumerate((nothing, log, log)):
        os.dup2(file, number)
    sys.stdin = os.fdopen(0)  # the old one has read ahead
    program, script = (*order.command, "")[:2]
    python = program == sys.executable and script.endswith(".py")
    if not python or torch.cuda._is_in_bad_fork():  # an import has asked for CUDA, which cannot be had in a fork then
        try:
            os.execvp(program, order.command)
        except OSError as error:
            sys.exit(f"{program}: {error.strerror}")
    setproctitle(shlex.join(order.command))
    sys.argv = order.command[1:]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_caller()
    del sys.path[0]  # this folder
    for name in WANTED:
        importlib.import_module(name)
    gc.freeze()
    me = os.getpid()
    if wanted := serve():
        become(wanted, me)
