"""Trainability drift: what is read off the networks while they learn, actor and critic apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neoteny.agents.continual import CRITIC
from neoteny.runners.measures import steps_of
from neoteny.runners.measures.verdicts import RULES, has_drifted, number
from neoteny.runners.reports.environment import Environment, means
from neoteny.runners.reports.figures import Cell, Figure, Line, Panel
from neoteny.runners.reports.scores import Scores
from neoteny.runners.reports.sources import Run

NETWORKS = {
    "actor": "actor",
    "critic": "critic",
    "encoder": "shared encoder",
    "network": "network",
    "": "worst of all networks",
}


@dataclass(frozen=True)
class Kind:
    """Something that is measured of networks.

    Attributes:
        title: what it is, as people call it.
        column: of progress.csv, up to the layer's name.
        summary: the column of tasks.csv that has the worst of all networks.
        log: whether its axis is logarithmic.
    """

    title: str
    column: str
    summary: str
    log: bool = False

    @property
    def rule(self) -> tuple[str, float]:
        """How much worse than at the first task's end is a drift."""
        return RULES[self.summary or "probe"]

    @property
    def worse(self) -> int:
        """-1, if smaller is worse, else 1."""
        return -1 if self.rule[0] == "÷" else 1


KINDS = (
    Kind("largest singular value σ_max", "spectral_norm/", "spectral_norm_max", log=True),
    Kind("share of dormant units", "dormant/", "dormant_max"),
    Kind("feature rank", "feature_rank/", "feature_rank_min"),
    Kind("gradient diversity", "gradient_diversity/", "gradient_diversity_min"),
    Kind("condition number", "condition_number/", "condition_number_max", log=True),
    Kind("policy entropy", "policy/entropy", "policy_entropy"),
    Kind("probe: loss on random targets ÷ that of fresh networks", "probe/", "", log=True),
)

HOW = (
    "Each panel is one number of one network, the worst over its layers. Worse is up for σ_max, dormant units, "
    "condition number and probe, and down for rank, diversity and entropy. Lines are means over seeds with 95 % "
    "intervals, bands are tasks. A number that keeps getting worse from task to task, most of all where the "
    "learning curve falls too, is a sign that this network loses its ability to learn. Learning itself moves these "
    "numbers as well: they go with a loss, and do not prove it."
)


def network_of(column: str, kind: Kind) -> str | None:
    """The network that a column of progress.csv is of, by the layer's name; None if it is none of this kind."""
    if not column.startswith(kind.column):
        return None
    layer = column[len(kind.column) :]
    if kind.column == "policy/entropy":
        return "actor" if not layer else None
    if layer in ("actor", "critic"):
        return layer
    if kind.column == "probe/":
        return None  # its variants
    return "encoder" if layer.startswith("features_extractor.") else "critic" if CRITIC.search(layer) else "actor"


def columns(run: Run, kind: Kind) -> dict[str, list[str]]:
    """The columns of progress.csv that a number is in, by network: as the run says, or else by the layers' names."""
    said = {name: [column] for name in NETWORKS if (column := f"{name}/{kind.summary}") in run.progress}
    if said:
        return said
    found: dict[str, list[str]] = {}
    for column in run.progress:
        if network := network_of(column, kind):
            found.setdefault(network, []).append(column)
    return found


def worst(run: Run, kind: Kind, network: str) -> Scores:
    """The worst over a network's layers, for each row of progress.csv; NaN where nothing was read."""
    values = [run.progress[column] for column in columns(run, kind).get(network, ())]
    if not values:
        return np.full(len(run.progress.get("step", ())), np.nan)
    pick = np.fmax if kind.worse > 0 else np.fmin
    found: Scores = pick.reduce([np.where(np.isinf(each), np.nan, each) for each in values])
    return found


Drawn = tuple[Kind, str, Panel]


def panels(env: Environment) -> Iterator[Drawn]:
    """A panel for each number and network that some run has."""
    for kind in KINDS:
        there = {network for run in env.runs for network in columns(run, kind)}
        for network in filter(there.__contains__, NETWORKS):
            lines = list(_lines(env, kind, network))
            if lines:
                yield kind, network, _panel(env, kind, NETWORKS[network], lines)
        if not there and (lines := list(_summaries(env, kind))):
            yield kind, "", _panel(env, kind, f"{NETWORKS['']}, at each task's end", lines)


def _panel(env: Environment, kind: Kind, where: str, lines: list[Line]) -> Panel:
    values = [value for line in lines for value in line.numbers.values if math.isfinite(value)]
    log = kind.log and min(values) > 0 and max(values) > 4 * min(values)
    label = kind.title.partition(":")[0]
    return Panel(f"{where}: {kind.title}", steps_of(env.headline), label, lines, log, env.bands)


