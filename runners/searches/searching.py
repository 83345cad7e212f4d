"""Rounds of trials, until each study has as many as it is to have."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from neoteny.configs import ConfigError, dump_yaml
from neoteny.runners.engines.engine import Engine
from neoteny.runners.engines.work import Job, Outcome
from neoteny.runners.experiments import Plan, PlannedRun
from neoteny.runners.experiments.plan import Point
from neoteny.runners.experiments.sweeps import Search
from neoteny.runners.runs.folder import compare
from neoteny.runners.runs.tables import write_text
from neoteny.runners.searches.study import Study, Tried, open_storage
from neoteny.runners.sweeps.progress import headline_mean, progress_of
from neoteny.runners.sweeps.running import run_all

#: The folder of what is searched for, beside those of the runs.
FOLDER = "search"

JobOf = Callable[[PlannedRun], Job]


class Searching:
    """The studies of a plan, one for each point of its grid that has ranges.

    Args:
        plan: of the sweep.
        search: how values are searched for.

    Attributes:
        out: the folder of the runs.
        folder: where studies are kept.
        points: those with ranges, by the names of their studies.
        others: the runs of the points without, with which trials are compared.

    Raises:
        ConfigError: nothing has a range, an end of one cannot be run, or the folder has a search of other settings.
    """

    def __init__(self, plan: Plan, search: Search):
        self.plan, self.search = plan, search
        self.points = {_name(point): point for point in plan.points if point.ranges}
        if not self.points:
            raise ConfigError("--search: no setting has a range; for instance --grid reg.strength='log 1e-6 .. 1e-1'")
        if len(self.points) < sum(bool(point.ranges) for point in plan.points):
            raise ConfigError(f"--search: two of its studies would have one name: {', '.join(self.points)}")
        self.others = plan.runs_of([point for point in plan.points if not point.ranges])
        self._lowest = {name: self._at_the_ends(point) for name, point in self.points.items()}
        self.out = Path(next(iter(self._lowest.values())).experiment.run.out)
        self.folder = self.out / FOLDER
        for name in self.points:
            if (self.folder / name / "config.yaml").exists():
                compare(self.folder / name, self._settings(name))

    def _at_the_ends(self, point: Point) -> PlannedRun:
        """A run at the lower ends of the ranges; one at the upper ends can be run too."""
        self.plan.runs_of([point.at({key: range_.high for key, range_ in point.ranges.items()})])
        return self.plan.runs_of([point.at({key: range_.low for key, range_ in point.ranges.items()})])[0]

    def _settings(self, name: str) -> dict[str, Any]:
        """What a study's numbers depend on."""
        search = {key: value for key, value in dataclasses.asdict(self.search).items() if key != "trials"}
        ranges = {key: str(range_) for key, range_ in self.points[name].ranges.items()}
        run = {key: value for key, value in self._lowest[name].experiment.plain.items() if key != "seed"}
        return {**run, "search": search, "ranges": ranges, "seeds": self.plan.sweep.seeds, "tasks": self._tasks(name)}

    def _tasks(self, name: str) -> int:
        return len(self._lowest[name].experiment.sequence.visits)

    def open(self) -> list[Study]:
        """The studies, as they were left."""
        for name in self.points:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            write_text(self.folder / name / "config.yaml", dump_yaml(self._settings(name)))
        storage = open_storage(self.folder / "trials.db")
        found = []
        for name, point in self.points.items():
            presets = {kind: settings for kind, (_, settings) in self.plan.program.load(point.names).items()}
            usual = {key: _inner(presets, key) for key in point.ranges}
            found.append(Study(name, point, self._tasks(name), self.search, usual, storage))
        return found

    def run(self, studies: Sequence[Study], engine: Engine, job: JobOf, say: Callable[[str], None]) -> list[Outcome]:
        """Try until each study has its trials; the runs that have failed.

        A trial that has a run which fails has failed, and is not tried again. Where a run was killed, the search ends:
        the same command goes on with it.

        Args:
            studies: as opened.
            engine: runs the runs.
            job: what carries out one.
            say: is told how trials have ended.

        Raises:
            KeyboardInterrupt: the user has stopped it. What was tried is kept; what runs goes on another time.
        """
        failed = _carry_out(self.others, engine, job)
        while not _killed(failed) and (trials := [trial for study in studies for trial in study.take()]):
            for look in count():
                trials = [trial for trial in trials if trial.is_running]
                if not trials:
                    break
                failed += self._go_on(trials, look, engine, job)
                if _killed(failed):
                    break
                for trial in trials:
                    trial.decide(look)
                    if not trial.is_running:
                        say(f"{trial.study.name}  trial {trial.number + 1}/{self.search.trials}: {trial.row}")
        return failed

    def _go_on(self, trials: Sequence[Tried], look: int, engine: Engine, job: JobOf) -> list[Outcome]:
        """Run trials until they are looked at, and tell them what they have reached."""
        runs = []
        for trial in trials:
            tasks = trial.study.looks[look]
            words = ["--num-tasks", str(tasks)] if tasks < trial.study.looks[-1] else []
            runs.append(self.plan.runs_of([trial.point], *words))
        failed = _carry_out([run for of_trial in runs for run in of_trial], engine, job)
        if _killed(failed):
            return failed
        why = {
            outcome.job.name: (outcome.words.splitlines() or [f"exit code {outcome.code}"])[-1] for outcome in failed
        }
        for trial, of_trial in zip(trials, runs, strict=True):
            tasks = trial.study.looks[look]
            values = [found[1] for run in of_trial if (found := headline_mean(Path(run.folder), tasks))]
            if wrong := [why[run.folder] for run in of_trial if run.folder in why]:
                trial.fail(wrong[0])
            elif len(values) < len(of_trial):
                trial.fail(f"no episode has ended in {tasks} tasks")
            else:
                trial.report(look, statistics.fmean(values))
        return failed


def _carry_out(runs: Sequence[PlannedRun], engine: Engine, job: JobOf) -> list[Outcome]:
    """What is missing of these runs, which may be the same; what has failed."""
    found = {run.folder: run for run in runs}
    missing = {each.run.folder: each for each in progress_of([*found.values()]) if each.step < each.steps}
    return run_all([job(each.run) for each in missing.values()], engine, "runs", missing)


def _killed(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.code < 0 for outcome in outcomes)


def _name(point: Point) -> str:
    """What a study is called: as a folder of runs would be, without what has a range."""
    first, *others = (Path(name).stem.replace(":", ".") for name in point.names.values())
    fixed = {key.partition(".")[2]: value for key, value in point.settings.items() if key not in point.ranges}
    return f"{first}/{'-'.join(others)}" + "".join(f",{key}={value}" for key, value in fixed.items())


def _inner(settings: Any, key: str) -> Any:
    """The value of a setting by its dotted name; None, if there is none."""
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
