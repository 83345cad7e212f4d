"""The callback that measures and logs while an agent learns: returns, and metrics of its networks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from neoteny.agents import Continual
from neoteny.envs import Segment
from neoteny.runners.experiments import Experiment
from neoteny.runners.measures import HEADLINES, VisitMeasures, measure
from neoteny.runners.runs.display import Display

#: Networks are looked at this often per task.
LOOKS_PER_TASK = 10

#: At least so many environment steps lie between two rows of progress.csv.
LOG_EVERY = 1024


class Recorder(BaseCallback):
    """Measures a visit, rollout by rollout, and logs that with everything else."""

    def __init__(self, experiment: Experiment, display: Display):
        super().__init__()
        self.experiment = experiment
        self.display = display
        self.headline = HEADLINES[experiment.sequence.score]
        rollouts = -(-LOG_EVERY // experiment.rollout)
        self.log_every = rollouts * experiment.agent.rollout_length  # steps of one environment
        self.begin_visit()

    def begin_visit(self, measures: Mapping[str, Any] | None = None, steps: int = 0, seconds: float = 0.0) -> None:
        """A visit begins, or goes on after what is given."""
        self.visit = VisitMeasures(measures)
        self.steps = steps
        self.seconds = seconds
        self.ended: dict[str, list[float]] = {}

    def state(self) -> dict[str, Any]:
        """What :meth:`begin_visit` takes, to go on in another process."""
        return {"measures": self.visit.state(), "steps": self.steps, "seconds": self.seconds}

    def begin_segment(self, segment: Segment) -> None:
        """A segment begins."""
        self.segment = segment
        stretches = self.experiment.budget(segment.visit) // (self.log_every * self.experiment.agent.num_envs)
        self.look_every = max(1, stretches // LOOKS_PER_TASK)
        self.display.task(segment.visit.index, segment.visit.label)
        self.started = time.perf_counter()
        self.logged, self.paid = self.steps, 0.0

    def end_segment(self) -> None:
        """It has come to its end."""
        self.seconds += time.perf_counter() - self.started
        self.visit.cut(self.steps)
        if self.steps % self.log_every:
            self.log_episodes()

    def _on_training_start(self) -> None:
        self.first_step = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.steps % self.log_every == 0:
            self.agent.check_finite()

    def _on_step(self) -> bool:
        self.steps += 1
        for info in filter(None, self.locals["infos"]):  # a game can also end where no episode does
            for name, value in self.visit.add(self.steps, info).items():
                self.ended.setdefault(name, []).append(value)
        return True

    @property
    def agent(self) -> Continual:
        assert isinstance(self.model, Continual)
        return self.model

    def _on_rollout_end(self) -> None:
        if self.steps % self.log_every == 0:
            self.log_episodes()
            if self.steps // self.log_every % self.look_every == 0:
                self.log_networks()
            self.logger.dump(self.num_timesteps)

    def log_episodes(self) -> None:
        """Log what has ended since the last time."""
        record = self.logger.record
        label = self.segment.visit.label
        found = {name: mean(values) for name, values in self.ended.items()}
        found |= self._reward_rate()
        for name, value in found.items():
            record(f"rollout/{name}", value)
            if name in ("return", "score", "success"):
                record(f"{name}/{label}", value)
        self.display.update(self.num_timesteps, found.get(self.headline))
        record("rollout/episodes", len(self.ended.get("return", ())))
        record("task/index", self.segment.visit.index)
        elapsed = time.perf_counter() - self.started
        record("time/steps_per_second", (self.num_timesteps - self.first_step) / elapsed)
        self.ended = {}

    def _reward_rate(self) -> dict[str, float]:
        """The reward per environment step since the last time."""
        steps = (self.steps - self.logged) * self.training_env.num_envs
        if not steps:
            return {}
        before, self.paid = self.paid, float(self.training_env.get_attr("tally")[0].paid.sum())
        self.logged = self.steps
        self.visit.rate.add(steps, self.paid - before)
        return {"reward_rate": (self.paid - before) / steps}

    def log_networks(self) -> dict[str, float]:
        """Log all metrics."""
        found = measure(self.agent, self.experiment.run.metrics)
        for name, value in found.items():
            self.logger.record(name, value)
        return found

    def row(self, step: int) -> dict[str, Any]:
        """The line of the visit that is over in tasks.csv."""
        visit = self.segment.visit
        steps = self.experiment.budget(visit)
        norms = [value for name, value in self.log_networks().items() if name.startswith("spectral_norm/")]
        return {
            "step": step,
            "task": visit.index,
            "name": visit.label,
            "steps": steps,
            "headline": self.headline,
            **self.visit.row(),
            "spectral_norm_max": max(norms),
            "acted_on": round(self.agent.acted_on(), 4),
            "updates": self.agent.updates,
            "seconds": round(self.seconds, 2),
            "steps_per_second": round(steps / self.seconds, 1),
        }


def mean(values: Iterable[float]) -> float:
    """The mean, or NaN of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else float("nan")
