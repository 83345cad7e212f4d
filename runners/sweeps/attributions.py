"""What is attributed after the runs of a sweep."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.attribution import INTERVENTIONS
from neoteny.runners.engines.work import Job
from neoteny.runners.experiments import Plan


def attributions(plan: Plan, program: Path, jobs: int, done: Sequence[str] | None = None) -> list[Job]:
    """The attributions that a plan asks for and that are not there.

    Args:
        plan: of the sweep.
        program: ``attribute.py``.
        jobs: processes at a time. The last attributions, of which there are fewer, share them: they have more than
            one thread, and are to begin when the others have ended.
        done: folders of the runs that are complete; None: all are taken to be.

    Raises:
        ConfigError: there is no such intervention, or a run has no such task.
    """
    wanted = plan.sweep.attribution
    if wanted is None:
        return []
    for name in wanted.only:
        configs.choose("attribution.only", name, INTERVENTIONS)
    found = []
    for run in plan.runs:
        if not plan.attributes(run.point, run.experiment.run.seed):
            continue
        visits = len(run.experiment.sequence.visits)
        for task in wanted.tasks:
            if task > visits:
                raise ConfigError(f"attribution.tasks: {run.folder} has {visits} tasks, got {task}")
            if (done is None or run.folder in done) and not _is_there(run.folder, task, wanted.only, wanted.seeds):
                found.append((run.folder, task))
    left = len(found) % jobs  # when all others are done
    shares = [1] * (len(found) - left) + [jobs // max(1, left)] * left
    only = ["--only", *wanted.only] if wanted.only else []
    settings = ["--seeds", str(wanted.seeds), "--part-of-sweep", *only]
    return [
        Job(
            f"{folder}/attribution/task-{task:04d}",
            [sys.executable, str(program), folder, "--task", str(task), "--jobs", str(share), *settings],
            threads=share,
        )
        for (folder, task), share in zip(found, shares, strict=True)
    ]


def _is_there(folder: str, task: int, only: Sequence[str], seeds: int) -> bool:
    """Whether the table has all that is asked for. Of what an agent lacks nobody knows here: all is not known to be."""
    file = Path(folder) / "attribution" / f"task-{task:04d}" / "attribution.csv"
    if not only or not file.exists():
        return False
    with file.open(newline="") as lines:
        there = {row["fresh"]: int(row["seeds"]) for row in csv.DictReader(lines)}
    return all(there.get(name, 0) >= seeds for name in (*only, "nothing", "everything"))
