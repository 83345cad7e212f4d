"""The callback that measures and logs while an agent learns: returns, and metrics of its networks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from neoteny.agents import Continual
from neoteny.envs import Segment
from neoteny.envs.backends import choose
from neoteny.runners.dashboards import DASHBOARD, TABLE, numbered, record_look
from neoteny.runners.experiments import Experiment
from neoteny.runners.measures import HEADLINES, Panel, Prober, Recent, VisitMeasures, looks_per_task, measure, summary
from neoteny.runners.runs.display import Display

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
        self.panel = Panel(experiment.run.instruments, experiment.run.seed)
        self.begin_visit()

    def begin_visit(
        self,
        measures: Mapping[str, Any] | None = None,
        steps: int = 0,
        seconds: float = 0.0,
        switch: Mapping[str, float] | None = None,
        probe: Mapping[str, float] | None = None,
    ) -> None:
        """A visit begins, or goes on after what is given."""
        self.visit = VisitMeasures(measures)
        self.switch = dict(switch or {})
        self.probe = dict(probe or {})
        self.prober: Prober | None = None
        self.steps = steps
        self.seconds = seconds
        self.recent = Recent()

    def state(self) -> dict[str, Any]:
        """What :meth:`begin_visit` takes, to go on in another process."""
        state = {"measures": self.visit.state(), "steps": self.steps, "seconds": self.seconds}
        return state | {"switch": self.switch, "probe": self.probe}

    def begin_segment(self, segment: Segment) -> None:
        """A segment begins."""
        self.segment = segment
        self.panel.forget()
        self.looking, self.seen = False, dict[str, float]()
        self.display.task(segment.visit.index, segment.visit.label)
        self.started = time.perf_counter()
        self.logged, self.paid = self.steps, 0.0
        self.recent = Recent()

    def end_segment(self) -> None:
        """It has come to its end."""
        if self.prober:
            self.prober.finish()
            self.log_probe()
        self.seconds += time.perf_counter() - self.started
        self.visit.cut(self.steps, self.training_env.get_attr("tally")[0].ages)
        self.end_look()
        if self.steps % self.log_every:
            self.log_episodes()

    def _on_training_start(self) -> None:
        self.first_step = self.model.num_timesteps
        budget = self.experiment.budget(self.segment.visit)
        stretches = -(-budget // (self.log_every * self.experiment.agent.num_envs))
        self.look_every = -(-stretches // looks_per_task(self.agent, budget, self.experiment.rollout))
        if self.segment.start == 0 and self.experiment.probes(self.segment.visit):
            self.prober = Prober(self.agent, self.experiment.run.seed)

    def _on_rollout_start(self) -> None:
        if self.steps % self.log_every == 0:
            self.agent.check_finite()
            self.end_look()

    def _on_step(self) -> bool:
        self.steps += 1
        for info in filter(None, self.locals["infos"]):  # a game can also end where no episode does
            for name, value in self.visit.add(self.steps, info).items():
                length = info["episode" if name in ("return", "length") else "game"]["l"]
                self.recent.add(name, self.steps - length, value)
        if self.prober:
            self.prober.step()
            self.log_probe()
        return True

    def log_probe(self) -> None:
        """Log what the probe says, as soon as it does."""
        if self.prober and self.prober.found is not None:
            self.probe, self.prober = self.prober.found, None
            for name, value in self.probe.items():
                self.logger.record(f"probe/{name}", value)

    @property
    def agent(self) -> Continual:
        assert isinstance(self.model, Continual)
        return self.model

    def _on_rollout_end(self) -> None:
        logs = self.steps % self.log_every == 0
        if self._first_rollout_ends():
            self.switch = self.panel.at_switch(self.agent, self.steps)
            self._record(self.switch)
        if logs:
            self.log_episodes()
            self.logger.dump(self.num_timesteps)
        if self._visit_ends() or (logs and self.steps // self.log_every % self.look_every == 0):
            self.panel.begin(self.agent)
            self.looking = True

    def _first_rollout_ends(self) -> bool:
        """Whether this rollout is what switches are measured on: the first or, as agents with a replay buffer update
        after every few steps, those up to the first row of progress.csv.
        """
        if hasattr(self.agent, "rollout_buffer"):
            return self.steps == self.experiment.agent.rollout_length
        whole = self.experiment.budget(self.segment.visit) // self.training_env.num_envs
        return self.steps == min(self.log_every, whole)

    def _visit_ends(self) -> bool:
        """Whether this is the last rollout of the visit."""
        return self.steps * self.training_env.num_envs >= self.experiment.budget(self.segment.visit)

    def log_episodes(self) -> None:
        """Log what has ended, see :class:`~neoteny.runners.measures.Recent`."""
        record = self.logger.record
        label = self.segment.visit.label
        episodes, games = (self.steps - age for age in self.training_env.get_attr("tally")[0].ages)
        ended = self.recent.ended
        record("rollout/episodes", len(ended))
        if ended:
            record("rollout/return_of_ended", sum(ended) / len(ended))
        found = self.recent.take({"return": episodes, "length": episodes, "score": games, "success": games})
        found |= self._reward_rate()
        for name, value in found.items():
            record(f"rollout/{name}", value)
            if name in {"return", "score", "success", self.headline}:
                record(f"{name}/{label}", value, TABLE)
                record(f"{name}/{numbered(self.segment.visit.index, label)}", value, DASHBOARD)
        self.display.update(self.num_timesteps, found.get(self.headline))
        record("task/index", self.segment.visit.index)
        elapsed = time.perf_counter() - self.started
        record("time/steps_per_second", (self.num_timesteps - self.first_step) / elapsed)

    def _reward_rate(self) -> dict[str, float]:
        """The reward per environment step since the last time."""
        steps = (self.steps - self.logged) * self.training_env.num_envs
        if not steps:
            return {}
        before, self.paid = self.paid, float(self.training_env.get_attr("tally")[0].paid.sum())
        self.logged = self.steps
        self.visit.rate.add(steps, self.paid - before)
        return {"reward_rate": (self.paid - before) / steps}

    def end_look(self) -> None:
        """Log all metrics, if a look at the networks has begun: the updates on that rollout are done."""
        if self.looking:
            self.looking = False
            self.seen = self.panel.end(self.agent)
            record_look(self.logger, self.agent, self.seen, self.panel.spectra)
            self._record(measure(self.agent, self.experiment.run.metrics))

    def _record(self, found: Mapping[str, float]) -> None:
        for name, value in found.items():
            self.logger.record(name, value)

    def _firsts(self) -> dict[str, float]:
        """When the agent first did well in the visit that is over, in environment steps; logged too."""
        if "switch" not in self.panel.names:
            return {}
        firsts = self.visit.firsts(self.experiment.agent.rollout_length)
        found: dict[str, float] = {
            f"switch/{k}": int(v * self.training_env.num_envs) for k, v in firsts.items() if v is not None
        }
        self._record(found)
        return found

    def row(self, step: int) -> dict[str, Any]:
        """The line of the visit that is over in tasks.csv."""
        visit = self.segment.visit
        steps = self.experiment.budget(visit)
        return {
            "step": step,
            "task": visit.index,
            "name": visit.label,
            "steps": steps,
            "backend": choose(visit.task),
            "headline": self.headline,
            **self.visit.row(),
            **summary(self.seen),
            **{key.replace("/", "_"): value for key, value in (self.switch | self._firsts()).items()},
            **{f"probe_{name}": value for name, value in self.probe.items()},
            "acted_on": round(self.agent.acted_on(), 4),
            "updates": self.agent.updates,
            "seconds": round(self.seconds, 2),
            "steps_per_second": round(steps / self.seconds, 1),
        }
