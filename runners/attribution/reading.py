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
PAIRS = ("heads", "torsos")
#: Questions to the spectra of the hidden layers.
SPECTRA = {"rescale": "the old scale of the hidden layers", "spectrum": "the old singular vectors of the hidden layers"}


def areas_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Array]]:
    """The measure, and its mean over the task by intervention and seed; NaN where a trial is missing or diverged.

    The measure is the headline of the run's tables; if a trial has none of it, since no episode came to its end, reward
    per step.
    """
    learned = [row for row in rows if row.get("headline")]
    headline = learned[0]["headline"] if learned else "return"
    measure = headline if all(np.isfinite(_number(row, headline)) for row in learned) else "reward_rate"
    seeds = 1 + max(int(row["trial"]) for row in rows)
    areas = {name: np.full(seeds, np.nan) for name in INTERVENTIONS if any(r["intervention"] == name for r in rows)}
    for row in rows:
        areas[row["intervention"]][int(row["trial"])] = _number(row, measure)
    return measure, areas


def _number(row: Mapping[str, Any], measure: str) -> float:
    return float(row.get(f"{measure}_mean") or "nan")


def named(attribution: Attribution) -> list[str]:
    """The places whose share is above 0, the largest first; a pair only if neither of its two is among them."""
    shares = attribution.shares
    found = [name for name in PLACES if name in shares and shares[name].sign > 0]
    of_pair = {"heads": PLACES[:2], "torsos": PLACES[2:4]}
    found += [p for p in PAIRS if p in shares and shares[p].sign > 0 and not {*of_pair[p]} & {*found}]
    return sorted(found, key=lambda name: -shares[name].middle)


def in_plain_words(measure: str, attribution: Attribution) -> list[str]:
    """The sentences below the table."""
    areas, gap, shares = attribution
    words = in_words(measure)
    about = (
        f"A fresh agent has a mean {words} of {areas['everything'].middle:.3g} in this task, the agent as it is "
        f"{areas['nothing'].middle:.3g}: a gap of {_three(gap)}."
    )
    if not gap.sign:
        return [f"{about} Its interval includes 0: there is no gap to explain, and shares are not given."]
    what = "loss" if gap.sign > 0 else "advantage over a fresh agent"
    found = named(attribution)
    if found:
        first, *others = [f"{name} ({shares[name]})" for name in found]
        text = f"The {what} sits in the {first}: so much of the gap is gone if that alone is fresh."
        if others:
            text += f" Other parts with a share above 0: {', '.join(others)}."
    else:
        text = f"The {what} sits in no part alone: no share is above 0."
    lines = [about, text]
    if against := [name for name in PLACES + PAIRS if name in shares and shares[name].sign < 0]:
        lines.append(f"A fresh one is worse than the old: {', '.join(f'{n} ({shares[n]})' for n in against)}.")
    for name, of_them in SPECTRA.items():
        if name in shares:
            part = {1: "is part of it", 0: "is not seen to matter", -1: "is of use"}[shares[name].sign]
            lines.append(f"{of_them.capitalize()} {part}: {name} has a share of {shares[name]}.")
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


def read(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Array], Attribution]:
    """The measure, the areas and the attribution of these rows of ``trials.csv``."""
    measure, areas = areas_of(rows)
    return measure, areas, attribute(areas)
