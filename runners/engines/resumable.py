"""What a job of Slurm does. Imports little, as :mod:`neoteny.runners.engines.work`: it is loaded on the nodes."""

from __future__ import annotations

import os
import signal
from functools import partial

from submitit.helpers import Checkpointable

from neoteny.runners.engines.work import STOPPED, Job, Outcome

#: How a process ends that Slurm has told to make room, or that its time is over.
TOLD_TO_STOP = {STOPPED, -signal.SIGTERM, -signal.SIGUSR2}


class Resumable(Checkpointable):
    """Runs one job. When its time is over submitit puts it into the queue again; preempted, Slurm does so itself."""

    def __call__(self, job: Job, work: partial[Outcome]) -> Outcome:
        outcome = work(job)
        if outcome.code in TOLD_TO_STOP:
            os._exit(STOPPED)  # without a result: it is not over, unless Slurm says so
        return outcome
