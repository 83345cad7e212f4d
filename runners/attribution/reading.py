"""What an attribution says, in plain words and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neoteny.runners.attribution.interventions import INTERVENTIONS
from neoteny.runners.attribution.shares import Array, Attribution, Estimate, attribute
from neoteny.runners.measures import in_words

#: What a loss can sit in: one thing each.
PLACES = (
    *("actor-head", "critic-head", "actor-torso", "critic-torso", "encoder"),
    *("optimizer", "replay", "normalization", "coefficients"),
)
#: Two places at once.
PAIRS = {"heads": PLACES[:2], "torsos": PLACES[2:4]}
#: What interventions on all hidden layers ask about.
SPECTRA = {
    "rescale": "The scale of the hidden layers (σ₁)",
    "spectrum": "Where the hidden layers' singular vectors point",
}
VERDICTS = {1: "is part of it", 0: "is not shown to be part of it", -1: "is worth keeping"}
#: Smaller shares are not named, however sure they are.
LEAST = 0.05


def areas_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Array]]:
    """The measure, and its mean over the task by intervention and seed; NaN where a trial is missing or has none.

    The measure is the headline of the run's tables. If no seed has it both for ``nothing`` and for ``everything``, as
    where no episode came to its end, it is the reward per step.
    """
    headlines = [row["headline"] for row in rows if row.get("headline")]
    for measure in (*headlines[:1], "reward_rate"):
        areas = _areas(rows, measure)
        if np.isfinite(areas["nothing"] + areas["everything"]).any():
            break
    return measure, areas


def _areas(rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Array]:
    seeds = 1 + max(int(row["trial"]) for row in rows)
    areas = {name: np.full(seeds, np.nan) for name in INTERVENTIONS if any(r["intervention"] == name for r in rows)}
    for row in rows:
        areas[row["intervention"]][int(row["trial"])] = _number(row, measure)
    return areas


def _number(row: Mapping[str, Any], measure: str) -> float:
    value = row.get(f"{measure}_mean", "")
    return float("nan" if value == "" else value)


def sign(share: Estimate) -> int:
    """1 or -1 where the interval lies above or below 0 and the share is not negligible, else 0."""
    return share.sign if abs(share.middle) >= LEAST else 0


def named(attribution: Attribution) -> list[str]:
    """The places with a share, the largest first; of a pair only if neither of its two has one."""
    found = [name for name, share in attribution.shares.items() if name in PLACES and sign(share) > 0]
    for pair, two in PAIRS.items():
        if pair in attribution.shares and sign(attribution.shares[pair]) > 0 and not {*two} & {*found}:
            found.append(pair)
    return sorted(found, key=lambda name: -attribution.shares[name].middle)


def in_plain_words(measure: str, attribution: Attribution) -> list[str]:
    """The sentences below the table."""
    areas, gap, shares = attribution
    words = in_words(measure)
    about = (
        f"A fresh agent has a mean {words} of {areas['everything'].middle:.3g} in this task, the agent as it is "
        f"{areas['nothing'].middle:.3g}: a gap of {_three(gap)}."
    )
    if not np.isfinite(gap.middle):
        return [f"{about.partition(':')[0]}. The gap is not known: no seed has a number for both."]
    if not gap.sign:
        return [f"{about} Its interval includes 0: there is no gap to explain, and shares are not given."]
    what = "loss" if gap.sign > 0 else "advantage over a fresh agent"
    found = [f"{name} ({shares[name]})" for name in named(attribution)]
    lines = [about]
    if found:
        lines.append(f"The {what} sits in the {found[0]}: so much of the gap is gone if that alone is fresh.")
    else:
        lines.append(f"The {what} sits in no part alone: no share is above 0.")
    if found[1:]:
        lines.append(f"Other parts with a share above 0: {', '.join(found[1:])}.")
    against = [name for name, share in shares.items() if name not in SPECTRA and sign(share) < 0]
    if against:
        lines.append(f"With a fresh one the gap is wider: {', '.join(f'{name} ({shares[name]})' for name in against)}.")
    for name, subject in SPECTRA.items():
        if name in shares:
            lines.append(f"{subject} {VERDICTS[sign(shares[name])]}: {name} has a share of {shares[name]}.")
    return lines


def _three(value: Estimate) -> str:
    return f"{value.middle:.3g} [{value.low:.3g}, {value.high:.3g}]"


def table(measure: str, areas: Mapping[str, Array], attribution: Attribution) -> list[dict[str, str]]:
    """A row per intervention: what is fresh, seeds, the mean with its interval, and the share with its."""
    found = []
    for name, values in areas.items():
        row = {"fresh": name, "seeds": str(int(np.isfinite(values).sum()))}
        for key, value in ((f"{measure}_mean", attribution.areas[name]), ("share", attribution.shares.get(name))):
            numbers = ("", "", "") if value is None else tuple(f"{number:.6g}" for number in value)
            row |= dict(zip((key, f"{key}_low", f"{key}_high"), numbers, strict=True))
        found.append(row)
    return found


def of_runs(runs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The areas of several runs at the same switch, by intervention, (runs): of each run the mean over its trials.

    What was not asked of all of them is left out. Intervals of what :func:`attribute` makes of them are over runs.
    """
    names = [name for name in runs[0] if all(name in areas for areas in runs)]
    return {name: np.array([_mean(areas[name]) for areas in runs]) for name in names}


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def read(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Array], Attribution]:
    """The measure, the areas and the attribution of these rows of ``trials.csv``."""
    measure, areas = areas_of(rows)
    return measure, areas, attribute(areas)
