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
from neoteny.runners.sweeps.progress import headline_mean
from neoteny.runners.sweeps.running import collected


def run_search(
    plan: Plan,
    search: Search,
    start: Callable[[str], AbstractContextManager[Engine]],
    job: JobOf,
    dry_run: bool = False,
) -> int:
    """Search for the values of a plan's ranges; the exit code.

    Args:
        plan: of the sweep.
        search: how values are searched for.
        start: begins what runs the runs, by the folder that they are in.
        job: what carries out one.
        dry_run: only say what is there.

    Raises:
        ConfigError: nothing has a range, an end of one cannot be run, or the folder has a search of other settings.
    """
    searching = Searching(plan, search)
    engine = start(str(searching.out))
    for note in dict.fromkeys(plan.notes):
        print(note, file=sys.stderr)
    seeds = ", ".join(map(str, plan.sweep.seeds))
    for name, point in searching.points.items():
        ranges = ", ".join(f"{key} {range_}" for key, range_ in point.ranges.items())
        print(f"{name}: {search.trials} trials of {ranges}", file=sys.stderr)
    print(f"{search.at_once} trials of each at a time, each with the seeds {seeds}", file=sys.stderr)
    if dry_run:
        return 0
    studies = searching.open()
    for study in studies:
        if ended := sum(row.state in ("complete", "pruned", "failed") for row in study.rows):
            print(f"{study.name}: {ended} of {search.trials} trials have ended, which goes on", file=sys.stderr)
    try:
        with engine as begun:
            for note in begun.notes:
                print(note, file=sys.stderr)
            failed = searching.run(studies, begun, job, lambda line: print(line, file=sys.stderr))
    finally:
        write_trials(studies, searching.folder / "trials.csv")
    tell(searching, studies)
    if failed:
        print(f"\n{collected(failed)}", file=sys.stderr)
    return 1 if failed else 0


def tell(searching: Searching, studies: list[Study]) -> None:
    """Write presets and the plot, and say what was found."""
    measure, others = "return", {}
    for label in dict.fromkeys(Path(run.folder).parent for run in searching.others):
        found = [headline_mean(folder) for folder in label.glob("seed-*")]
        if values := [value for value in found if value]:
            measure, others[label.name] = values[0][0], statistics.fmean(value for _, value in values)
    seeds = ", ".join(map(str, searching.plan.sweep.seeds))
    for study in studies:
        rows, best = study.rows, study.best
        states = [row.state for row in rows]
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
        if best is None:
            print(f"{study.name}: no trial has come to its end ({counts})")
            continue
        said = f"{best} with the seeds {seeds}, the best of {len(rows)} trials ({counts})"
        files = write_presets(study, searching.plan.program, searching.folder / study.name, f"{study.name}: {said}")
        print(f"{study.name}: {said}")
        for kind, file in files.items():
            print(f"  --{kind} {shlex.quote(str(file))}")
    if any(row.seen for study in studies for row in study.rows):
        draw(studies, others, f"mean {in_words(measure)}", searching.folder / "search.png")
        print(f"Plot: {searching.folder / 'search.png'}, table: {searching.folder / 'trials.csv'}")
    print("What was chosen by these seeds looks better with them than with others: run the presets with other seeds.")
