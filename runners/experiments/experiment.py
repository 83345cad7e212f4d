"""An experiment: what is run, complete and validated, and what it is run with."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from gymnasium.spaces import Box
from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator
from pydantic.dataclasses import dataclass
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from neoteny.agents import AGENTS, Continual
from neoteny.configs import ConfigError, class_name
from neoteny.envs import SHIFTS, ContinualVecEnv, Segment, Shift, TaskSequence, Visit
from neoteny.envs.shifts import describe
from neoteny.runners.experiments.callbacks import find_callback
from neoteny.runners.experiments.regs import Reg, settings
from neoteny.runners.measures import chosen, find_metric

#: Tasks of so many environment steps are long enough for the probe, unless the run says otherwise.
PROBED = 1_000_000

#: A run is a chain of at most so many segments, each of which ends with a checkpoint.
MOST_SEGMENTS = 1_000_000

#: Bytes of a label in a folder's name, which may have two of them; file systems take 255.
LONGEST = 120


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Run:
    """How an experiment is run.

    Attributes:
        seed: of the run: of its networks, its environments, its minibatches.
        device: where networks are trained: auto, cpu, cuda, cuda:1, ...
        out: the folder that run folders are made in.
        fresh: begin every task with a new agent instead of the one that learned the tasks before it.
        threads: torch's threads. Part of the result: other counts sum in another order.
        precision: of products of float32 matrices, in torch's words: highest, high or medium. Part of the result:
            medium rounds to bfloat16 where that is faster (some processors, GPUs); elsewhere it is about as highest.
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
        metrics: functions of your own that read numbers off the agent several times in each task, as module:function.
        callback: stable-baselines3 callbacks of your own, as module:Class, made without arguments; the option can be
            given several times. One that returns False stops the run, which the same command goes on with from the
            last checkpoint.
        wandb: the project on Weights & Biases that gets all that TensorBoard gets; needs pip install 'neoteny[wandb]'.
        instruments: what is measured of networks and at switches: default, none, or some of spectra, units, gradients,
            policy, updates, switch. Training is the same with and without.
        probe: at the beginning of a task, fit random targets with the agent's networks and with fresh ones: on, off, or
            auto for tasks of at least a million environment steps, of whose time it takes little.
    """

    seed: NonNegativeInt = 0
    device: str = "auto"
    out: str = "runs"
    fresh: bool = False
    threads: Annotated[PositiveInt, Field(le=1024)] = 1
    precision: Literal["highest", "high", "medium"] = "highest"
    segment_steps: PositiveInt = 200_000
    timeout: PositiveFloat = 300.0
    probe: Literal["auto", "on", "off"] = "auto"
    metrics: tuple[str, ...] = ()
    callback: tuple[str, ...] = ()
    wandb: str | None = None
    keep_agents: bool = False
    evaluate_all: bool = False
    evaluate_episodes: PositiveInt = 20
    instruments: tuple[str, ...] = ("default",)

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find_metric(name)
        return names

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
class Experiment:
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
    def folder(self) -> Path:
        """Where the run's files are: out/env/agent-reg/seed-s."""
        fresh = ",fresh" if self.run.fresh else ""
        name = f"{short(self.labels['agent'])}{fresh}-{short(self.labels['reg'])}"
        return Path(self.run.out) / short(self.labels["env"]) / name / f"seed-{self.run.seed}"

    @property
    def device(self) -> torch.device:
        return find_device(self.run.device)

    @property
    def rollout(self) -> int:
        """Environment steps between two updates."""
        return int(self.agent.rollout_length * self.agent.num_envs)

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

    def set_up_torch(self) -> None:
        """Set what is this process's and part of the result: threads, precision, no denormal numbers."""
        torch.set_num_threads(self.run.threads)
        torch.set_float32_matmul_precision(self.run.precision)
        torch.set_flush_denormal(True)  # moments of weights without a gradient end there, and Adam is twice as slow

    def check(self) -> None:
        """Whatever can only be known by asking the machine, or of all settings together.

        Raises:
            ConfigError: the device or wandb is not there, the folder cannot be written, or the run would never end.
        """
        find_device(self.run.device)
        longest = max(1, self.run.segment_steps // self.rollout) * self.rollout
        if (count := sum(-(-self.budget(visit) // longest) for visit in self.sequence.visits)) > MOST_SEGMENTS:
            raise ConfigError(
                f"--segment-steps: a run has at most {MOST_SEGMENTS:,} segments, these would be {count:,}; "
                f"take longer ones, or tasks of fewer steps"
            )
        if "\0" in str(self.folder):
            raise ConfigError(f"--out: {str(self.folder)!r} cannot be written (a path has no null bytes)")
        if self.run.wandb is not None and importlib.util.find_spec("wandb") is None:
            raise ConfigError("--wandb: the package wandb is not installed: pip install 'neoteny[wandb]'")
        try:
            parent = self.folder.absolute()
            while not parent.exists():
                parent = parent.parent
            writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
        except OSError as error:
            raise ConfigError(f"--out: {self.folder} cannot be written ({error.strerror})") from error
        if not writable:
            raise ConfigError(f"--out: {self.run.out!r} cannot be written ({parent} is not a writable folder)")


def short(name: str) -> str:
    """A label that a file system takes: one that is too long ends in a hash of the whole, which config.yaml has."""
    if len(name.encode()) <= LONGEST:
        return name
    return name.encode()[: LONGEST - 9].decode(errors="ignore") + "~" + hashlib.sha256(name.encode()).hexdigest()[:8]


def find_device(name: str) -> torch.device:
    """The device that is called ``name``; ``auto`` is a GPU where there is one.

    Raises:
        ConfigError: it is not there.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigError(f"--device: {name!r} is not there; this machine has {', '.join(here)}") from error
    return device


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as nested plain data, for YAML, from which they can be built again."""
    if hasattr(value, "plain"):
        return plain(value.plain())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = {"shift": class_name(type(value), SHIFTS)} if isinstance(value, Shift) else {}
        return name | {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
