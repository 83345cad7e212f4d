"""Jobs by an engine, with what is shown of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from neoteny.runners.engines.engine import Engine
from neoteny.runners.engines.work import Job, Outcome
from neoteny.runners.experiments import PlannedRun
from neoteny.runners.measures import in_words
from neoteny.runners.sweeps.progress import Progress, duration, headline_mean, reached
from neoteny.runners.sweeps.view import View


def run_all(
    jobs: Sequence[Job], engine: Engine, what: str = "runs", runs: Mapping[str, Progress] | None = None
) -> list[Outcome]:
    """Run the jobs; how those have ended that failed. Each is told of when it ends, on standard error.

    Args:
        jobs: what is run.
        engine: by which.
        what: they are, for the console.
        runs: how far the runs are that they go on with, by folder.

    Raises:
        KeyboardInterrupt: the user has stopped it; what has not begun does not begin, what runs is told to stop.
    """
    failed: list[Outcome] = []
    ended = 0
    if not jobs:
        return failed
    view = View(jobs, runs or {}, what, Console(stderr=True), engine.room)
    with view, closing(engine.run(jobs)) as endings:
        for some in endings:
            for outcome in some:
                ended += 1
                view.ended(outcome)
                failed += [outcome] if outcome.code else []
                view.say(_told(outcome, f"{ended:>4}/{len(jobs)}", view.left() if ended < len(jobs) else None))
            view.look()
    return failed


def ended_early(runs: Iterable[PlannedRun], jobs: Mapping[str, Job], failed: Sequence[Outcome]) -> list[Outcome]:
    """Runs that have ended without an error, and are not at their end.

    Args:
        runs: all.
        jobs: what was run of them, by folder.
        failed: of those.
    """
    found = []
    known = {outcome.job.name for outcome in failed}
    for run in runs:
        if run.folder in jobs and run.folder not in known:
            last, step = reached(run.experiment)
            segments = run.experiment.segments
            if last < len(segments) - 1:
                steps = sum(segment.steps for segment in segments)
                found.append(Outcome(jobs[run.folder], 0, f"its folder has {step:,} of {steps:,} steps", 0.0))
    return found


def _told(outcome: Outcome, number: str, left: float | None) -> str:
    """What is said when a job has ended."""
    name = outcome.job.name
    if outcome.code:
        return f"{number}  FAILED {name}: {(outcome.words.splitlines() or ['nothing was said'])[-1]}"
    rest = "" if left is None else f", about {duration(left)} left"
    return f"{number}  {name}  {mean(name)}{duration(outcome.seconds)}{rest}"


def mean(folder: str) -> str:
    """What a run has reached: the mean over its tasks, if it is a run."""
    found = headline_mean(Path(folder))
    return f"mean {in_words(found[0])} {found[1]:.4g}, " if found else ""


def collected(failed: Sequence[Outcome]) -> str:
    """All that failed, each with its error and where its log is."""
    return "\n".join(
        f"FAILED {outcome.job.name} (exit code {outcome.code})\n{outcome.words}\nlog: {outcome.job.log}\n"
        for outcome in failed
    )
