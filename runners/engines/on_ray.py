"""Tasks on Ray: a cluster's, or one that is started on this machine."""

from __future__ import annotations

import glob
import logging
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it when it is imported

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from neoteny.configs import ConfigError
from neoteny.runners.engines.engine import TICK, Settings, work
from neoteny.runners.engines.work import LOST, Job, Killed, Outcome, on_a_node, pack, unpack

#: So often a run goes on elsewhere after its process, its worker or its node has died.
RETRIES = 10
#: Seconds until a cluster that does not answer is none.
WAIT = 10


class Ray:
    """Tasks, each with its share of processors and GPUs.

    A run whose process, worker or node dies goes on from its last checkpoint, on another worker. Where a node does not
    see the run folders, it makes them on a disk of its own, and they are brought back when a run has ended.

    Attributes:
        room: so many runs of one thread at a time.
        largest: processors of the largest node: a run with more threads than that takes it whole.
        notes: that no node has what a run needs, or that not all see the run folders.
    """

    def __init__(self, settings: Settings, mark: Path):
        self.settings = settings
        self.mark = mark
        self.room = int(min(settings.jobs or 2**31, max(1, ray.cluster_resources().get("CPU", 1))))
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.largest = max(1.0, *(node["Resources"].get("CPU", 0.0) for node in nodes))
        self.shared = all(ray.get([self._sees(node["NodeID"]) for node in nodes]))
        self.notes = ["not all nodes see the run folders: runs are brought back when they end"] * (not self.shared)
        needs = {"GPU": settings.gpus, "memory": (settings.memory or 0) * 2**30}
        self.notes += [
            f"no node has {value:g} {what}: runs wait until one with it comes"
            for what, value in needs.items()
            if value > max(node["Resources"].get(what, 0) for node in nodes)
        ]

    def _sees(self, node: str) -> Any:
        """Whether a node sees the run folders."""
        there = NodeAffinitySchedulingStrategy(node, soft=True)
        return ray.remote(os.path.exists).options(num_cpus=0, scheduling_strategy=there).remote(str(self.mark))

    def _begin(self, job: Job) -> Any:
        memory = {"memory": self.settings.memory * 2**30} if self.settings.memory else {}
        task = ray.remote(on_a_node).options(
            name=job.name,
            num_cpus=min(job.threads, self.largest),
            num_gpus=self.settings.gpus,
            max_retries=RETRIES,
            retry_exceptions=[Killed],
            **memory,
        )
        there = b"" if self.shared else pack(Path(job.name))
        return task.remote(job, work(), self.mark, there)

    def run(self, jobs: Sequence[Job]) -> Generator[list[Outcome], None, None]:
        waiting, running = list(jobs)[::-1], dict[Any, Job]()
        try:
            while waiting or running:
                while waiting and len(running) < (self.settings.jobs or len(jobs)):
                    job = waiting.pop()
                    running[self._begin(job)] = job
                done, _ = ray.wait([*running], timeout=TICK)
                if done:  # and whatever else has ended
                    done, _ = ray.wait([*running], num_returns=len(running), timeout=0)
                yield [self._outcome(ref, running.pop(ref)) for ref in done]
        finally:
            for ref in running:
                ray.cancel(ref, force=True)

    def _outcome(self, ref: Any, job: Job) -> Outcome:
        try:
            outcome, made = ray.get(ref)
        except RayError as error:
            return Outcome(job, LOST, str(getattr(error, "cause", None) or error), float("nan"))
        unpack(made, Path(job.name))
        return outcome


def _answers(address: str) -> None:
    """Ray itself would ask for minutes.

    Raises:
        ConfigError: nobody listens at HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    try:
        if not host:
            raise ValueError("auto or HOST:PORT is expected")
        socket.create_connection((host, int(port)), WAIT).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--address: {address!r} cannot be connected to: {error}") from error


def leave_mark(out: Path) -> Path:
    """A file that those see who see this machine's disk. Those of drivers that were killed here go."""
    out.mkdir(parents=True, exist_ok=True)
    here = f".driver-{socket.gethostname()}-"
    for other in out.glob(f"{glob.escape(here)}*"):
        try:
            os.kill(int(other.name.removeprefix(here)), 0)
        except ProcessLookupError:
            other.unlink(missing_ok=True)
    mark = out / f"{here}{os.getpid()}"
    mark.touch()
    return mark


@contextmanager
def start(settings: Settings) -> Iterator[Ray]:
    """Connect to a cluster, or start one on this machine, which ends with this process.

    Raises:
        ConfigError: there is no such cluster.
    """
    if settings.address and settings.address != "auto":
        _answers(settings.address)
    own: dict[str, Any] = {} if settings.address else {"num_cpus": settings.jobs, "include_dashboard": False}
    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(settings.address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RayError, ValueError) as error:
        raise ConfigError(f"--address: {settings.address!r} cannot be connected to: {error}") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in heard.items():  # Ray has put its own in place
            signal.signal(number, handler)
    mark = leave_mark(settings.out.absolute())
    try:
        yield Ray(settings, mark)
    finally:
        mark.unlink(missing_ok=True)
        ray.shutdown()
