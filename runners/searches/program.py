"""What ``sweep.py --search optuna`` does: it says what is searched for, tries, and writes what it has found."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from neoteny.runners.engines.engine import Engine
from neoteny.runners.experiments import Plan
from neoteny.runners.experiments.sweeps import Search
from neoteny.runners.measures import in_words
from neoteny.runners.searches.found import draw, write_presets, write_trials
from neoteny.runners.searches.searching import JobOf, Searching
from neoteny.runners.searches.study import Study
from neoteny.runners.sweeps.progress import headline_mean, progress_of
from neoteny.runners.sweeps.running import collected


def run_search(
    plan: Plan,
    search: Search,
    start: Callable[[str], AbstractContextManager[Engine]],
    job: JobOf,
    dry_run: bool = False,
) -> int:
    """Search for the values of a plan's ranges; the exit code: 1, if a run or a trial has failed.

    Args:
        plan: of the sweep.
        search: how values are searched for.
        start: begins what runs the runs, by the folder that they are in.
        job: what carries out one.
        dry_run: only say what would be done.

    Raises:
        ConfigError: nothing has a range, what has one cannot be run, or the folder has a search of other settings.
    """
    searching = Searching(plan, search)
    engine = start(str(searching.out))
    announce(searching)
    if dry_run:
        return 0
    with searching.open() as studies:
        for study in studies:
            if ended := sum(row.has_ended for row in study.rows):
                print(f"{study.name}: {ended} trials have ended before", file=sys.stderr)
        try:
            with engine as begun:
                for note in begun.notes:
                    print(note, file=sys.stderr)
                failed = searching.run(studies, begun, job, lambda line: print(line, file=sys.stderr))
        finally:
            write_trials(studies, means_of(searching), searching.folder / "trials.csv")
        tell(searching, studies)
    if failed:
        print(f"\n{collected(failed)}", file=sys.stderr)
    if early := [study.name for study in studies if sum(row.has_ended for row in study.rows) < search.trials]:
        print(f"The search has ended early: {', '.join(early)}. The same command goes on.", file=sys.stderr)
    return 1 if failed or any(row.state == "failed" for study in studies for row in study.rows) else 0


def announce(searching: Searching) -> None:
    """Say what is searched for."""
    search = searching.search
    for note in dict.fromkeys(searching.plan.notes):
        print(note, file=sys.stderr)
    for each in progress_of(searching.others):
        print(f"{each.state:<9} {each.run.folder}")
    for space in searching.spaces:
        ranges = ", ".join(f"{key} {range_}" for key, range_ in space.point.ranges.items())
        print(f"{search.trials} trials {space.name}: {ranges}")
        if not space.can_be_made_longer:
            print(
                f"{space.name}: its schedules run over all tasks, so no trial ends before its last one", file=sys.stderr
            )
    seeds = ", ".join(map(str, searching.plan.sweep.seeds))
    print(f"{search.at_once} trials of each at a time. Seeds: {seeds}.", file=sys.stderr)


def means_of(searching: Searching) -> dict[str, float]:
    """What the runs without a search have reached, by environment, agent and method."""
    found: dict[str, list[float]] = {}
    for run in searching.others:
        if mean := headline_mean(Path(run.folder), len(run.experiment.sequence.visits)):
            found.setdefault("/".join(Path(run.folder).parts[-3:-1]), []).append(mean[1])
    return {name: statistics.fmean(values) for name, values in found.items()}


def tell(searching: Searching, studies: list[Study]) -> None:
    """Write presets and the plot, and say what was found."""
    plan, others = searching.plan, means_of(searching)
    measure = f"mean {in_words(searching.measure)}"
    seeds = ", ".join(map(str, plan.sweep.seeds))
    for name, mean in others.items():
        print(f"{name}: {measure} {mean:.4g}")
    for study in studies:
        rows, best = study.rows, study.best
        states = [row.state for row in rows]
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
        for row in rows:
            if row.state == "failed":
                print(f"{study.name}  trial {row.number + 1}: {row}", file=sys.stderr)
        if best is None:
            print(f"{study.name}: no trial has come to its end ({counts})")
            continue
        said = f"{best}, the {measure} of the seeds {seeds}; the best of {len(rows)} trials ({counts})"
        files = write_presets(study, plan.program, searching.folder / study.name, f"{study.name}: {said}")
        print(f"{study.name}: {said}")
        print(f"  with other seeds: python runners/{plan.program.file} {shlex.join(words_of(study, files, plan))}")
    if any(row.seen for study in studies for row in study.rows):
        draw(studies, others, measure, searching.folder / "search.png")
        print(f"Plot: {searching.folder / 'search.png'}, table: {searching.folder / 'trials.csv'}")
    print("What was chosen by these seeds looks better with them than with others.")


def words_of(study: Study, files: dict[str, Path], plan: Plan) -> list[str]:
    """The command line of a run with what was found and the first seed that did not choose it."""
    names = study.point.names | {kind: str(file) for kind, file in files.items()}
    settings = {key: value for key, value in study.point.settings.items() if key.partition(".")[0] not in files}
    return [
        *study.point._replace(names=names, settings=settings).words(),
        *plan.words,
        f"--seed={max(plan.sweep.seeds) + 1}",
    ]
