"""Metrics: functions of an agent that are logged several times in each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from neoteny import configs
from neoteny.agents.attached import Attached
from neoteny.runners.measures.groups import GROUPS

#: A function of an agent that leaves it as it is and gives numbers by name.
Metric = Callable[[Attached], Mapping[str, float]]


def reg(agent: Attached) -> dict[str, float]:
    """The scalars of each attached method, by role, and the share of the role's weights that it acts on."""
    found = {f"{role}/acted_on": method.share() for role, method in agent.methods.items()}
    for role, method in agent.methods.items():
        found |= {f"{role}/{name}": float(value) for name, value in method.scalars().items()}
    return found


def optimizer(agent: Attached) -> dict[str, float]:
    """The scalars of each optimizer, by network where there are several."""
    return {
        f"{network.replace('.', '/')}/{name}".removeprefix("/"): float(value)
        for network, optimizer in agent.optimizers().items()
        for name, value in getattr(optimizer, "scalars", dict)().items()
    }


#: Those of every run, by the group that they are logged in, beside the instruments.
METRICS: dict[str, Metric] = {"reg": reg, "optimizer": optimizer}


def find_metric(name: str) -> Metric:
    """A metric by ``module:function``.

    Raises:
        ConfigError: there is none, it cannot be called, or its name is taken.
    """
    if ":" not in name:
        raise configs.ConfigError(
            f"{name!r}: module:function is expected; every run has {', '.join([*METRICS, *GROUPS])}"
        )
    metric = configs.find_object("metrics", name)
    if not callable(metric) or not hasattr(metric, "__name__"):
        raise configs.ConfigError(f"{name!r} is no function")
    if metric.__name__ in {*METRICS, *GROUPS}:
        raise configs.ConfigError(f"{name!r}: every run has a metric of this name; choose another")
    return metric


def measure(agent: Attached, more: Iterable[str] = ()) -> dict[str, float]:
    """Every metric's numbers, those of ``more`` included, as ``metric/number``.

    Raises:
        ConfigError: one of ``more`` gives no numbers by name, or raises an error.
    """
    found = {f"{group}/{name}": value for group, metric in METRICS.items() for name, value in metric(agent).items()}
    for name in more:
        metric = find_metric(name)
        try:
            found |= {f"{metric.__name__}/{key}": float(value) for key, value in metric(agent).items()}
        except Exception as error:
            raise configs.ConfigError(
                f"metrics: {name}: numbers by name are expected of it, called with the agent: {configs.raised(error)}"
            ) from error
    return found
