"""Statistics over seeds and tasks, of score arrays (runs × tasks).

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021; the tests
compare with its library, rliable.

Missing scores (NaN: a run that was killed, a task without a mean return) are left out, and the runs of a task are drawn
from those that it has. A run that diverged is missing too, and leaving it out flatters its method: say how many there
are. A single run has no interval; its bounds are NaN.

A stratified bootstrap draws the runs of each task independently of the other tasks. In a continual run all tasks have
the same agent: where agents that do well in one task do well in the next, such intervals are too narrow. Of ten runs of
twelve tasks that correlate with 0.5, they held the true mean in 51 % of trials; those with ``whole_runs=True``, which
draws runs with all their tasks, in 90 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

#: A value, and the ends of its 95 % interval.
Estimate = tuple[float, float, float]

#: Bootstrap samples.
DRAWS = 2000


def interquartile_mean(scores: Array) -> Any:
    """The mean of the middle half of all scores, runs and tasks together: of n scores ⌊n/4⌋ are left out at each end.

    Args:
        scores: (..., runs, tasks).

    Returns:
        (...); NaN where no score is known.
    """
    scores = np.asarray(scores, float)
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), -1)  # NaN last
    known = np.count_nonzero(~np.isnan(ordered), -1, keepdims=True)
    place, cut = np.arange(ordered.shape[-1]), known // 4
    middle = np.where((cut <= place) & (place < known - cut), ordered, 0.0).sum(-1)
    with np.errstate(invalid="ignore"):
        return middle / (known - 2 * cut)[..., 0]


def stratified_interval(
    scores: Array,
    statistic: Callable[[Array], Any] = interquartile_mean,
    draws: int = DRAWS,
    seed: int = 0,
    whole_runs: bool = False,
) -> Estimate:
    """A statistic of scores, and its 95 % interval by the percentiles of a stratified bootstrap.

    Args:
        scores: (runs, tasks).
        statistic: from (..., runs, tasks) to (...), which leaves NaN out.
        draws: bootstrap samples.
        seed: of the draws.
        whole_runs: draw runs with all their tasks.
    """
    scores = _checked(scores)
    value = float(statistic(scores))
    if _single(scores):
        return value, math.nan, math.nan
    picked = _picked(scores, np.random.default_rng(seed), draws, whole_runs)
    return value, *bounds(_with_scores(statistic(np.take_along_axis(scores[None], picked, 1))))


def probability_of_improvement(
    x: Array, y: Array, draws: int = DRAWS, seed: int = 0, whole_runs: bool = False
) -> Estimate:
    """How probable it is that a run of X does better than one of Y in the same task; and its 95 % interval.

    The mean over tasks of P(X > Y) + ½ P(X = Y), over all pairs of runs: the Mann-Whitney U statistic as a share. 0.5
    is no difference; it says nothing of how large one is. Tasks of which either side has no score are left out.

    Args:
        x: (runs, tasks).
        y: (other runs, tasks).
        draws: bootstrap samples; both sides are drawn anew, independently.
        seed: of the draws.
        whole_runs: draw runs with all their tasks.

    Raises:
        ValueError: the tasks are not as many.
    """
    x, y = _checked(x), _checked(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"y: the scores of {x.shape[1]} tasks are needed, as in x; got {y.shape[1]}")
    one, other = x.T[:, :, None], y.T[:, None, :]
    wins = (one > other) + 0.5 * (one == other)
    known = (~np.isnan(one) & ~np.isnan(other)).astype(float)

    def mean(of_x: Array, of_y: Array) -> Array:
        """The mean over tasks, (draws), with so many of each run, (draws, runs, tasks)."""
        times_x, times_y = of_x.transpose(2, 0, 1), of_y.transpose(2, 0, 1)
        won, pairs = (((times_x @ table) * times_y).sum(-1) for table in (wins, known))
        return _mean(np.divide(won, pairs, out=np.full(won.shape, np.nan), where=pairs > 0))

    value = float(mean(np.ones((1, *x.shape)), np.ones((1, *y.shape)))[0])
    if _single(x) or _single(y) or math.isnan(value):
        return value, math.nan, math.nan
    generators = np.random.default_rng(seed).spawn(2)
    times = (_times(_picked(side, rng, draws, whole_runs)) for side, rng in zip((x, y), generators, strict=True))
    return value, *bounds(_with_scores(mean(*times)))


def performance_profile(
    scores: Array, thresholds: Array, draws: int = DRAWS, seed: int = 0, whole_runs: bool = False
) -> tuple[Array, Array, Array]:
    """The share of all scores, runs and tasks together, above each threshold; and its pointwise 95 % band.

    The paper's score distribution (run-score distribution), section 4.2.

    Args:
        scores: (runs, tasks).
        thresholds: (thresholds).
        draws: bootstrap samples.
        seed: of the draws.
        whole_runs: draw runs with all their tasks.

    Returns:
        The profile, and the lower and the upper end of the band, (thresholds) each.
    """
    scores, thresholds = _checked(scores), np.asarray(thresholds, float)
    flat = scores.reshape(-1)
    above = (flat[:, None] > thresholds).astype(float)
    known = (~np.isnan(flat)).astype(float)

    def share(times: Array) -> Array:
        times = times.reshape(len(times), -1)
        counts = (times @ known)[:, None]
        return np.divide(times @ above, counts, out=np.full((len(times), len(thresholds)), np.nan), where=counts > 0)

    profile = share(np.ones((1, *scores.shape)))[0]
    if _single(scores):
        return profile, *np.full((2, len(thresholds)), np.nan)
    samples = share(_times(_picked(scores, np.random.default_rng(seed), draws, whole_runs)))
    low, high = np.percentile(_with_scores(samples), [2.5, 97.5], axis=0)
    return profile, low, high


def bounds(samples: Array) -> tuple[float, float]:
    """The middle 95 % of bootstrap samples, (draws); NaN if one is."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _with_scores(samples: Array) -> Array:
    """The samples, (draws, ...), in which there is a score: whole runs without any may be all that is drawn."""
    return samples[~np.isnan(samples.reshape(len(samples), -1)).any(1)]


