"""What is measured while an agent learns: returns, spectral norms, and what the methods have to say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from neoteny.agents import Continual
from neoteny.envs import Segment, Visit
from neoteny.plasticity import spectral_norms
from neoteny.runners.display import Display
from neoteny.runners.records import mean
from neoteny.runners.returns import Returns


class Recorder(BaseCallback):
    """Collects the returns of a visit, rollout by rollout, and logs them with everything else."""

    def __init__(self, display: Display):
        super().__init__()
        self.display = display
        self.begin_visit()

    def begin_visit(
        self,
        ended: Sequence[Sequence[float]] = (),
        cuts: Sequence[int] = (),
        steps: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """A visit begins, or goes on after what is given."""
        self.visit_returns = Returns(ended, cuts)
        self.steps = steps
        self.seconds = seconds
        self.returns: list[float] = []
        self.lengths: list[int] = []

    def begin_segment(self, segment: Segment, log_every: int, norms_every: int) -> None:
        """A segment begins; ``log_every`` is in steps of one environment, ``norms_every`` in those stretches."""
        self.segment = segment
        self.log_every = log_every
        self.norms_every = norms_every
        self.started = time.perf_counter()

    def _on_training_start(self) -> None:
        self.first_step = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.steps % self.log_every == 0:
            self.agent.check_finite()

    def _on_step(self) -> bool:
        self.steps += 1
        dones = self.locals["dones"]
        if dones.any():
            infos = self.locals["infos"]
            for episode in (infos[i]["episode"] for i in np.flatnonzero(dones) if "episode" in infos[i]):
                self.visit_returns.add(self.steps, episode["l"], episode["r"])
                self.returns.append(episode["r"])
                self.lengths.append(episode["l"])
        return True

    @property
    def agent(self) -> Continual:
        assert isinstance(self.model, Continual)
        return self.model

    def _on_rollout_end(self) -> None:
        if self.steps % self.log_every == 0:
            self.log_episodes()
            if self.steps // self.log_every % self.norms_every == 0:
                self.log_networks()
            self.logger.dump(self.num_timesteps)

    def log_episodes(self) -> None:
        """Log what has ended since the last time."""
        record = self.logger.record
        if self.returns:
            record("rollout/return", mean(self.returns))
            record("rollout/length", mean(self.lengths))
            record(f"return/{self.segment.visit.task.label}", mean(self.returns))
            self.display.update(self.num_timesteps, mean(self.returns))
        else:
            self.display.update(self.num_timesteps)
        record("rollout/episodes", len(self.returns))
        record("task/index", self.segment.visit.index)
        elapsed = time.perf_counter() - self.started
        record("time/steps_per_second", (self.num_timesteps - self.first_step) / elapsed)
        self.returns, self.lengths = [], []

    def log_networks(self) -> dict[str, float]:
        """Log the spectral norm of every trained layer, and what methods and optimizers have to say."""
        held = [p for o in self.agent.optimizers().values() for group in o.param_groups for p in group["params"]]
        norms = spectral_norms(self.agent.policy, {id(p) for p in held if p.requires_grad})
        for name, norm in norms.items():
            self.logger.record(f"spectral_norm/{name}", norm)
        for role, method in self.agent.methods.items():
            for name, value in method.scalars().items():
                self.logger.record(f"reg/{role}/{name}", float(value))
        for role, optimizer in self.agent.optimizers().items():
            for name, value in getattr(optimizer, "scalars", dict)().items():
                self.logger.record(f"optimizer{role.replace('.', '/')}/{name}", float(value))
        return norms

    def row(self, visit: Visit, step: int, steps: int) -> dict[str, Any]:
        """The visit's line in tasks.csv."""
        norms = self.log_networks()
        return {
            "step": step,
            "task": visit.index,
            "name": visit.task.label,
            "steps": steps,
            "episodes": len(self.visit_returns.ended),
            **self.visit_returns.summary(),
            "spectral_norm_max": max(norms.values()),
            "seconds": round(self.seconds, 2),
            "steps_per_second": round(steps / self.seconds, 1),
        }
