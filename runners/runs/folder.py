"""A run on disk."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from stable_baselines3.common.logger import Logger

from neoteny.agents.durable import remove_parts
from neoteny.configs import ConfigError, dump_yaml, read_yaml
from neoteny.runners.dashboards import Events, Mirror
from neoteny.runners.runs.checkpoints import Checkpoints
from neoteny.runners.runs.interruption import interruption
from neoteny.runners.runs.lock import Lock
from neoteny.runners.runs.made_with import Parts, goes_on
from neoteny.runners.runs.recovery import recover
from neoteny.runners.runs.tables import Table, read_rows, write_text

log = logging.getLogger(__name__)

#: Settings that a run may be gone on with otherwise, and those that go with its length.
MAY_DIFFER = (
    *("out", "device", "timeout", "labels", "wandb", "callback"),
    *("metrics", "instruments", "probe", "keep_agents", "evaluate_all", "evaluate_episodes"),
)
LENGTH = ("env.num_tasks", "env.fingerprint")


class Savable(Protocol):
    """Whoever can be saved."""

    def save(self, path: Path, *, replay: bool = False) -> None:
        """To a file, with a replay buffer if there is one and it is wanted."""


class Writing(NamedTuple):
    """What a run writes: ``tasks.csv``, ``progress.csv``, and the logger that writes that and to dashboards."""

    tasks: Table
    progress: Table
    logger: Logger


class RunFolder:
    """The folder of a run, claimed: this process runs in it and no other, until it ends.

    It holds ``lock``, ``config.yaml`` (the complete settings), ``made_with.yaml``, ``tasks.csv``, ``progress.csv``,
    TensorBoard events, ``checkpoints/`` and, with ``--keep-agents``, ``agents/``; with ``--wandb`` also wandb's files.
    The promises:

    - A checkpoint counts when agent, tables, events and its own JSON are on disk; the one before goes after that.
    - A run goes on from the latest checkpoint whose agent and tables are byte for byte what they were. What lies beyond
      it, in tables and events, is dropped.
    - What is damaged is said by name. Where nothing whole is left, nothing is touched.

    Args:
        path: the folder; made, if it is not there.
        settings: of the run, as plain data.

    Attributes:
        state: what the last checkpoint was taken with: the ``segment`` (-1: there is none), the ``step`` and what the
            recorder has of a ``visit`` that is not over; also the ``charts`` of TensorBoard's page of custom scalars.

    Raises:
        ConfigError: the folder holds a run of other settings, or one that is damaged beyond what can be made up for,
            or another process runs in it.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.settings = settings
        self.checkpoints = Checkpoints(path / "checkpoints")
        self._lock = Lock(path)
        self._tables: dict[str, Table] = {}
        file = self.path / "config.yaml"
        if file.exists():
            compare(self.path, self.settings)
        elif any(self.checkpoints.latest_first()):
            raise ConfigError(
                f"--out: {path} has checkpoints, and config.yaml is gone; choose another --out, or remove it"
            )
        self.state, damaged = recover(path)
        for name, why in damaged.items():
            log.warning("checkpoints/%s is left out: %s", name, why)
        if not file.exists():
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

    @property
    def progress(self) -> list[dict[str, str]]:
        """The rows of ``progress.csv``, up to the last checkpoint."""
        return read_rows(self.path / "progress.csv", self.state["step"])

    @contextmanager
    def writing(self, made_with: Parts) -> Iterator[Writing]:
        """What the run writes. From now on ``config.yaml`` has the settings that the run goes on with.

        Args:
            made_with: what the numbers are computed with from here on.

        Raises:
            ConfigError: wandb does not begin.
        """
        step, project = self.state["step"], self.settings.get("wandb")
        mirror = Mirror(project, self.path, self.settings) if project else None
        known = any(self.path.glob("events.out.tfevents.*")) and (self.path / "config.yaml").read_text() == self._yaml()
        write_text(self.path / "config.yaml", self._yaml())
        if differs := goes_on(self.path, step, made_with):
            log.warning("From step %s on its numbers may be others than where it was begun: %s", f"{step:,}", differs)
        self.tidy()
        self._tables = {name: Table(self.path / name, step) for name in ("tasks.csv", "progress.csv")}
        tasks, progress = self._tables.values()
        self._events = Events(self.path, step, self.state.get("charts", ()))
        self._events.describe(self.settings)
        if not known:
            self._events.writer.add_text("config", f"```yaml\n{self._yaml()}```", step)
        logger = Logger(str(self.path), [progress, self._events, *([mirror] if mirror else [])])
        try:
            yield Writing(tasks, progress, logger)
            self._events.finish()
            if mirror:
                mirror.finish()
        finally:
            logger.close()

    def tidy(self) -> None:
        """Remove what killed processes have left among the agents, and checkpoints beyond the one gone on from."""
        self.checkpoints.tidy(self.state["segment"])
        remove_parts(kept_agent(self.path, 1).parent)

    def release(self) -> None:
        """Let others run in it."""
        self._lock.release()

    def keep(self, agent: Savable, visit: int) -> None:
        """Keep the agent as it is after the visit with this index, replay buffer included, for good."""
        agent.save(kept_agent(self.path, visit + 1), replay=True)

    def save(self, agent: Savable, state: dict[str, Any]) -> None:
        """Take a checkpoint, once the tables and events before it are on disk."""
        with interruption.writing():
            for table in self._tables.values():
                table.sync()
            self._events.sync()
            seals = {name: table.seal.plain() for name, table in self._tables.items()}
            state |= {"charts": sorted(self._events.charts)}
            self.checkpoints.save(state["segment"], agent, {**state, "tables": seals})
            self.state = state


def compare(folder: Path, settings: Mapping[str, Any]) -> None:
    """Whether a run of these settings, plain data, may go on in a folder that holds one.

    Raises:
        ConfigError: that one has other settings.
    """
    recorded = read_yaml(folder / "config.yaml")
    longer = _flat(recorded).get(LENGTH[0]) != _flat(settings).get(LENGTH[0])
    if differs := differing(recorded, settings, LENGTH if longer else ()):
        raise ConfigError(
            f"--out: {folder} holds a run of other settings: {differs}; choose another --out, or remove it"
        )


def differing(recorded: Mapping[str, Any], settings: Mapping[str, Any], but: Collection[str] = ()) -> str:
    """The first setting that is another here than there and may not be, in words; nothing, if there is none."""
    there, wanted = _flat(recorded), _flat(settings)
    for key, value in wanted.items():
        if there.get(key) != value and key.partition(".")[0] not in MAY_DIFFER and key not in but:
            return f"{key} is {there.get(key)!r} there and {value!r} here"
    return ""


def kept_agent(folder: Path, task: int) -> Path:
    """Where ``--keep-agents`` keeps the agent as it was after a task; the first is 1."""
    return folder / "agents" / f"task-{task:04d}.safetensors"


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {prefix: data}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