def _checked(scores: Array) -> Array:
    """Raises:
    ValueError: the scores are not (runs, tasks), or there are none.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores: (runs, tasks) are needed, at least one of each; got the shape {scores.shape}")
    return scores


def _single(scores: Array) -> bool:
    """Whether no task has two scores, so that there is nothing to draw from."""
    return bool((~np.isnan(scores)).sum(0).max() < 2)


def _picked(
    scores: Array, rng: np.random.Generator, draws: int, whole_runs: bool
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which runs each sample has of each task, (draws, runs, tasks): as many that are known as the scores have.

    Missing ones keep their place.
    """
    runs, tasks = scores.shape
    if whole_runs:
        return np.broadcast_to(rng.integers(0, runs, (draws, runs, 1)), (draws, runs, tasks))
    picked = np.broadcast_to(np.arange(runs)[:, None], (draws, runs, tasks)).copy()
    for task, known in enumerate(map(np.flatnonzero, ~np.isnan(scores.T))):
        if known.size:
            picked[:, known, task] = known[rng.integers(0, known.size, (draws, known.size))]
    return picked


def _times(picked: np.ndarray[Any, np.dtype[np.int64]]) -> Array:
    """How often each run is in each sample, (draws, runs, tasks)."""
    draws, runs, tasks = picked.shape
    place = (np.arange(draws)[:, None, None] * runs + picked) * tasks + np.arange(tasks)
    return np.bincount(place.reshape(-1), minlength=picked.size).reshape(picked.shape).astype(float)


def _mean(values: Array) -> Array:
    """The mean of what is known over the first axis; NaN of nothing."""
    known = ~np.isnan(values)
    counts = known.sum(0)
    found: Array = np.divide(
        np.where(known, values, 0.0).sum(0), counts, out=np.full(counts.shape, np.nan), where=counts > 0
    )
    return found
