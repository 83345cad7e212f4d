"""A run as a chain of segments.

Each segment begins with new environments and newly seeded generators, both functions of the run's seed and the
segment's place, and ends with a checkpoint. The state at its end is therefore a function of the configuration and the
checkpoint before: a run that is killed and started again gives the same numbers as one that never was.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from agents import CheckpointError, Continual
from configs import ConfigError, read_yaml
from envs import ContinualVecEnv, Segment, Visit
from plasticity import spectral_norms
from runners.display import Display
from runners.experiment import Experiment
from runners.records import Checkpoints, Events, Table, mean, read_rows, write_text
from runners.returns import Returns

#: Exact spectral norms are computed this often per task.
NORMS_PER_TASK = 10


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

    def begin_segment(self, segment: Segment, rollout_length: int, norms_every: int) -> None:
        self.segment = segment
        self.rollout_length = rollout_length
        self.norms_every = norms_every
        self.started = time.perf_counter()

    def _on_training_start(self) -> None:
        self.first_step = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
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
        if self.steps // self.rollout_length % self.norms_every == 0:
            self.log_networks()
        self.returns, self.lengths = [], []

    def log_networks(self) -> dict[str, float]:
        """Log the spectral norm of every trained layer, and what the methods have to say."""
        trained = {id(p) for o in self.agent.optimizers().values() for g in o.param_groups for p in g["params"]}
        norms = spectral_norms(self.agent.policy, trained)
        for name, norm in norms.items():
            self.logger.record(f"spectral_norm/{name}", norm)
        for role, method in self.agent.methods.items():
            for name, value in method.scalars().items():
                self.logger.record(f"reg/{role}/{name}", float(value))
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


class Chain:
    """One experiment in its run folder: begun, or gone on with where the last checkpoint was taken.

    Args:
        experiment: what to run.

    Raises:
        ConfigError: the folder holds a run of other settings.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.folder: Path = experiment.folder
        self.env = ContinualVecEnv(
            experiment.sequence,
            experiment.run.num_envs,
            experiment.run.seed,
            segment_steps=experiment.run.segment_steps,
            multiple_of=experiment.rollout,
        )
        self.segments = self.env.vector.segments
        self.checkpoints = Checkpoints(self.folder / "checkpoints")
        self._new_agent(0)  # what cannot be made says so before anything is written
        self._claim_folder()
        self.state = self.checkpoints.last() or {"segment": -1, "step": 0, "visit": {}}

    def _claim_folder(self) -> None:
        file = self.folder / "config.yaml"
        if file.exists():
            recorded = _flat(read_yaml(file))
            for key, value in _flat(self.experiment.plain).items():
                there = recorded.get(key)
                if there != value and key not in ("out", "device"):
                    raise ConfigError(
                        f"--out: {self.folder} holds a run of other settings: {key} is {there!r} there and {value!r} "
                        f"here; choose another --out, or remove it"
                    )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(file, yaml.safe_dump(self.experiment.plain, sort_keys=False, allow_unicode=True))
        self._lock = file.open()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"--out: another process is running in {self.folder}") from error

    @property
    def finished(self) -> bool:
        return self.state["segment"] + 1 == len(self.segments)

    @property
    def tasks(self) -> list[dict[str, str]]:
        """The rows of tasks.csv."""
        return read_rows(self.folder / "tasks.csv", self.state["step"])

    def agent_path(self) -> Path | None:
        """Where the last checkpoint's agent is, if there is one."""
        segment = self.state["segment"]
        return self.checkpoints.agent_path(segment) if segment >= 0 else None

    def run(self) -> None:
        """Learn segment after segment to the end of the sequence."""
        torch.set_num_threads(self.experiment.run.threads)
        step = self.state["step"]
        tasks = Table(self.folder / "tasks.csv", step)
        events = Events(self.folder, step)
        events.writer.add_text("config", f"```yaml\n{yaml.safe_dump(self.experiment.plain, sort_keys=False)}```")
        logger = Logger(str(self.folder), [Table(self.folder / "progress.csv", step), events])
        total = sum(segment.steps for segment in self.segments)
        try:
            with Display(total, step, len(self.experiment.sequence.visits)) as display:
                recorder = Recorder(display)
                recorder.begin_visit(**self.state["visit"])
                agent = self._resume() if self.state["segment"] >= 0 else None
                for segment in self.segments[self.state["segment"] + 1 :]:
                    agent = self._learn(segment, agent, recorder, logger, tasks)
        finally:
            logger.close()
            self.env.close()

    def _resume(self) -> Continual:
        path = self.agent_path()
        assert path is not None
        try:
            return self.experiment.algorithm.load(path, self.env, self.experiment.device)
        except CheckpointError as error:
            raise ConfigError(f"--out: this run cannot go on: {error}") from error

    def _new_agent(self, seed: int) -> Continual:
        try:
            return self.experiment.algorithm(
                "ActorCritic",
                self.env,
                reg=self.experiment.reg,
                seed=seed,
                device=self.experiment.device,
                **self.experiment.agent.arguments(),
            )
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"agent: cannot be made with these settings: {error}") from error

    def _learn(
        self, segment: Segment, agent: Continual | None, recorder: Recorder, logger: Logger, tasks: Table
    ) -> Continual:
        first_of_visit = segment.index == 0 or self.segments[segment.index - 1].ends_visit
        seed = segment.seed(self.experiment.run.seed)
        step = self.state["step"]
        if agent is None or (self.experiment.run.fresh and first_of_visit):
            agent = self._new_agent(seed)
            agent.num_timesteps = step
        elif first_of_visit:
            agent.on_switch()
        set_random_seed(seed)
        if agent._last_obs is None:
            self.env.seek(segment.index)  # learn() resets, and the segment begins
        agent.set_logger(logger)
        recorder.display.task(segment.visit.index, segment.visit.task.label)
        visit_rollouts = sum(s.steps for s in self.segments if s.visit == segment.visit) // self.experiment.rollout
        rollout_length = self.experiment.rollout // self.env.num_envs
        recorder.begin_segment(segment, rollout_length, max(1, visit_rollouts // NORMS_PER_TASK))
        try:
            agent.learn(segment.steps, callback=recorder, log_interval=1, reset_num_timesteps=False)
        except ValueError:
            agent.check_finite()  # a distribution refuses weights that have diverged: say that instead
            raise
        agent.check_finite()
        recorder.seconds += time.perf_counter() - recorder.started
        self._close_segment(segment, agent, recorder, logger, tasks)
        return agent

    def _close_segment(
        self, segment: Segment, agent: Continual, recorder: Recorder, logger: Logger, tasks: Table
    ) -> None:
        step = self.state["step"] + segment.steps
        recorder.visit_returns.cut(recorder.steps)
        visit: dict[str, Any] = {
            "ended": recorder.visit_returns.ended,
            "cuts": recorder.visit_returns.cuts,
            "steps": recorder.steps,
            "seconds": recorder.seconds,
        }
        if segment.ends_visit:
            steps = sum(s.steps for s in self.segments if s.visit == segment.visit)
            row = recorder.row(segment.visit, step, steps)
            tasks.add(row)
            recorder.display.task_done(row)
            for key in ("return_mean", "return_final"):
                logger.record(f"task/{key}", row[key])
            recorder.begin_visit()
            visit = {}
        logger.dump(step)
        if agent.ep_info_buffer is not None:
            agent.ep_info_buffer.clear()
        self.state = {"segment": segment.index, "step": step, "visit": visit}
        self.checkpoints.save(segment.index, agent, self.state)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
