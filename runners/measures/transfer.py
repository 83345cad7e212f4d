"""What was kept, lost and carried over: measures of a matrix of evaluations.

Every function takes ``matrix``, (visits + 1, tasks): the performance on each task before anything was learned, then
after each visit; higher is better, NaN where it is not known. ``visits`` says which task, a column, was learned in each
visit; by default the tasks one after the other. Means are of what is known, and NaN of nothing.

References:
    Wołczyk et al., Continual World, NeurIPS 2021 (arXiv 2105.10919), section 4.2.
    Powers et al., CORA, CoLLAs 2022 (arXiv 2110.10067), section 4.
    Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017 (arXiv 1706.08840), section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def average_performance(matrix: Array) -> float:
    """Continual World's: P = 1/N Σᵢ pᵢ(T), the mean over all N tasks at the end; pᵢ(T) is the last row."""
    return _mean(np.asarray(matrix, float)[-1])


def forgetting(matrix: Array, visits: Sequence[int] | None = None) -> Array:
    """Continual World's, of each task: Fᵢ = pᵢ(tᵢ) − pᵢ(T), with tᵢ the end of the last visit to task i.

    Their figure is the mean over all tasks, the last one included, whose own is 0.

    Returns:
        (tasks), in the unit of the matrix; NaN for tasks that were not learned. Negative is what later tasks have
        improved.
    """
    matrix, learned = _checked(matrix, visits)
    ends = {task: index + 1 for index, task in enumerate(learned)}
    return np.array([matrix[ends[i], i] - matrix[-1, i] if i in ends else np.nan for i in range(matrix.shape[1])])


def backward_transfer(matrix: Array, visits: Sequence[int] | None = None) -> Array:
    """Lopez-Paz and Ranzato's, of each task: Bᵢ = pᵢ(T) − pᵢ(sᵢ), with sᵢ the end of the first visit to task i.

    Their figure is the mean over all tasks but the last. Where no task comes again, Bᵢ = −Fᵢ.

    Returns:
        (tasks), in the unit of the matrix; NaN for a task that was not learned before the last visit.
    """
    matrix, learned = _checked(matrix, visits)
    ends = {task: index + 1 for index, task in reversed(list(enumerate(learned[:-1])))}
    return np.array([matrix[-1, i] - matrix[ends[i], i] if i in ends else np.nan for i in range(matrix.shape[1])])


def isolated_forgetting(matrix: Array, visits: Sequence[int] | None = None) -> Array:
    """CORA's: Fᵢⱼ = (rᵢ,ⱼ₋₁ − rᵢ,ⱼ) / max |rᵢ|, what visit j alone costs a task i that was learned before it.

    Returns:
        (tasks, visits); NaN where visit j is to task i or comes before i was learned. max |rᵢ| is over the column;
        where that is 0 nothing was ever reached, and nothing forgotten: 0.
    """
    matrix, learned = _checked(matrix, visits)
    steps = -np.diff(matrix, axis=0).T / _scale(matrix)
    known = np.array([[i in learned[:j] and i != task for j, task in enumerate(learned)] for i in range(len(steps))])
    return np.where(known.reshape(steps.shape), steps, np.nan)


def zero_shot_transfer(matrix: Array, visits: Sequence[int] | None = None) -> Array:
    """CORA's zero-shot forward transfer: Zᵢⱼ = (rᵢ,ⱼ − rᵢ,ⱼ₋₁) / max |rᵢ|, what visit j alone gives a task i to come.

    Returns:
        (tasks, visits); NaN where task i was learned in visit j or before it. Tasks that are never learned have theirs.
    """
    matrix, learned = _checked(matrix, visits)
    steps = np.diff(matrix, axis=0).T / _scale(matrix)
    coming = np.array([[i not in learned[: j + 1] for j in range(len(learned))] for i in range(len(steps))])
    return np.where(coming.reshape(steps.shape), steps, np.nan)


def forward_transfer(areas: Array, reference: Array, best: float = 1.0) -> Array:
    """Continual World's: FTᵢ = (AUCᵢ − AUCᵢᵇ) / (1 − AUCᵢᵇ), of learning curves with the same budget.

    AUC is the mean of a task's learning curve while it is learned, of success and so between 0 and 1; AUCᵇ that of an
    agent that begins with this task. 0: as fast as from scratch; negative: what was learned before hinders.

    Args:
        areas: of the agent, (..., tasks).
        reference: of agents from scratch, (..., tasks).
        best: the area of an agent that solves the task at once, in place of 1 where curves are not of success.

    Returns:
        (..., tasks); NaN where the reference is the best, or one of them is not known.
    """
    areas, reference = np.asarray(areas, float), np.asarray(reference, float)
    room = best - reference
    return np.divide(areas - reference, room, out=np.full(np.broadcast(areas, room).shape, np.nan), where=room != 0)


def measures(matrix: Array, visits: Sequence[int] | None = None) -> dict[str, float]:
    """The means of all that a matrix alone says, by name."""
    _, learned = _checked(matrix, visits)
    return {
        "average_performance": average_performance(matrix),
        "forgetting": _mean(forgetting(matrix, learned)),
        "backward_transfer": _mean(backward_transfer(matrix, learned)),
        "isolated_forgetting": _mean(isolated_forgetting(matrix, learned)),
        "zero_shot_transfer": _mean(zero_shot_transfer(matrix, learned)),
    }


def to_matrix(rows: Sequence[Mapping[str, Any]], measure: str) -> tuple[Array, list[int]]:
    """The matrix in the rows of ``evaluations.csv``, and the tasks that were learned in its visits.

    Args:
        rows: of every visit, with the columns ``after`` (visits done), ``learned`` in the last one, ``on`` (tasks, by
            the numbers of their first visits) and ``measure``.
        measure: the column with the performance.

    Returns:
        The matrix, up to the last visit after which every task was evaluated, and the column learned in each visit.
    """
    tasks = sorted({int(row["on"]) for row in rows})
    learned = {int(row["after"]): int(row["learned"]) for row in rows}
    matrix = np.full((max(learned, default=0) + 1, len(tasks)), np.nan)
    there = np.zeros(matrix.shape, bool)
    for row in rows:
        place = int(row["after"]), tasks.index(int(row["on"]))
        matrix[place], there[place] = float(row[measure] or "nan"), True
    done = max((after for after in learned if there[after].all()), default=0)
    return matrix[: done + 1], [tasks.index(learned[after]) for after in range(1, done + 1)]


def _checked(matrix: Array, visits: Sequence[int] | None) -> tuple[Array, list[int]]:
    """Raises:
    ValueError: the shapes do not fit.
    """
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2:
        raise ValueError(f"matrix: (visits + 1, tasks) is needed, got the shape {matrix.shape}")
    learned = list(range(len(matrix) - 1)) if visits is None else [int(task) for task in visits]
    if len(learned) != len(matrix) - 1:
        raise ValueError(f"visits: {len(matrix) - 1} are needed for a matrix of {len(matrix)} rows, got {len(learned)}")
    if odd := [task for task in learned if not 0 <= task < matrix.shape[1]]:
        raise ValueError(f"visits: the matrix has the columns 0 to {matrix.shape[1] - 1}, got {odd[0]}")
    return matrix, learned


def _scale(matrix: Array) -> Array:
    """max |rᵢ| of each task, (tasks, 1); 1 where it is 0 or not known."""
    largest = np.abs(np.nan_to_num(matrix, nan=0.0)).max(0, initial=0.0)
    return np.where(largest == 0, 1.0, largest)[:, None]


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