def _lines(env: Environment, kind: Kind, network: str) -> Iterator[Line]:
    for method in env.methods:
        values = env.binned(method, lambda run: worst(run, kind, network))
        if len(values) and (known := np.isfinite(values).any(0)).any():
            x = [float(edge) for edge in env.edges[1:][known]]
            yield Line(
                env.called[method], x, means(values[:, known]).numbers, style=env.styles[method], marks=len(x) <= 60
            )


def _summaries(env: Environment, kind: Kind) -> Iterator[Line]:
    ends = [end for _, end, _ in env.bands]
    for method in env.methods:
        values = env.scores(method, kind.summary)
        values = np.where(np.isinf(values), np.nan, values)
        if np.isfinite(values).any():
            yield Line(env.called[method], ends, means(values).numbers, style=env.styles[method], marks=True)


@dataclass(frozen=True)
class Drift:
    """How a number of a network went, from the first task to the last.

    Attributes:
        method, kind, network: of what.
        layer: the layer that is worst at the end; empty, where that is not known.
        first, last: at the end of the first and of the last task: mean over runs.
        since: the task, the first being 1, from which on it is worse than at the end of the first: in the mean by the
            rule, and better in no run; None: it does not drift.
        runs: how many have it.
    """

    method: str
    kind: Kind
    network: str
    layer: str
    first: float
    last: float
    since: int | None
    runs: int

    def row(self) -> dict[str, Cell]:
        return {
            "method": self.method,
            "network": NETWORKS[self.network],
            "number": self.kind.title,
            "after the first task": self.first,
            "after the last": self.last,
            "drifts": "no" if self.since is None else f"since task {self.since}",
            "worst layer": self.layer,
            "runs": self.runs,
        }


def drifts(env: Environment, drawn: Sequence[Drawn]) -> list[Drift]:
    """Of every method, number and network, those that drift first, and those of them that began early."""
    found = [
        drift
        for kind, network, _ in drawn
        for method in env.live
        if (drift := _drift(env, method, kind, network)) is not None
    ]
    return sorted(found, key=lambda drift: (drift.since is None, drift.since or 0))


def _drift(env: Environment, method: str, kind: Kind, network: str) -> Drift | None:
    runs = env.of(method)
    values = np.array([_ends(env, run, kind, network) for run in runs])
    known = np.isfinite(values).any(0)
    if known.sum() < 2:
        return None
    middle = means(values).middle
    places = np.flatnonzero(known)
    first, last = places[0], places[-1]
    since = None
    for place in places[:0:-1]:
        change = values[:, place] - values[:, first]
        alike = (kind.worse * change[np.isfinite(change)] >= 0).all()
        if not (alike and has_drifted(middle[first], middle[place], *kind.rule)):
            break
        since = int(place) + 1
    count = int(np.isfinite(values[:, last]).sum())
    layer = _worst_layer(runs, kind, network)
    return Drift(env.called[method], kind, network, layer, float(middle[first]), float(middle[last]), since, count)


def _ends(env: Environment, run: Run, kind: Kind, network: str) -> list[float]:
    """What was read last in each task; NaN where nothing was, or the task was not finished."""
    found = [math.nan] * len(env.tasks)
    values = worst(run, kind, network) if network and run.progress else np.empty(0)
    for task, row in enumerate(run.tasks):
        inside = run.inside(task, values) if len(values) else np.empty(0)
        if not network:
            found[task] = number(row, kind.summary)
        elif inside.size:
            found[task] = float(inside[-1])
    return [value if math.isfinite(value) else math.nan for value in found]


def _worst_layer(runs: list[Run], kind: Kind, network: str) -> str:
    """The layer that is the worst of its network at the end of the first run that says it."""
    for run in runs:
        end = _last(worst(run, kind, network)) if network else math.nan
        others = {kind.column + network for network in NETWORKS}  # numbers of whole networks
        layers = [name for name in run.progress if network_of(name, kind) and name not in others]
        found = [name for name in layers if _last(run.progress[name]) == end]
        if found:
            return found[0].removeprefix(kind.column)
    return ""


def _last(values: Scores) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else math.nan


def drift(drawn: Sequence[Drawn], found: Sequence[Drift]) -> Figure | None:
    """The figure, and the table of what drifts since when."""
    if not drawn:
        return None
    rule = (
        "Drifts: from this task on better than after the first task in no run, and worse on average by half as much "
        "again (dormant: 0.1 more of the units; entropy: half; condition number: ten times). "
    )
    return Figure(
        "drift",
        "Trainability drift",
        HOW + " " + rule,
        [panel for *_, panel in drawn],
        table=[each.row() for each in found],
        pick=True,
    )
