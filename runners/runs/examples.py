"""The recorder of networks that learn from examples: what is measured and logged while they do."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger

from neoteny.agents.supervised import Examples, Learner
from neoteny.agents.supervised.learner import Seen
from neoteny.envs import Segment
from neoteny.runners.dashboards import DASHBOARD, TABLE, numbered, record_look
from neoteny.runners.experiments.supervised import SupervisedExperiment
from neoteny.runners.measures import HEADLINES, OF_NETWORKS, Panel, logged, looks_per_task, measure, summary
from neoteny.runners.measures.curves import mean_and_error
from neoteny.runners.runs.display import Display
from neoteny.runners.runs.recorder import LOG_EVERY

#: The score at which a task counts as learned, for the steps that it takes.
ENOUGH = 0.9


class ExamplesRecorder:
    """Measures a visit, pass by pass, and logs that.

    Args:
        experiment: what is run.
        display: shows how far it is.
    """

    def __init__(self, experiment: SupervisedExperiment, display: Display):
        self.experiment, self.display = experiment, display
        self.headline = HEADLINES[experiment.sequence.score]
        self.panel = Panel(experiment.run.instruments, experiment.run.seed, OF_NETWORKS)
        self.begin_visit()

    def begin_visit(
        self, passes: Sequence[Sequence[float]] = (), begin: Sequence[float] = (), seconds: float = 0.0
    ) -> None:
        """A visit begins, or goes on after what is given.

        Args:
            passes: of each pass so far the mean score and the mean loss, as the network was about to learn.
            begin: the mean score before anything was learned, and its standard error.
            seconds: so far.
        """
        self.passes = [list(each) for each in passes]
        self.begin = list(begin)
        self.seconds = seconds

    def state(self) -> dict[str, Any]:
        """What :meth:`begin_visit` takes, to go on in another process."""
        return {"passes": self.passes, "begin": self.begin, "seconds": self.seconds}

    def begin_segment(
        self, segment: Segment, learner: Learner, train: Examples, test: Examples | None, logger: Logger
    ) -> None:
        """A segment begins.

        Args:
            segment: what is learned.
            learner: who learns.
            train: the examples of the task.
            test: its test examples, if there are any.
            logger: where it is logged.
        """
        self.segment, self.learner, self.logger = segment, learner, logger
        self.train, self.test = train, test
        self.panel.forget()
        self.seen = dict[str, float]()
        self.display.task(segment.visit.index, segment.visit.label)
        self.started, self.first = time.perf_counter(), len(self.passes)
        steps = segment.visit.task.steps
        self.total = steps // len(train)
        self.log_every = -(-LOG_EVERY // len(train))
        rows = -(-self.total // self.log_every)
        self.look_every = -(-rows // looks_per_task(learner, steps, len(train)))
        if not self.begin:
            self.begin = list(self._score(train))

    def _score(self, examples: Examples) -> tuple[float, float]:
        """The mean score of examples, and its standard error."""
        return mean_and_error(self.learner.look(examples).scores.double().cpu().numpy())

    @property
    def _logs(self) -> bool:
        """Whether the pass that has just ended is one that is logged."""
        return len(self.passes) % self.log_every == 0 or len(self.passes) == self.total

    def begin_pass(self) -> None:
        """A pass through the examples begins; at some of them the network is looked at."""
        number = len(self.passes) + 1
        if number == self.total or (number % self.log_every == 0 and number // self.log_every % self.look_every == 0):
            self.panel.begin(self.learner)

    def end_pass(self, seen: Seen, last: bool) -> None:
        """It has come to its end.

        Args:
            seen: what the network said, as it was about to learn.
            last: whether it is the last of the segment.
        """
        self.passes.append([float(seen.scores.mean()), self.learner.loss])
        if self.panel.begun:
            self.seen = self.panel.end(self.learner)
            record_look(self.logger, self.learner, self.seen, self.panel.spectra)
            for name, value in measure(self.learner, self.experiment.run.metrics).items():
                self.logger.record(name, value)
        if self._logs or last:
            self.learner.check_finite()
            self._log()
            if not last:
                self.logger.dump(self.learner.num_timesteps)

    def _log(self) -> None:
        record, (score, loss) = self.logger.record, self.passes[-1]
        label = self.segment.visit.label
        record(logged(self.headline), score)
        record("train/loss", loss)
        record(f"{self.headline}/{label}", score, TABLE)
        record(f"{self.headline}/{numbered(self.segment.visit.index, label)}", score, DASHBOARD)
        record("task/index", self.segment.visit.index)
        steps = (len(self.passes) - self.first) * len(self.train)
        record("time/steps_per_second", steps / (time.perf_counter() - self.started))
        self.display.update(self.learner.num_timesteps, score)

    def end_segment(self) -> None:
        """A segment has come to its end."""
        self.seconds += time.perf_counter() - self.started

    def row(self, step: int) -> dict[str, Any]:
        """The line of the visit that is over in tasks.csv."""
        name, steps = self.headline, self.segment.visit.task.steps
        scores = np.array([score for score, _ in self.passes])
        enough = np.flatnonzero(scores >= ENOUGH)
        final, error = self._score(self.train)
        return {
            "step": step,
            "task": self.segment.visit.index,
            "name": self.segment.visit.label,
            "steps": steps,
            "passes": self.total,
            "headline": name,
            f"{name}_mean": float(scores.mean()),
            f"{name}_begin": self.begin[0],
            f"{name}_begin_error": self.begin[1],
            f"{name}_final": final,
            f"{name}_final_error": error,
            f"test_{name}_final": self._score(self.test)[0] if self.test else math.nan,
            "loss_final": self.passes[-1][1],
            "steps_to_90": int(enough[0] + 1) * len(self.train) if len(enough) else math.nan,
            **summary(self.seen),
            "acted_on": round(self.learner.acted_on(), 4),
            "seconds": round(self.seconds, 2),
            "steps_per_second": round(steps / self.seconds, 1),
        }
