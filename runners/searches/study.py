"""A study: the trials of one method, what is tried next, and which of them go on. Needs the extra ``optuna``."""

from __future__ import annotations

import json
import math
import statistics
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL

from neoteny.configs import ConfigError
from neoteny.runners.experiments.plan import Point
from neoteny.runners.experiments.sweeps import Search
from neoteny.runners.runs.folder import differing

optuna.logging.set_verbosity(optuna.logging.WARNING)

#: So many trials of a study are drawn evenly from the ranges; those after them near good ones.
STARTUP = 5
#: The settings of a study.
SETTINGS = "settings"
#: Why a trial has no value.
REASON = "reason"


class Row(NamedTuple):
    """A trial, as it is told of.

    Attributes:
        number: the first being 0.
        state: complete, pruned, failed, running or waiting.
        values: of the settings.
        seen: what it had reached after so many tasks.
        why: it has failed.
    """

    number: int
    state: str
    values: dict[str, float]
    seen: dict[int, float]
    why: str

    @property
    def has_ended(self) -> bool:
        return self.state in ("complete", "pruned", "failed")

    @property
    def reached(self) -> float | None:
        """What it had reached when it was looked at last."""
        return self.seen[max(self.seen)] if self.seen else None

    def __str__(self) -> str:
        values = ", ".join(f"{key.partition('.')[2]}={value:g}" for key, value in self.values.items())
        after = f"{self.reached:.4g} after {max(self.seen)} tasks" if self.seen else "nothing"
        return f"{values}: {after}{'' if self.state == 'complete' else f', {self.state}'}" + f" ({self.why})" * bool(
            self.why
        )


@dataclass
class Tried:
    """A trial that runs.

    Attributes:
        study: whose it is.
        trial: Optuna's.
    """

    study: Study
    trial: Trial

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def row(self) -> Row:
        return self.study.rows[self.number]

    @property
    def is_running(self) -> bool:
        return self.row.state == "running"

    @property
    def point(self) -> Point:
        """What is run."""
        return self.study.point.at(self.trial.params)

    def report(self, look: int, value: float) -> None:
        """Say what it has reached when it is looked at for the so many-th time. What is said first holds."""
        if not math.isfinite(value):
            self.fail(f"its mean is {value}")
        elif self.study.looks[look] not in self.row.seen:
            self.trial.report(value, self.study.looks[look])

    def decide(self, look: int) -> None:
        """End it, if that was the last look, or if it is below the median that earlier rounds had at this look.

        A process before this one may have looked at it later: then it has decided.
        """
        if not self.is_running:
            return
        seen, after = self.row.seen, self.study.looks[look]
        if after == self.study.looks[-1]:
            self.study.optuna.tell(self.number, seen[after])
        elif max(seen) == after:
            first = self.number - self.number % self.study.search.at_once
            before = [row.seen[after] for row in self.study.rows[:first] if after in row.seen]
            if before and seen[after] < statistics.median(before):
                self.study.optuna.tell(self.number, state=TrialState.PRUNED)

    def fail(self, why: str) -> None:
        """It cannot be run to its end."""
        self.trial.set_user_attr(REASON, why)
        self.study.optuna.tell(self.number, state=TrialState.FAIL)


class Study:
    """The trials of one point of the grid, whose settings have ranges. They are kept on disk.

    What is tried depends on the trials before and on ``search.seed``, not on when processes end and where runs are: the
    trials of a round are chosen together, when all before them have ended, and each has random numbers of its own.

    Args:
        name: of the study.
        point: of the grid.
        tasks: that a run has.
        search: how values are searched for.
        usual: what the presets have; where that is within the range, it is tried first.
        storage: where trials are kept.

    Attributes:
        looks: after so many tasks a trial is looked at, the last time after all.
    """

    def __init__(
        self, name: str, point: Point, tasks: int, search: Search, usual: Mapping[str, Any], storage: BaseStorage
    ):
        self.name, self.point, self.search = name, point, search
        self.ranges = point.ranges
        early = [max(1, tasks // 3)] if search.look_after is None else search.look_after
        self.looks = [*sorted({after for after in early if 0 < after < tasks}), tasks]
        self.optuna = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=NopPruner()
        )
        self._first = {key: usual[key] for key, range_ in self.ranges.items() if usual.get(key) in range_}

    def claim(self, settings: Mapping[str, Any], where: str) -> None:
        """Begin, or go on, with these settings, plain data.

        Args:
            settings: what its numbers depend on.
            where: it is, for the error.

        Raises:
            ConfigError: it was begun with others.
        """
        wanted = json.loads(json.dumps(dict(settings), default=str))
        there = self.optuna.user_attrs.get(SETTINGS)
        if there is None:
            self.optuna.set_user_attr(SETTINGS, wanted)
        elif differs := differing(there, wanted):
            raise ConfigError(f"{where} has a search of other settings: {differs}; choose another --out, or remove it")
        if self._first and not self._trials():
            self.optuna.enqueue_trial(self._first)

    def _trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    def take(self) -> list[Tried]:
        """The round that now runs: the trials of one that was stopped, or new ones."""
        begun = [trial for trial in self._trials() if trial.state != TrialState.WAITING]
        running = [trial for trial in begun if trial.state == TrialState.RUNNING]
        found = [self._with_values(Trial(self.optuna, trial._trial_id)) for trial in running]
        in_round = len(begun) % self.search.at_once
        if running and not in_round:
            return found
        end = min(len(begun) - in_round + self.search.at_once, self.search.trials)
        return found + [self._with_values(self.optuna.ask()) for _ in range(len(begun), end)]

    def _with_values(self, trial: Trial) -> Tried:
        """The trial with its values. Those that a process before this one has drawn it has already."""
        for key, range_ in self.ranges.items():
            seed = zlib.crc32(f"{self.name} {self.search.seed} {trial.number} {key}".encode())
            self.optuna.sampler = TPESampler(n_startup_trials=max(self.search.at_once, STARTUP), seed=seed)
            if range_.whole:
                trial.suggest_int(key, int(range_.low), int(range_.high), log=range_.log)
            else:
                trial.suggest_float(key, range_.low, range_.high, log=range_.log)
        return Tried(self, trial)

    @property
    def rows(self) -> list[Row]:
        """All trials."""
        return [
            Row(
                trial.number,
                "failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
                {key: self.ranges[key].rounded(value) for key, value in trial.params.items()},
                dict(trial.intermediate_values),
                trial.user_attrs.get(REASON, ""),
            )
            for trial in self._trials()
        ]

    @property
    def best(self) -> Row | None:
        """The complete trial that has reached most, the first of several; None before there is one."""
        complete = [row for row in self.rows if row.state == "complete"]
        return max(complete, key=lambda row: row.seen[self.looks[-1]], default=None)


def open_storage(file: Path) -> BaseStorage:
    """Trials on disk: SQLite, whose writes are whole or not there, however a process ends."""
    url = URL.create("sqlite", database=str(file)).render_as_string()
    return RDBStorage(url.replace("{", "{{").replace("}", "}}"))  # Optuna formats it
