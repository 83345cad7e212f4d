"""A run as a chain of segments.

Each segment begins with new environments and newly seeded generators, both functions of the run's seed and the
segment's place, and ends with a checkpoint. The state at its end is therefore a function of the configuration and the
checkpoint before: a run that is killed and started again gives the same numbers as one that never was.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from gymnasium.spaces import Box
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from neoteny.agents import CheckpointError, Continual
from neoteny.configs import ConfigError, read_yaml
from neoteny.envs import ContinualVecEnv, Segment
from neoteny.envs.shifts import describe
from neoteny.runners.display import Display
from neoteny.runners.experiment import Experiment
from neoteny.runners.recorder import Recorder
from neoteny.runners.records import Checkpoints, Events, Table, read_rows, write_text

#: Exact spectral norms are computed this often per task.
NORMS_PER_TASK = 10

#: At least so many environment steps lie between two rows of progress.csv.
LOG_EVERY = 1024


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
            experiment.agent.num_envs,
            experiment.run.seed,
            segment_steps=experiment.run.segment_steps,
            multiple_of=experiment.rollout,
            advance=False,
        )
        self.segments = experiment.sequence.segments(experiment.run.segment_steps, experiment.rollout)
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
            return self.experiment.algorithm.load(path, self._agent_env(), self.experiment.device)
        except CheckpointError as error:
            raise ConfigError(f"--out: this run cannot go on: {error}") from error

    def _agent_env(self) -> VecEnv:
        """The environments as the agent sees them: normalized, where its settings say so."""
        normalize = self.experiment.agent.normalize
        if not (normalize.observation or normalize.reward):
            return self.env
        space = self.env.observation_space
        if normalize.observation and not (isinstance(space, Box) and space.dtype.kind == "f"):
            raise ConfigError(
                f"agent.normalize.observation: real-valued observations are needed, the tasks have {describe(space)}"
            )
        return VecNormalize(
            self.env,
            norm_obs=normalize.observation,
            norm_reward=normalize.reward,
            gamma=self.experiment.agent.gamma,
        )

    def _new_agent(self, seed: int) -> Continual:
        env = self._agent_env()
        try:
            return self.experiment.algorithm(
                env=env,
                reg=self.experiment.reg,
                seed=seed,
                device=self.experiment.device,
                **self.experiment.agent.arguments(),
            )
        except (ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"agent: cannot be made with these settings: {reason}") from error

    def _learn(
        self, segment: Segment, agent: Continual | None, recorder: Recorder, logger: Logger, tasks: Table
    ) -> Continual:
        first_of_visit = segment.index == 0 or self.segments[segment.index - 1].ends_visit
        seed = segment.seed(self.experiment.run.seed)
        step = self.state["step"]
        hidden = self.experiment.sequence.switches == "hidden"
        if agent is None or (self.experiment.run.fresh and first_of_visit):
            agent = self._new_agent(seed)
            agent.num_timesteps = step
        elif first_of_visit and not hidden:
            agent.on_switch()
        visit_steps = sum(s.steps for s in self.segments if s.visit == segment.visit)
        if first_of_visit and (self.experiment.run.fresh or not hidden):
            agent.begin_task(visit_steps)
        elif segment.index == 0:
            agent.begin_task(sum(s.steps for s in self.segments))  # to the learner it is all one task
        set_random_seed(seed)
        agent.action_space.seed(seed)
        self.env.seek(segment.index)
        agent._last_obs = None  # learn() resets, and the segment begins
        agent.set_logger(logger)
        recorder.display.task(segment.visit.index, segment.visit.task.label)
        rollouts = -(-LOG_EVERY // self.experiment.rollout)
        recorder.begin_segment(
            segment,
            rollouts * self.experiment.agent.rollout_length,
            max(1, visit_steps // (rollouts * self.experiment.rollout * NORMS_PER_TASK)),
        )
        try:
            agent.learn(segment.steps, callback=recorder, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
        except (ValueError, RuntimeError):
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
        if recorder.steps % recorder.log_every:
            recorder.log_episodes()
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
        self.checkpoints.save(segment.index, agent, self.state, resumable=not self.finished)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
