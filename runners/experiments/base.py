"""What the experiments of every program have: how they are run, where their files are, how they become plain data."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator
from pydantic.dataclasses import dataclass

from neoteny.configs import ConfigError, class_name
from neoteny.envs import SHIFTS, Segment, Shift
from neoteny.runners.experiments.regs import Reg
from neoteny.runners.measures import find_metric

#: A run is a chain of at most so many segments, each of which ends with a checkpoint.
MOST_SEGMENTS = 1_000_000

#: Bytes of a label in a folder's name, which may have two of them; file systems take 255.
LONGEST = 120


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AnyRun:
    """How an experiment is run, whatever the program.

    Attributes:
        seed: of the run: of its networks, its environments, its minibatches.
        device: where networks are trained: auto, cpu, cuda, cuda:1, ...
        out: the folder that run folders are made in.
        fresh: begin every task with a new agent instead of the one that learned the tasks before it.
        threads: torch's threads. Part of the result: other counts sum in another order.
        precision: of products of float32 matrices, in torch's words: highest, high or medium. Part of the result:
            medium rounds to bfloat16 where that is faster (some processors, GPUs); elsewhere it is about as highest.
        segment_steps: a checkpoint is written at least this often, in steps.
        metrics: functions of your own that read numbers off the agent several times in each task, as module:function.
        wandb: the project on Weights & Biases that gets all that TensorBoard gets; needs pip install 'neoteny[wandb]'.
        keep_agents: keep the agent of each task's end in the run's folder, as agents/task-0001.safetensors, …
    """

    seed: NonNegativeInt = 0
    device: str = "auto"
    out: str = "runs"
    fresh: bool = False
    threads: Annotated[PositiveInt, Field(le=1024)] = 1
    precision: Literal["highest", "high", "medium"] = "highest"
    segment_steps: PositiveInt = 200_000
    metrics: tuple[str, ...] = ()
    wandb: str | None = None
    keep_agents: bool = False

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            find_metric(name)
        return names


class AnyExperiment(ABC):
    """Everything that decides a run's numbers.

    Attributes:
        sequence: the tasks.
        reg: a plasticity method for the whole agent, one per role, or None.
        run: how it is run.
        labels: what env, agent and reg are called, overrides included: the run folder's path.
    """

    sequence: Any
    reg: Reg
    run: Any
    labels: dict[str, str]

    @property
    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """The experiment as nested plain data, complete: what ``config.yaml`` holds."""

    @property
    @abstractmethod
    def budgets(self) -> Iterable[tuple[int, int]]:
        """Of each visit its steps, and the steps of which its segments are multiples."""

    @property
    @abstractmethod
    def segments(self) -> list[Segment]:
        """What the run is a chain of."""

    @property
    def evaluates(self) -> bool:
        """Whether it is also evaluated on all tasks after each."""
        return False

    @property
    def folder(self) -> Path:
        """Where the run's files are: out/env/agent-reg/seed-s."""
        fresh = ",fresh" if self.run.fresh else ""
        name = f"{short(self.labels['agent'])}{fresh}-{short(self.labels['reg'])}"
        return Path(self.run.out) / short(self.labels["env"]) / name / f"seed-{self.run.seed}"

    def with_run(self, **changes: Any) -> Self:
        """The same, run otherwise."""
        run = dataclasses.replace(self.run, **changes)
        return dataclasses.replace(self, run=run)  # type: ignore[type-var]

    @property
    def device(self) -> torch.device:
        return find_device(self.run.device)

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
        each = self.run.segment_steps
        count = sum(-(-steps // (max(1, each // multiple) * multiple)) for steps, multiple in self.budgets)
        if count > MOST_SEGMENTS:
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
