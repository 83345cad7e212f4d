"""One job, on whatever machine it is carried out. Imports the standard library alone, see the package."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

#: What a job prints, errors included, in its folder; a job that goes on appends.
LOG = "log.txt"
#: So many of the last characters of a log are told of as the error.
TOLD = 2000
#: The exit codes of a program that was told to stop: by SIGTERM, by Ctrl-C.
STOPPED, INTERRUPTED = 143, 130
#: The code of a job that has ended and nobody can say how: its node is gone, say.
LOST = -1


class Job(NamedTuple):
    """A program to be run.

    Attributes:
        name: for the console: the folder that it writes to.
        command: what is run.
        threads: processors that it keeps busy.
    """

    name: str
    command: list[str]
    threads: int = 1

    @property
    def log(self) -> Path:
        return Path(self.name) / LOG


class Outcome(NamedTuple):
    """How a job has ended: its exit code (less than 0: killed by a signal, or lost), its last words, its seconds."""

    job: Job
    code: int
    words: str
    seconds: float

    @property
    def was_stopped(self) -> bool:
        """Whether it did not end by itself, so that it would go on."""
        return self.code < 0 or self.code in (STOPPED, INTERRUPTED)


class Killed(Exception):
    """The process of a job was killed, and not by us."""


def carry_out(
    job: Job,
    environment: Mapping[str, str],
    parent: str,
    folder: Path = Path(),
) -> Outcome:
    """Run a job to its end. Whatever keeps it from beginning is an outcome too.

    Args:
        job: the job.
        environment: variables of it alone.
        parent: the variable that gets this process's id, with which the job's process ends.
        folder: the working directory.
    """
    start = time.monotonic()
    try:
        before = begin_log(job, folder)
        variables = os.environ | environment | {parent: str(os.getpid())}
        with (folder / job.log).open("ab") as file:
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=variables, cwd=folder
            )
            code = process.wait()
        words = last_words(job, before, folder) if code else ""
    except OSError as error:
        code, words = 1, str(error)
    return Outcome(job, code, words, time.monotonic() - start)


def begin_log(job: Job, folder: Path = Path()) -> int:
    """Make room for what a job prints; what there is already has so many bytes.

    Raises:
        OSError: its folder cannot be written to.
    """
    log = folder / job.log
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return file.tell()


def last_words(job: Job, before: int, folder: Path = Path()) -> str:
    """The end of what a job has printed, after the bytes that were there ``before``."""
    log = folder / job.log
    with log.open("rb") as file:
        file.seek(max(before, log.stat().st_size - TOLD))
        return file.read().decode(errors="replace").strip()


def on_a_node(job: Job, work: partial[Outcome], mark: Path, there: bytes) -> tuple[Outcome, bytes]:
    """Run a job on a node of a cluster, which may or may not see the driver's disk.

    Args:
        job: the job.
        work: :func:`carry_out`, told of the driver.
        mark: a file that only those see who see the driver's disk.
        there: what the driver has of the job's folder, packed, if not all nodes see its disk.

    Returns:
        How it has ended, and its folder, packed, if it is to be brought back.

    Raises:
        Killed: the job's process was killed. Its folder has its last checkpoint.
    """
    shared, folder = mark.exists(), Path(work.keywords["folder"], job.name)
    if not shared and not folder.exists():  # a worker that died here may have left more than the driver has
        unpack(there, folder)
    outcome = work(job)
    if outcome.was_stopped:
        raise Killed(f"{job.name} was killed: exit code {outcome.code}\n{outcome.words}")
    return outcome, b"" if shared else pack(folder)


def pack(folder: Path) -> bytes:
    """The files of a folder; nothing, if there is none."""
    packed = io.BytesIO()
    if folder.is_dir():
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder, arcname=".")
    return packed.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write what :func:`pack` has read, over what is there."""
    if packed:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(folder)
