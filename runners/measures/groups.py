"""The keys that instruments log, ``group/name``, by group: each means one thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

#: What a group's numbers are, and what their names are.
GROUPS: dict[str, str] = {
    "spectral_norm": "σ₁ of a matrix, by layer",
    "condition_number": "σ₁/σ_min of a matrix, by layer",
    "stable_rank": "‖W‖²_F/σ₁² of a matrix, by layer",
    "effective_rank": "effective rank of a matrix (Roy & Vetterli), by layer",
    "frobenius_norm": "‖W‖_F of a matrix, by layer",
    "update_ratio": "‖ΔW‖_F/‖W‖_F by the updates on one rollout, by layer",
    "dormant": "share of a layer's units that are dormant, by layer",
    "saturated": "share of a layer's units that are saturated, by layer",
    "feature_rank": "effective rank (Roy & Vetterli) of the features that an output layer gets, by output layer",
    "feature_srank": "srank (Kumar et al.) of the features that an output layer gets, by output layer",
    "gradient_diversity": "effective rank of the per-sample gradient matrix, of actor and critic, or of a network",
    "policy": "the policy's entropy, and its churn by the updates on one rollout",
    "value": "churn of the values by the updates on one rollout",
    "switch": "on the first rollout of a visit",
    "actor": "the worst over the actor's layers",
    "critic": "the worst over the critic's layers",
    "encoder": "the worst over the layers of an encoder that actor and critic share",
    "network": "the worst over the layers of a network that learns from examples",
}

#: The groups whose numbers are each of one layer.
OF_LAYERS = frozenset(name for name, what in GROUPS.items() if what.endswith(" layer"))

#: Columns of tasks.csv at a task's end: the worst over layers.
COLUMNS: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "spectral_norm_max": ("spectral_norm/", max),
    "condition_number_max": ("condition_number/", max),
    "dormant_max": ("dormant/", max),
    "feature_rank_min": ("feature_rank/", min),
    "gradient_diversity_min": ("gradient_diversity/", min),
    "policy_entropy": ("policy/entropy", max),
}


def summary(found: Mapping[str, float]) -> dict[str, float]:
    """The columns of tasks.csv that follow from what instruments read at a task's end. NaN where one value is."""
    row = {}
    for column, (key, worst) in COLUMNS.items():
        values = [value for name, value in found.items() if name.startswith(key)]
        if values:
            row[column] = math.nan if any(map(math.isnan, values)) else worst(values)
    return row


def by_network(found: Mapping[str, float], network_of: Callable[[str], str]) -> dict[str, float]:
    """What instruments read of layers, the worst of each network: ``actor/spectral_norm_max`` and so on.

    Args:
        found: what instruments read.
        network_of: a layer's network, by the layer's name.
    """
    parts: dict[str, dict[str, float]] = {}
    for key, value in found.items():
        group, _, name = key.partition("/")
        if group in OF_LAYERS:
            parts.setdefault(network_of(name), {})[key] = value
        elif group == "gradient_diversity":
            parts.setdefault(name, {})[key] = value
    return {f"{network}/{name}": value for network, part in parts.items() for name, value in summary(part).items()}
