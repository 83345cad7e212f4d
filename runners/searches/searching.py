"""Rounds of trials, until each study has as many as it is to have."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from neoteny.configs import ConfigError
from neoteny.runners.engines.engine import Engine
from neoteny.runners.engines.work import Job, Outcome
from neoteny.runners.experiments import AnyExperiment, Plan, PlannedRun
from neoteny.runners.experiments.plan import Point
from neoteny.runners.experiments.sweeps import Search
from neoteny.runners.measures import HEADLINES
from neoteny.runners.runs.lock import Lock
from neoteny.runners.searches.study import Study, Tried, open_storage
from neoteny.runners.sweeps.progress import headline_mean, progress_of
from neoteny.runners.sweeps.running import ended_early, run_all

#: The folder of what is searched for, beside those of the runs.
FOLDER = "search"

JobOf = Callable[[PlannedRun], Job]


class Space(NamedTuple):
    """What one study searches.

    Attributes:
        point: of the grid.
        experiment: one of its runs, with what the presets have where it has ranges.
    """

    point: Point
    experiment: AnyExperiment

    @property
    def name(self) -> str:
        """That of the folder of such runs."""
        return "/".join(self.experiment.folder.parts[-3:-1])

    @property
    def tasks(self) -> int:
        return len(self.experiment.sequence.visits)

    @property
    def can_be_made_longer(self) -> bool:
        """Whether a run of the first tasks can go on with more: schedules over all tasks would be others."""
        return self.experiment.run.fresh or getattr(self.experiment.sequence, "switches", "") != "hidden"


class Searching:
    """The studies of a plan, one for each point of its grid that has ranges.

    Args:
        plan: of the sweep.
        search: how values are searched for.

    Attributes:
        out: the folder of the runs.
        folder: where studies are kept.
        spaces: what each of them searches.
        others: the runs of the points without, with which trials are compared.
        measure: what is searched for the most of.

    Raises:
        ConfigError: nothing has a range, or what has one cannot be run. A setting that is wrong exits with code 2.
    """

    def __init__(self, plan: Plan, search: Search):
        self.plan, self.search = plan, search
        points = [point for point in plan.points if point.ranges]
        usual = {id(point): plan.runs_of([point.usual]) for point in points}
        self.spaces = [Space(point, usual[id(point)][0].experiment) for point in points if usual[id(point)]]
        if not self.spaces:
            raise ConfigError("--search: no setting has a range; for instance --grid reg.strength='log 1e-6 .. 1e-1'")
        names = [space.name for space in self.spaces]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"--search: two of its studies would have one name, {twice[0]}")
        for space in self.spaces:
            for end in ("low", "high"):
                plan.runs_of([space.point.at({key: getattr(r, end) for key, r in space.point.ranges.items()})])
        self.others = plan.runs_of([point for point in plan.points if not point.ranges])
        first = self.spaces[0].experiment
        self.out, self.measure = Path(first.run.out), HEADLINES[first.sequence.score]
        self.folder = self.out / FOLDER

    def _settings(self, space: Space) -> dict[str, Any]:
        """What a study's numbers depend on."""
        search = {key: value for key, value in dataclasses.asdict(self.search).items() if key != "trials"}
        ranges = ", ".join(f"{key} {range_}" for key, range_ in space.point.ranges.items())
        run = {key: value for key, value in space.experiment.plain.items() if key not in ("seed", "labels")}
        return {**run, "search": search, "ranges": ranges, "seeds": self.plan.sweep.seeds}

    @contextmanager
    def open(self) -> Iterator[list[Study]]:
        """The studies, as they were left. Meanwhile they are this process's.

        Raises:
            ConfigError: another process searches there, or it has a search of other settings.
        """
        lock = Lock(self.folder)
        try:
            yield self._studies()
        finally:
            lock.release()

    def _studies(self) -> list[Study]:
        storage = open_storage(self.folder / "trials.db")
        found = []
        for space in self.spaces:
            usual = {key: _inner(space.experiment.plain, key) for key in space.point.ranges}
            search = self.search if space.can_be_made_longer else dataclasses.replace(self.search, look_after=[])
            study = Study(space.name, space.point, space.tasks, search, usual, storage)
            study.claim(self._settings(space), f"--out: {self.folder}")
            found.append(study)
        return found

    def run(self, studies: Sequence[Study], engine: Engine, job: JobOf, say: Callable[[str], None]) -> list[Outcome]:
        """Try until each study has its trials; the runs that have failed.

        A trial that has a run which fails has failed. Where a run was stopped, killed or lost, the search ends: the
        same command goes on with it.

        Args:
            studies: as opened.
            engine: runs the runs.
            job: what carries out one.
            say: is told how trials have ended.

        Raises:
            KeyboardInterrupt: the user has stopped it. What was tried is kept; what runs goes on another time.
        """
        failed = _carry_out(self.others, engine, job)
        while not _stopped(failed) and (trials := [trial for study in studies for trial in study.take()]):
            for look in count():
                trials = [trial for trial in trials if trial.is_running]
                if not trials:
                    break
                failed += self._go_on(trials, look, engine, job)
                if _stopped(failed):
                    break
                for trial in trials:
                    trial.decide(look)
                    if not trial.is_running:
                        say(f"{trial.study.name}  trial {trial.number + 1}/{self.search.trials}: {trial.row}")
        return failed

    def _go_on(self, trials: Sequence[Tried], look: int, engine: Engine, job: JobOf) -> list[Outcome]:
        """Run trials until they are looked at, and tell them what they have reached."""
        runs = [self._runs(trial, look) for trial in trials]
        failed = _carry_out([run for of_trial in runs for run in of_trial], engine, job)
        if _stopped(failed):
            return failed
        why = {each.job.name: (each.words.splitlines() or [f"exit code {each.code}"])[-1] for each in failed}
        for trial, of_trial in zip(trials, runs, strict=True):
            tasks = trial.study.looks[look]
            values = [found[1] for run in of_trial if (found := headline_mean(Path(run.folder), tasks))]
            if not trial.is_running:
                continue
            if wrong := [why[run.folder] for run in of_trial if run.folder in why]:
                trial.fail(wrong[0])
            elif len(values) < len(of_trial):
                trial.fail(f"no episode has ended in {tasks} tasks")
            else:
                trial.report(look, statistics.fmean(values))
        return failed

    def _runs(self, trial: Tried, look: int) -> list[PlannedRun]:
        """The runs of a trial; none, if its values cannot be run, so that it has failed."""
        tasks = trial.study.looks[look]
        words = ["--num-tasks", str(tasks)] if tasks < trial.study.looks[-1] else []
        try:
            return self.plan.runs_of([trial.point], *words)
        except (ConfigError, SystemExit) as error:
            trial.fail(f"its values cannot be run: {error}")
            return []


def _carry_out(runs: Sequence[PlannedRun], engine: Engine, job: JobOf) -> list[Outcome]:
    """Do what is missing of these runs, which may be the same; what has failed, or has ended before its end."""
    found = {run.folder: run for run in runs}
    missing = {each.run.folder: each for each in progress_of([*found.values()]) if each.step < each.steps}
    jobs = {name: job(each.run) for name, each in missing.items()}
    failed = run_all([*jobs.values()], engine, "runs", missing)
    return failed + ended_early(found.values(), jobs, failed)


def _stopped(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.was_stopped for outcome in outcomes)


def _inner(settings: Any, key: str) -> Any:
    """The value of a setting by its dotted name; None, if there is none."""
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
