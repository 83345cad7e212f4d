"""An experiment: what is run, complete and validated, and what it is run with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

from gymnasium.spaces import Box
from pydantic import ConfigDict, PositiveFloat, PositiveInt, field_validator
from pydantic.dataclasses import dataclass
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from neoteny.agents import AGENTS, Continual
from neoteny.configs import ConfigError, class_name
from neoteny.envs import ContinualVecEnv, Segment, TaskSequence, Visit
from neoteny.envs.shifts import describe
from neoteny.runners.experiments.base import AnyExperiment, AnyRun, plain
from neoteny.runners.experiments.callbacks import find_callback
from neoteny.runners.experiments.regs import Reg, settings
from neoteny.runners.measures import chosen

#: Tasks of so many environment steps are long enough for the probe, unless the run says otherwise.
PROBED = 1_000_000


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Run(AnyRun):
    """How an experiment is run.

    Attributes:
        segment_steps: a checkpoint is written at least this often, in environment steps; episodes running at that
            moment end truncated. A sequence of slow environments can say another default.
        timeout: seconds within which the processes of backend async have to answer.
        keep_agents: keep the agent of each task's end in the run's folder, as agents/task-0001.safetensors, …, to be
            evaluated or learned on from. On disk, for each task: the weights with the optimizer's state, about three
            times the weights; and the replay buffer, if there is one, as far as it is filled.
        evaluate_all: evaluate the agent after each task on every task of the sequence, and the new agent before the
            first: a matrix, in evaluations.csv. Training is the same without. It takes (visits + 1) times (different
            tasks) times evaluate_episodes games.
        evaluate_episodes: games of each of these evaluations.
        callback: stable-baselines3 callbacks of your own, as module:Class, made without arguments; the option can be
            given several times. One that returns False stops the run, which the same command goes on with from the
            last checkpoint.
        instruments: what is measured of networks and at switches: default, none, or some of spectra, units, gradients,
            policy, updates, switch. Training is the same with and without.
        probe: at the beginning of a task, fit random targets with the agent's networks and with fresh ones: on, off, or
            auto for tasks of at least a million environment steps, of whose time it takes little.
    """

    timeout: PositiveFloat = 300.0
    probe: Literal["auto", "on", "off"] = "auto"
    callback: tuple[str, ...] = ()
    evaluate_all: bool = False
    evaluate_episodes: PositiveInt = 20
    instruments: tuple[str, ...] = ("default",)

    @field_validator("callback")
    @classmethod
    def _are_callbacks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find_callback(name)
        return names

    @field_validator("instruments")
    @classmethod
    def _are_there(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        chosen(names)
        return names


@dataclasses.dataclass(frozen=True)
class Experiment(AnyExperiment):
    """Everything that decides a run's numbers.

    Attributes:
        sequence: the tasks.
        algorithm: the agent's class, and ``agent`` its settings.
        reg: a plasticity method for the whole agent, one per role, or None.
        run: how it is run.
        labels: what env, agent and reg are called, overrides included: the run folder's path.
    """

    sequence: TaskSequence
    algorithm: type[Continual]
    agent: Any
    reg: Reg
    run: Run
    labels: dict[str, str]

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The experiment as nested plain data, complete: what ``config.yaml`` holds.

        :func:`~neoteny.runners.experiments.from_plain` is the way back.
        """
        return {
            "env": {"fingerprint": self.sequence.fingerprint(), **plain(self.sequence)},
            "agent": {"algorithm": class_name(self.algorithm, AGENTS), **plain(self.agent)},
            "reg": plain(settings(self.reg)),
            **plain(self.run),
            "labels": dict(self.labels),
        }

    @property
    def rollout(self) -> int:
        """Environment steps between two updates."""
        return int(self.agent.rollout_length * self.agent.num_envs)

    @property
    def evaluates(self) -> bool:
        return self.run.evaluate_all

    @property
    def budgets(self) -> Iterable[tuple[int, int]]:
        return ((self.budget(visit), self.rollout) for visit in self.sequence.visits)

    @cached_property
    def segments(self) -> list[Segment]:
        """What the run is a chain of."""
        return self.sequence.segments(self.run.segment_steps, self.rollout)

    def budget(self, visit: Visit) -> int:
        """The environment steps of a visit: its task's, rounded up to whole rollouts."""
        return visit.budget(self.rollout)

    def probes(self, visit: Visit) -> bool:
        """Whether the agent is probed when it goes into a visit."""
        return self.run.probe == "on" or (self.run.probe == "auto" and visit.task.steps >= PROBED)

    def make_env(self, num_envs: int | None = None, render_mode: str | None = None) -> ContinualVecEnv:
        """The environments of all tasks: as many as the agent learns in, or another number.

        Raises:
            ConfigError: one cannot be made, or not rendered.
        """
        count = num_envs or self.agent.num_envs
        try:
            return ContinualVecEnv(
                self.sequence,
                count,
                self.run.seed,
                segment_steps=self.run.segment_steps,
                multiple_of=self.rollout,
                advance=False,
                timeout=self.run.timeout,
                render_mode=render_mode,
            )
        except (MemoryError, OverflowError) as error:
            raise ConfigError(f"agent.num_envs: {count} environments need more memory than there is") from error

    def as_seen(self, env: ContinualVecEnv) -> VecEnv:
        """The environments as the agent sees them: normalized, where its settings say so.

        Raises:
            ConfigError: the observations cannot be normalized.
        """
        normalize = self.agent.normalize
        if not (normalize.observation or normalize.reward):
            return env
        space = env.observation_space
        if normalize.observation and not (isinstance(space, Box) and space.dtype.kind == "f"):
            raise ConfigError(
                f"agent.normalize.observation: real-valued observations are needed, the tasks have {describe(space)}"
            )
        return VecNormalize(env, norm_obs=normalize.observation, norm_reward=normalize.reward, gamma=self.agent.gamma)

    def make_agent(self, env: ContinualVecEnv, seed: int) -> Continual:
        """An agent that has learned nothing.

        Raises:
            ConfigError: it cannot be made with its settings in these environments.
        """
        seen = self.as_seen(env)
        settings = self.agent.arguments()
        try:
            return self.algorithm(env=seen, reg=self.reg, seed=seed, device=self.device, **settings)
        except (ValueError, AssertionError, TypeError, ArithmeticError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"agent: cannot be made with these settings: {reason}") from error
