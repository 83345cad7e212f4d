"""The states from which a run resumes exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neoteny.runners.runs.tables import write_text


class Checkpoints:
    """The states at the ends of segments. A checkpoint counts once its small JSON file is there.

    Args:
        folder: where they are; the last ``keep`` are kept (replay buffers are large).
    """

    def __init__(self, folder: Path, keep: int = 1):
        self.folder = folder
        self.keep = keep

    def agent_path(self, segment: int) -> Path:
        return self.folder / f"segment-{segment:04d}.safetensors"

    def save(self, segment: int, agent: Any, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, with the agent's replay buffer, so that the run can go on from it; drop older ones."""
        agent.save(self.agent_path(segment), replay=True)
        write_text(self.agent_path(segment).with_suffix(".json"), json.dumps({"segment": segment, **state}))
        for old in self._complete()[: -self.keep]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def last(self) -> dict[str, Any] | None:
        """The state saved with the last complete checkpoint; also while another process writes more of them."""
        while complete := self._complete():
            try:
                state: dict[str, Any] = json.loads(complete[-1].read_text())
                return state
            except FileNotFoundError:  # dropped meanwhile, for a later one
                continue
        return None

    def _complete(self) -> list[Path]:
        return sorted(self.folder.glob("segment-*.json"), key=lambda path: int(path.stem.removeprefix("segment-")))
