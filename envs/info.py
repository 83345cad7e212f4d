"""Gymnasium's ``info`` of vector environments: an array by name, and a mask of where it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: A task begins with the observation that comes with this ``info``: the index of the visit, and how many steps the
#: environment will take in it. Never said where switches are hidden.
NEW_TASK = ("new_task", "new_task_steps")


def everywhere(num_envs: int, **values: int | str) -> dict[str, Any]:
    """Each value in every environment, with its mask."""
    info: dict[str, Any] = {
        name: np.full(num_envs, value, object if isinstance(value, str) else int) for name, value in values.items()
    }
    return info | {f"_{name}": np.ones(num_envs, bool) for name in values}


def of_one(info: Mapping[str, Any], names: tuple[str, ...], index: int = 0) -> dict[str, Any]:
    """Of these entries those that count in the ``index``-th environment, as plain numbers."""
    return {name: info[name][index].item() for name in names if name in info and info[f"_{name}"][index]}
