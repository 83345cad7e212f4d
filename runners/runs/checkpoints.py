"""The states from which a run resumes exactly."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from neoteny.agents.durable import remove_parts
from neoteny.runners.runs.tables import write_text

_NAME = re.compile(r"segment-(\d+)")


class Checkpoints:
    """The states at the ends of segments. A checkpoint counts once its small JSON file is there.

    That file has the checksum of the agent's, and its own.

    Args:
        folder: where they are; the last ``keep`` are kept (replay buffers are large).
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def agent_path(self, segment: int) -> Path:
        return self.folder / f"segment-{segment:04d}.safetensors"

    def save(self, segment: int, agent: Any, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, with the agent's replay buffer, so that the run can go on from it; drop older ones.

        It is on disk, agent and JSON, before any older one goes.
        """
        path = self.agent_path(segment)
        agent.save(path, replay=True)
        record = {"segment": segment, "sha256": checksum(path), **state}
        write_text(path.with_suffix(".json"), json.dumps(record | {"seal": _seal(record)}))
        self._drop_older()

    def _drop_older(self) -> None:
        for old in self._complete()[: -self.keep]:
            self.drop(old)

    def drop(self, segment: int) -> None:
        """Remove a checkpoint; the JSON first, so that it does not count if the agent is left."""
        for suffix in (".json", ".safetensors"):
            self.agent_path(segment).with_suffix(suffix).unlink(missing_ok=True)

    def tidy(self, beyond: int) -> None:
        """Remove what a killed process has left: parts, agents without JSON, segments ``beyond`` it or too old."""
        complete = self._complete()
        for segment in {*self._numbers(".safetensors"), *complete}:
            if segment not in complete or segment > beyond:
                self.drop(segment)
        self._drop_older()
        remove_parts(self.folder)

    def latest_first(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """The checkpoints that count, the latest first: JSON file's name, and the state, None if it is damaged."""
        for segment in reversed(self._complete()):
            with suppress(FileNotFoundError):  # dropped meanwhile, for a later one
                yield self.agent_path(segment).with_suffix(".json").name, self._state(segment)

    def _state(self, segment: int) -> dict[str, Any] | None:
        try:
            state = json.loads(self.agent_path(segment).with_suffix(".json").read_text())
        except (ValueError, RecursionError):  # damaged
            return None
        if not isinstance(state, dict) or ("seal" in state and state.pop("seal") != _seal(state)):
            return None
        whole = (
            state.get("segment") == segment and type(state.get("step")) is int and isinstance(state.get("visit"), dict)
        )
        return state if whole else None

    def last(self) -> dict[str, Any] | None:
        """The state saved with the last checkpoint that counts; also while another process writes more of them."""
        while complete := self._complete():
            if (state := next((state for _, state in self.latest_first() if state), None)) is not None:
                return state
            if complete == self._complete():
                return None
        return None

    def is_whole(self, state: Mapping[str, Any]) -> bool:
        """Whether the agent of a checkpoint is there, byte for byte. Versions before 0.2 wrote no checksum."""
        path = self.agent_path(state["segment"])
        return path.is_file() and ("sha256" not in state or checksum(path) == state["sha256"])

    def _complete(self) -> list[int]:
        return sorted(self._numbers(".json"))

    def _numbers(self, suffix: str) -> list[int]:
        """The segments of the files with this suffix."""
        found = (_NAME.fullmatch(path.stem) for path in self.folder.glob(f"segment-*{suffix}"))
        return [int(match[1]) for match in found if match]


def _seal(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
