"""When a method acts: at every N-th update."""

from __future__ import annotations

import torch
from torch import Tensor


def new_counter() -> Tensor:
    """A counter of updates: a CPU tensor, so that it is saved with the other state."""
    return torch.zeros((), dtype=torch.int64)


def due(updates: Tensor, every: int) -> bool:
    """Count one update. Whether it is an N-th one; never with ``every`` = 0."""
    updates += 1
    return every > 0 and int(updates) % every == 0


def is_first(updates: Tensor, every: int) -> bool:
    """Count one update. Whether it is the first of N."""
    updates += 1
    return (int(updates) - 1) % every == 0


def check_every(every: int, least: int = 0, setting: str = "every") -> None:
    """Raises:
    ValueError: ``every`` is not an integer of at least ``least``.
    """
    if not every >= least or every % 1:
        raise ValueError(f"{setting}: an integer of at least {least} is needed, got {every}")
