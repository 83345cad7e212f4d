"""TensorBoard's page of custom scalars: which charts it has, in which order, and of which tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars

#: What tells whether a network can still learn, by the tag of its chart.
HEALTH = {
    "spectral_norm_max": "σ_max, the largest singular value of its layers",
    "dormant_max": "dormant units, the share in its worst layer",
    "probe": "loss on something new ÷ that of fresh networks (probe; 1: as good as new)",
    "feature_rank_min": "effective rank of its features",
    "gradient_diversity_min": "gradient diversity",
}


def health(network: str, tag: str) -> str:
    """The key of a number in :data:`HEALTH` of a network."""
    return f"probe/{network}" if tag == "probe" else f"{network}/{tag}"


#: What there is of each layer.
LAYERS = {
    "spectral_norm": "largest singular value of each layer",
    "dormant": "share of dormant units in each layer",
    "saturated": "share of saturated units in each layer",
    "effective_rank": "effective rank of each layer's weights",
    "feature_srank": "srank of the features that each output layer gets",
    "update_ratio": "‖ΔW‖/‖W‖ of each layer by the updates on one rollout",
}

NETWORKS = {"actor": "actor", "critic": "critic", "encoder": "shared encoder", "network": "network"}
#: The places of their charts. A run has either the last or some of the others.
PLACES = {"actor": 0, "critic": 1, "encoder": 2, "network": 0}

#: The regular expression of each chart's tags, by category and title. They are the same for every agent, so that runs
#: of different agents share the page: TensorBoard joins charts that are equal. No two have the same title.
CHARTS: dict[str, dict[str, str]] = {
    "1 · Does it learn each task?": {
        "Success, a line for each task": r"success/\d.*",
        "Score, a line for each task": r"score/\d.*",
        "Return, a line for each task": r"return/\d.*",
        "Reward per step, a line for each task": r"reward_rate/\d.*",
        "Accuracy, a line for each task": r"accuracy/\d.*",
        "R², a line for each task": r"r_squared/\d.*",
        "Return of all episodes that ended of late, the short ones first": "rollout/return_of_ended",
        "Which task it is at (0: the first)": "task/index",
        "Entropy of the policy: does it still explore?": "policy/entropy",
    },
    **{
        f"{2 + PLACES[network]} · Can the {name} still learn?": {
            f"{name.capitalize()}: {what}": health(network, tag) for tag, what in HEALTH.items()
        }
        for network, name in NETWORKS.items()
    },
    "5 · What has it kept of the tasks before?": {
        "Success in each task, after each": r"evaluation/success/\d.*",
        "Score in each task, after each": r"evaluation/score/\d.*",
        "Return in each task, after each": r"evaluation/return/\d.*",
        "Reward per step in each task, after each": r"evaluation/reward_rate/\d.*",
        "Forgetting: what tasks have lost since they were learned": "transfer/forgetting",
        "Average over all tasks": "transfer/average_performance",
    },
    "6 · What happens at a switch?": {
        "Entropy of the policy as it comes to a task": "switch/entropy",
        "Error of the values as they come to a task": "switch/value_error",
        "Steps until it first does better than it came": "switch/first_improvement",
        "Steps until it first solves the task": "switch/first_success",
    },
    **{
        f"{7 + PLACES[network]} · The {name}, layer by layer": {
            f"{name.capitalize()}: {what}": f"{network}_layers/{group}/.*" for group, what in LAYERS.items()
        }
        for network, name in NETWORKS.items()
    },
}


@lru_cache(maxsize=1 << 16)
def charts_of(tag: str) -> frozenset[str]:
    """The titles of the charts that a tag is in."""
    return frozenset(
        title for charts in CHARTS.values() for title, pattern in charts.items() if re.fullmatch(pattern, tag)
    )


def page(titles: Iterable[str]) -> Summary:
    """What TensorBoard makes the page of: the charts with these titles."""
    wanted = set(titles)
    found = {
        category: {title: ["Multiline", [f"^{pattern}$"]] for title, pattern in charts.items() if title in wanted}
        for category, charts in CHARTS.items()
    }
    summary: Summary = custom_scalars({category: charts for category, charts in found.items() if charts})
    return summary
