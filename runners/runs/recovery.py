"""Which checkpoint a run goes on from, and what is wrong with later ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from neoteny.configs import ConfigError
from neoteny.runners.runs.checkpoints import Checkpoints
from neoteny.runners.runs.tables import is_sealed, read_rows

#: The state of a run that has no checkpoint.
NOTHING: dict[str, Any] = {"segment": -1, "step": 0, "visit": {}}


class Recovery(NamedTuple):
    """Where a run goes on.

    Attributes:
        state: what the latest whole checkpoint was taken with; :data:`NOTHING` before the first.
        damaged: later ones, by the name of their JSON, and what is wrong with each.
    """

    state: dict[str, Any]
    damaged: dict[str, str]


def recover(folder: Path) -> Recovery:
    """Look for the latest checkpoint that has all it needs: its agent, its JSON, and the rows of the tables.

    Nothing is written.

    Raises:
        ConfigError: the run has learned something, and no checkpoint of it is whole.
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    damaged: dict[str, str] = {}
    for name, state in checkpoints.latest_first():
        wrong = _wrong(folder, checkpoints, state)
        if state is not None and wrong is None:
            return Recovery(state, damaged)
        damaged[name] = str(wrong)
    if damaged:
        listed = "; ".join(f"checkpoints/{name}: {why}" for name, why in damaged.items())
        raise ConfigError(f"--out: no checkpoint in {folder} is whole ({listed}); choose another --out, or remove it")
    if len(read_rows(folder / "tasks.csv", sys.maxsize)) > 1:
        raise ConfigError(
            f"--out: {folder}/tasks.csv has tasks that were learned, and checkpoints/ has no checkpoint of them; "
            f"choose another --out, or remove it"
        )
    return Recovery(NOTHING, {})


def _wrong(folder: Path, checkpoints: Checkpoints, state: Mapping[str, Any] | None) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    if state is None:
        return "it cannot be read"
    if not checkpoints.is_whole(state):
        path = checkpoints.agent_path(state["segment"])
        return f"{path.name} is damaged" if path.exists() else f"{path.name} is gone"
    for name, seal in state.get("tables", {}).items():
        if not is_sealed(folder / name, seal):
            return f"{name} has not the rows that it was taken with"
    return None
