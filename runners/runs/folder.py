"""A run on disk."""

from __future__ import annotations

import fcntl
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

#: Settings that a run may be gone on with otherwise.
MAY_DIFFER = ("out", "device", "metrics", "timeout", "keep_agents", "labels")


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
        if file.exists():
            recorded = _flat(read_yaml(file))
            for key, value in _flat(self.settings).items():
                there = recorded.get(key)
                if there != value and key.partition(".")[0] not in MAY_DIFFER:
                    raise ConfigError(
                        f"--out: {self.path} holds a run of other settings: {key} is {there!r} there and {value!r} "
                        f"here; choose another --out, or remove it"
                    )
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(file, self._yaml())
        self._lock = file.open()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"--out: another process is running in {self.path}") from error

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
        """``tasks.csv``, and the logger that writes ``progress.csv`` and TensorBoard events."""
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

    def save(self, agent: Continual, state: dict[str, Any], resumable: bool) -> None:
        """Take a checkpoint; with what only a run that goes on needs, if it is ``resumable``."""
        self.checkpoints.save(state["segment"], agent, state, resumable)
        self.state = state


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
