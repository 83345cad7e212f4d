"""TensorBoard's page of custom scalars: which charts it has, in which order, and of which tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars

NETWORKS = "(actor|critic|encoder)"


def _layers(network: str) -> dict[str, list[str]]:
    """The charts of a network, with a line for each of its layers."""
    return {
        "σ_max, the largest singular value": [f"{network}_layers/spectral_norm/.*"],
        "Dormant units, as a share": [f"{network}_layers/dormant/.*"],
        "Saturated units, as a share": [f"{network}_layers/saturated/.*"],
        "Effective rank of the weights": [f"{network}_layers/effective_rank/.*"],
        "Effective rank of the features": [f"{network}_layers/feature_rank/.*"],
        "How far updates move the weights, ‖ΔW‖/‖W‖": [f"{network}_layers/update_ratio/.*"],
    }


#: The regular expressions of each chart's tags, by category and title. They are the same for every agent, so that runs of
#: different agents share the page: TensorBoard joins charts that are equal. Each title is there once.
CHARTS: dict[str, dict[str, list[str]]] = {
    "1 · Does it learn each task?": {
        "Success, a line for each task": [r"success/\d.*"],
        "Score, a line for each task": [r"score/\d.*"],
        "Return, a line for each task": [r"return/\d.*"],
        "Reward per step, a line for each task": [r"reward_rate/\d.*"],
        "Which task it is at (0: the first)": ["task/index"],
    },
    "2 · Can its networks still learn? (actor and critic apart)": {
        "Probe: loss on something new ÷ that of fresh networks (1: as good as new)": ["probe/(actor|critic)"],
        "σ_max, the largest singular value in each network": [f"{NETWORKS}/spectral_norm_max"],
        "Dormant units: the share in each network's worst layer": [f"{NETWORKS}/dormant_max"],
        "Effective rank of the features in each network": [f"{NETWORKS}/feature_rank_min"],
        "Gradient diversity in each network": [f"{NETWORKS}/gradient_diversity_min"],
        "Entropy of the policy: does it still explore?": ["policy/entropy"],
    },
    "3 · What happens at a switch?": {
        "Entropy of the policy as it comes to a task": ["switch/entropy"],
        "Error of the values as they come to a task": ["switch/value_error"],
        "Steps until it first does better than it came": ["switch/first_improvement"],
        "Steps until it first solves the task": ["switch/first_success"],
    },
    "4 · What did it keep of the tasks before?": {
        "Success in each task, whichever it learns": [r"evaluation/success/\d.*"],
        "Score in each task, whichever it learns": [r"evaluation/score/\d.*"],
        "Return in each task, whichever it learns": [r"evaluation/return/\d.*"],
        "Reward per step in each task, whichever it learns": [r"evaluation/reward_rate/\d.*"],
        "Forgetting: what tasks have lost since they were learned": ["transfer/forgetting"],
        "Average over all tasks": ["transfer/average_performance"],
    },
    **{
        f"{number} · The {network}, layer by layer": {
            f"{network.capitalize()}: {title}": tags for title, tags in _layers(network).items()
        }
        for number, network in enumerate(("actor", "critic", "encoder"), 5)
    },
}


@lru_cache(maxsize=1 << 16)
def charts_of(tag: str) -> frozenset[str]:
    """The titles of the charts that a tag is in."""
    return frozenset(
        title
        for charts in CHARTS.values()
        for title, tags in charts.items()
        if any(re.fullmatch(pattern, tag) for pattern in tags)
    )


def page(titles: Iterable[str]) -> Summary:
    """What TensorBoard makes the page of: the charts with these titles."""
    wanted = set(titles)
    found = {
        category: {
            title: ["Multiline", [f"^{pattern}$" for pattern in tags]]
            for title, tags in charts.items()
            if title in wanted
        }
        for category, charts in CHARTS.items()
    }
    summary: Summary = custom_scalars({category: charts for category, charts in found.items() if charts})
    return summary
