"""A run on disk."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from neoteny.agents import Continual
from neoteny.configs import ConfigError, dump_yaml, read_yaml
from neoteny.runners.runs.checkpoints import Checkpoints
from neoteny.runners.runs.tables import Table, read_rows, write_text

#: Settings that a run may be gone on with otherwise, and those that go with its length.
MAY_DIFFER = (
    *("out", "device", "timeout", "labels"),
    *("metrics", "instruments", "probe", "keep_agents", "evaluate_all", "evaluate_episodes"),
)
LENGTH = ("env.num_tasks", "env.fingerprint")


class RunFolder:
    """The folder of a run, claimed: this process runs in it and no other, until it ends.

    It holds ``config.yaml`` (the complete settings), ``tasks.csv``, ``progress.csv``, TensorBoard events,
    ``checkpoints/`` and, with ``--keep-agents``, ``agents/``. A table's rows and the events beyond the last checkpoint
    are dropped when the run goes on.

    Args:
        path: the folder; made, if it is not there.
        settings: of the run, as plain data.

    Attributes:
        state: what the last checkpoint was taken with: the ``segment`` (-1: there is none), the ``step`` and what the
            recorder has of a ``visit`` that is not over.

    Raises:
        ConfigError: the folder holds a run of other settings, or another process runs in it.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.settings = settings
        self.checkpoints = Checkpoints(path / "checkpoints")
        self._claim()
        self.state: dict[str, Any] = self.checkpoints.last() or {"segment": -1, "step": 0, "visit": {}}

    def _claim(self) -> None:
        file = self.path / "config.yaml"
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"--out: another process is running in {self.path}") from error
        if file.exists():
            compare(self.path, self.settings)
        else:
            write_text(file, self._yaml())

    def _yaml(self) -> str:
        return dump_yaml(dict(self.settings))

    @property
    def agent(self) -> Path | None:
        """Where the last checkpoint's agent is, if there is one."""
        segment = self.state["segment"]
        return self.checkpoints.agent_path(segment) if segment >= 0 else None

    @property
    def tasks(self) -> list[dict[str, str]]:
        """The rows of ``tasks.csv``, up to the last checkpoint."""
        return read_rows(self.path / "tasks.csv", self.state["step"])

    @contextmanager
    def writing(self) -> Iterator[tuple[Table, Logger]]:
        """``tasks.csv``, and the logger that writes ``progress.csv`` and TensorBoard events.

        From now on ``config.yaml`` has the settings that the run goes on with.
        """
        write_text(self.path / "config.yaml", self._yaml())
        step = self.state["step"]
        tasks = Table(self.path / "tasks.csv", step)
        events = Events(self.path, step)
        events.writer.add_text("config", f"```yaml\n{self._yaml()}```")
        logger = Logger(str(self.path), [Table(self.path / "progress.csv", step), events])
        try:
            yield tasks, logger
        finally:
            logger.close()

    def keep(self, agent: Continual, visit: int) -> None:
        """Keep the agent as it is after the visit with this index, replay buffer included, for good."""
        agent.save(kept_agent(self.path, visit + 1), replay=True)

    def save(self, agent: Continual, state: dict[str, Any]) -> None:
        """Take a checkpoint."""
        self.checkpoints.save(state["segment"], agent, state)
        self.state = state


def compare(folder: Path, settings: Mapping[str, Any]) -> None:
    """Whether a run of these settings, plain data, may go on in a folder that holds one.

    Raises:
        ConfigError: that one has other settings.
    """
    recorded, wanted = _flat(read_yaml(folder / "config.yaml")), _flat(settings)
    longer = recorded.get(LENGTH[0]) != wanted.get(LENGTH[0])
    for key, value in wanted.items():
        may_differ = key.partition(".")[0] in MAY_DIFFER or (longer and key in LENGTH)
        if (there := recorded.get(key)) != value and not may_differ:
            raise ConfigError(
                f"--out: {folder} holds a run of other settings: {key} is {there!r} there and {value!r} "
                f"here; choose another --out, or remove it"
            )


def kept_agent(folder: Path, task: int) -> Path:
    """Where ``--keep-agents`` keeps the agent as it was after a task; the first is 1."""
    return folder / "agents" / f"task-{task:04d}.safetensors"


class Events(TensorBoardOutputFormat):
    """TensorBoard events; what an earlier, cut-off process wrote beyond ``until`` is declared void."""

    def __init__(self, folder: Path, until: int):
        self.writer = SummaryWriter(str(folder), purge_step=until + 1)
        self._is_closed = False


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {prefix: data}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
