"""What one run has come to, task by task: which tasks were learned, and what of its networks has drifted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neoteny.agents.continual import CRITIC
from neoteny.runners.measures.groups import COLUMNS
from neoteny.runners.measures.visit import OF_EXAMPLES

Row = Mapping[str, Any]

#: Half of a 95 % interval, in standard errors.
HALF = 1.96

#: How much worse than at the end of the first task a number has to be, to be called a drift: ``×`` times as large,
#: ``+`` larger, or ``÷`` times as small. By column of tasks.csv; ``probe`` is that of actor or critic.
RULES = {
    "spectral_norm_max": ("×", 1.5),
    "dormant_max": ("+", 0.1),
    "feature_rank_min": ("÷", 1.5),
    "gradient_diversity_min": ("÷", 1.5),
    "condition_number_max": ("×", 10.0),
    "policy_entropy": ("÷", 2.0),
    "probe": ("×", 1.5),
}

#: The share that tells that a task was learned, of games solved or of training examples; others have no such level.
LEVELS = {"success": 0.5, "accuracy": 0.9}

#: What they are called where there is little room.
SHORT = {
    "spectral_norm_max": "σ_max",
    "dormant_max": "dormant units",
    "feature_rank_min": "feature rank",
    "gradient_diversity_min": "gradient diversity",
    "condition_number_max": "condition number",
    "policy_entropy": "policy entropy",
    "probe": "probe",
}

#: What a run's own summary looks for.
DRIFTS = ("spectral_norm_max", "dormant_max", "feature_rank_min", "gradient_diversity_min")


class Difference(NamedTuple):
    """Two means, the difference of the second to the first, and the ends of its 95 % interval."""

    before: float
    after: float
    low: float
    high: float


class Verdict(NamedTuple):
    """What a visit has come to.

    Attributes:
        task: the visit, the first being 1.
        kind: ``learned``, ``same``, ``worse`` or ``unknown``.
        change: from the visit's beginning to its end.
        again: from the end of the first visit to the same task to the end of this one; None if this is the first.
    """

    task: int
    kind: str
    change: Difference
    again: Difference | None


class Drift(NamedTuple):
    """A number of the networks that has become worse.

    Attributes:
        column: of tasks.csv.
        place: the layer that has it at the end; empty if not known.
        network: that this layer is in: ``actor``, ``critic``, an ``encoder`` that both share, or the one ``network``.
        first: at the end of the first task.
        last: at the end of the last.
        since: from the end of this task on, the first being 1, it is worse by :data:`RULES`; None if it is not.
    """

    column: str
    place: str
    network: str
    first: float
    last: float
    since: int | None


def number(row: Row, column: str) -> float:
    """A number in a row of a table; NaN where there is none."""
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        return math.nan


def measure_of(rows: Sequence[Row]) -> str:
    """What tells whether tasks were learned: success if it is known of all, else the headline."""
    if all(not math.isnan(number(row, "success_final")) for row in rows):
        return "success"
    return str(rows[0].get("headline") or "return")


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Whether each visit's task was learned.

    Of success: ``learned`` if more than half of the games at the visit's end are solved, by a 95 % interval; ``same``
    if fewer are. Of accuracy the same, with 90 % of the training examples. Of anything else there is no such level:
    ``learned`` if the end is above the beginning of the visit, ``worse`` if it is below, by the 95 % interval of the
    difference; else ``same``. A task that comes again is ``learned`` too if it was at its first visit and does not end
    below that.

    Intervals are of the episodes of this one run, by their standard errors: of another run with another seed they say
    nothing.

    Args:
        rows: of ``tasks.csv``.
    """
    found: list[Verdict] = []
    first: dict[str, int] = {}
    measure = measure_of(rows)
    for row in rows:
        earlier = first.setdefault(row["name"], len(found))
        change = _difference((row, f"{measure}_begin"), (row, f"{measure}_final"))
        again = None
        if earlier < len(found):
            again = _difference((rows[earlier], f"{measure}_final"), (row, f"{measure}_final"))
        level = LEVELS.get(measure)
        kind = _gained(change) if level is None else _solved(row, measure, level)
        if level is None and again is not None and kind != "learned" and found[earlier].kind == "learned":
            kind = "worse" if again.high < 0 else "learned" if again.high >= 0 else kind
        found.append(Verdict(int(row["task"]) + 1, kind, change, again))
    return found


def _difference(before: tuple[Row, str], after: tuple[Row, str]) -> Difference:
    one, other = number(*before), number(*after)
    half = HALF * math.hypot(*(number(row, f"{column}_error") for row, column in (before, after)))
    return Difference(one, other, other - one - half, other - one + half)


def _gained(change: Difference) -> str:
    if math.isnan(change.low):
        return "unknown"
    return "learned" if change.low > 0 else "worse" if change.high < 0 else "same"


def _solved(row: Row, measure: str, level: float) -> str:
    end, half = number(row, f"{measure}_final"), HALF * number(row, f"{measure}_final_error")
    if math.isnan(half) or end - half <= level <= end + half:
        return "unknown"
    return "learned" if end > level else "same"


def drifts(tasks: Sequence[Row], progress: Sequence[Row]) -> list[Drift]:
    """What the networks' numbers were at the end of the first task and are at the end of the last, and since when.

    Args:
        tasks: the rows of ``tasks.csv``.
        progress: the rows of ``progress.csv``, which tell the layer.
    """
    found = []
    for column in DRIFTS:
        values = [number(row, column) for row in tasks]
        known = [value for value in values if math.isfinite(value)]
        if len(known) < 2 or not math.isfinite(values[-1]):
            continue
        place = _place(column, progress, str(tasks[-1].get("step")))
        found.append(
            Drift(column, place, _network(place, tasks), known[0], known[-1], drift_since(values, *RULES[column]))
        )
    return found


def _place(column: str, progress: Sequence[Row], step: str) -> str:
    """The layer that is the worst at this step."""
    prefix, worst = COLUMNS[column]
    rows = [row for row in progress if str(row["step"]) == step]
    values = {key: number(row, key) for row in rows for key in row if key.startswith(prefix)}
    known = {key.removeprefix(prefix): value for key, value in values.items() if math.isfinite(value)}
    end = worst(known.values()) if known else math.nan
    return next((name for name, value in known.items() if value == end), "")


def _network(layer: str, tasks: Sequence[Row]) -> str:
    if tasks[0].get("headline") in OF_EXAMPLES:
        return layer and "network"
    if not layer or layer.startswith("features_extractor."):
        return layer and "encoder"
    return "critic" if CRITIC.search(layer) else "actor"


def has_drifted(first: float, now: float, how: str, much: float) -> bool:
    """Whether a number that was ``first`` has become worse by a rule, see :data:`RULES`."""
    limit = {"×": first * much, "+": first + much, "÷": first / much}[how]
    return now <= limit if how == "÷" else now >= limit


def drift_since(values: Sequence[float], how: str, much: float) -> int | None:
    """From which task on all known values are worse than the first known one; None if the last is not.

    Args:
        values: one after the other, NaN where one is not known.
        how: worse is ``×`` so many times as large or more, ``+`` so much larger, ``÷`` so many times as small.
        much: that number.

    Returns:
        The task, the first being 1.
    """
    known = [(place, value) for place, value in enumerate(values, 1) if math.isfinite(value)]
    since = None
    for place, value in reversed(known[1:]):
        if not has_drifted(known[0][1], value, how, much):
            break
        since = place
    return since
