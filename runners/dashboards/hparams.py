"""The settings of a run as TensorBoard's HParams page and wandb list them, beside what the run has come to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.struct_pb2 import Value
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from neoteny.runners.measures import HEADLINES, in_words
from neoteny.runners.measures.visit import OF_EXAMPLES

#: The settings that are shown first.
FIRST = ("agent", "env", "method", "seed", "strength")


def summary_of(plain: Mapping[str, Any]) -> Summary:
    """What the page HParams is made of: a run's settings, and the tags of what the run comes to, the last values.

    Args:
        plain: of :attr:`~neoteny.runners.experiments.Experiment.plain`.
    """
    settings = hparams_of(plain)
    infos, start = [], plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in settings.items():
        text = isinstance(value, str)
        start.hparams[name].CopyFrom(Value(string_value=value) if text else Value(number_value=value))  # type: ignore[arg-type]
        kind = "DATA_TYPE_STRING" if text else "DATA_TYPE_FLOAT64"
        infos.append(api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(kind), differs=name in FIRST))
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title)
        for tag, title in metrics_of(plain).items()
    ]
    return _summary(
        (metadata.EXPERIMENT_TAG, {"experiment": api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)}),
        (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
    )


def end_of() -> Summary:
    """What says there that the run is complete."""
    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    return _summary((metadata.SESSION_END_INFO_TAG, {"session_end_info": info}))


def _summary(*contents: tuple[str, dict[str, Any]]) -> Summary:
    values = [
        Summary.Value(
            tag=tag,
            tensor=metadata.NULL_TENSOR,
            metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content)),
        )
        for tag, content in contents
    ]
    return Summary(value=values)


def metrics_of(plain: Mapping[str, Any]) -> dict[str, str]:
    """What a run comes to: how the columns are called, by tag. ``plain`` as in :func:`hparams_of`."""
    headline = HEADLINES[plain["env"]["score"]]
    measures = dict.fromkeys([headline, *(["return"] if headline not in OF_EXAMPLES else [])])
    found = {}
    for name in measures:
        found[f"overall/{name}_mean"] = f"{in_words(name)}, mean over tasks"
        found[f"overall/{name}_final"] = f"{in_words(name)} at a task's end, mean over tasks"
    if plain.get("evaluate_all"):
        found["transfer/forgetting"] = "forgetting"
    return found | {
        "overall/spectral_norm_max": "σ_max at the end",
        "overall/dormant_max": "dormant units at the end (worst layer)",
        "overall/feature_rank_min": "rank of features at the end (worst network)",
        "overall/tasks": "tasks finished",
    }


def hparams_of(plain: Mapping[str, Any]) -> dict[str, str | float]:
    """A run's settings that runs are compared by, in one row: the same names for every agent and method.

    Settings of the agent that another agent lacks are left out, as the columns are those of the first run that
    TensorBoard finds. The labels of agent and method have what differs from their presets.

    Args:
        plain: of :attr:`~neoteny.runners.experiments.Experiment.plain`.
    """
    agent, labels = plain["agent"], plain["labels"]
    network = agent.get("network") or {}
    hidden = network.get("hidden", "") if isinstance(network, Mapping) else agent.get("hidden", "")
    return {
        "env": labels["env"],
        "agent": labels["agent"],
        "method": f"fresh agents, {labels['reg']}" if plain["fresh"] else labels["reg"],
        "strength": strengths(plain["reg"]),
        "seed": plain["seed"],
        "learning_rate": _number(agent.get("learning_rate")),
        "num_envs": agent.get("num_envs", 0),
        "batch_size": _number(agent.get("batch_size")),
        "gamma": _number(agent.get("gamma")),
        "hidden": str(hidden),
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
