"""What the tasks of a sequence are called in tables, plots and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neoteny.envs.tasks.task import Task


def names(tasks: Sequence[Task]) -> list[str]:
    """The environment of each task and what its constructor is told; the same for equal tasks, else different ones.

    Of the constructor's arguments only those are named that tell tasks of the same environment apart.
    """
    found: list[str] = []
    for index, task in enumerate(tasks):
        if task in tasks[:index]:
            found.append(found[tasks.index(task)])
            continue
        others = [other.kwargs for other in tasks if other.env == task.env]
        telling = [key for key in task.kwargs if any(other.get(key) != task.kwargs[key] for other in others)]
        name = " ".join([task.env, *(f"{key.replace('_', ' ')} {_short(task.kwargs[key])}" for key in telling)])
        clash = [other for other, text in zip(tasks, found, strict=False) if text == name and _alike(other, task)]
        found.append(f"{name} ({len({tasks.index(other) for other in clash}) + 1})" if clash else name)
    return found


def shifted(task: Task, rng: np.random.Generator | None) -> tuple[str, bool]:
    """What the shifts of a visit do, in words, and whether something is drawn in it that the words do not say.

    Args:
        task: with the shifts.
        rng: the visit's generator, in its first state; it is used. None if it is not known.
    """
    texts, unsaid = [], False
    for shift in task.shifts:
        text, said = shift.in_words(rng)
        texts.append(text)
        if not said:
            unsaid, rng = True, None  # how much the shift draws is not known here
    return ", ".join(texts), unsaid


def _alike(one: Task, other: Task) -> bool:
    """Whether nothing in the names of these tasks' shifts tells them apart."""
    return shifted(one, None) == shifted(other, None)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 20 else f"{text[:19]}…"
