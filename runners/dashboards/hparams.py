"""The settings of a run as TensorBoard's HParams page and wandb list them, beside what the run has come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neoteny.runners.measures import HEADLINES


def metrics_of(plain: Mapping[str, Any]) -> list[str]:
    """The tags of what a run has come to, of which the last value counts. ``plain`` as in :func:`hparams_of`."""
    measures = dict.fromkeys((HEADLINES[plain["env"]["score"]], "return"))
    found = [f"{name}_{when}" for name in measures for when in ("mean", "final")]
    found += ["spectral_norm_max", "dormant_max", "feature_rank_min", "tasks"]
    return [f"overall/{name}" for name in found] + ["transfer/forgetting"] * plain["evaluate_all"]


def hparams_of(plain: Mapping[str, Any]) -> dict[str, str | float]:
    """A run's settings that runs are compared by, in one row: the same names for every agent and method.

    Settings of the agent that another agent lacks are left out, as the columns are those of the first run that
    TensorBoard finds. The labels of agent and method have what differs from their presets.

    Args:
        plain: of :attr:`~neoteny.runners.experiments.Experiment.plain`.
    """
    agent, labels = plain["agent"], plain["labels"]
    network = agent.get("network") or {}
    return {
        "env": labels["env"],
        "agent": labels["agent"],
        "method": labels["reg"],
        "strength": strengths(plain["reg"]),
        "seed": plain["seed"],
        "learning_rate": _number(agent.get("learning_rate")),
        "num_envs": agent.get("num_envs", 0),
        "batch_size": _number(agent.get("batch_size")),
        "gamma": _number(agent.get("gamma")),
        "hidden": str(network.get("hidden", "")) if isinstance(network, Mapping) else "",
        "fresh": str(plain["fresh"]),
    }


def strengths(reg: Any) -> str:
    """The strength of each method that has one, in words; ``"none"`` if there is none."""
    found = list(_strengths(reg, ""))
    if len(found) == 1:
        return f"{found[0][1]:g}"
    return ", ".join(f"{name} {value:g}" for name, value in found) or "none"


def _strengths(reg: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(reg, list):
        for part in reg:
            yield from _strengths(part, "")
    elif isinstance(reg, Mapping):
        if isinstance(value := reg.get("strength"), (int, float)):
            yield name or reg.get("method", ""), value
        for key, part in reg.items():
            yield from _strengths(part, key if key != "methods" else "")


def _number(value: Any) -> float | str:
    return value if isinstance(value, (int, float)) else str(value)
