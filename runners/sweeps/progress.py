"""What of a sweep is there, and how long the rest of it will take."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from neoteny.configs import ConfigError
from neoteny.runners.experiments import AnyExperiment, PlannedRun
from neoteny.runners.experiments.base import short
from neoteny.runners.runs.folder import compare
from neoteny.runners.runs.recovery import NOTHING, recover
from neoteny.runners.runs.tables import read_rows


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        run: the run.
        begun: there is something of it.
        step: environment steps done, those of the last checkpoint that is whole.
        steps: of the whole run.
        complete: nothing is left to do.
        rate: environment steps per second of runs like this; None if there are none.
    """

    run: PlannedRun
    begun: bool
    step: int
    steps: int
    complete: bool
    rate: float | None

    @property
    def state(self) -> str:
        return "complete" if self.complete else "begun" if self.begun else "missing"

    @property
    def seconds(self) -> float | None:
        """What is left takes so long; None if nobody knows."""
        if self.complete:
            return 0.0
        return (self.steps - self.step) / self.rate if self.rate else None


def progress_of(runs: Sequence[PlannedRun]) -> list[Progress]:
    """How far every run is. Nothing is written.

    Raises:
        ConfigError: a folder holds a run of other settings.
    """
    rates: dict[Path, dict[str, float]] = {}
    found = []
    for run in runs:
        experiment = run.experiment
        begun = (experiment.folder / "config.yaml").exists()
        segment, step = _last(experiment) if begun else (-1, 0)
        segments = experiment.segments
        complete = segment == len(segments) - 1 and not experiment.evaluates
        env = experiment.folder.parents[1]
        if env not in rates:
            rates[env] = measured_rates(env)
        steps = sum(segment.steps for segment in segments)
        rate = None if complete else _of_like(rates[env], experiment)
        found.append(Progress(run, begun, step, steps, complete, rate))
    return found


def _last(experiment: AnyExperiment) -> tuple[int, int]:
    """The segment and the step that the run would go on from; (-1, 0) where nothing is whole, which it will say."""
    compare(experiment.folder, experiment.plain)
    return reached(experiment)


def reached(experiment: AnyExperiment) -> tuple[int, int]:
    """The segment and the step of the last checkpoint that is whole; (-1, 0) if there is none."""
    try:
        state, _ = recover(experiment.folder)
    except ConfigError:
        state = NOTHING
    return state["segment"], state["step"]


def headline_mean(folder: Path, tasks: int = sys.maxsize) -> tuple[str, float] | None:
    """What a run is scored by, and its mean over the first tasks; None before one has ended."""
    rows = read_rows(folder / "tasks.csv", sys.maxsize)[:tasks]
    headline = rows[0].get("headline", "return") if rows else ""
    values = [float(row[f"{headline}_mean"]) for row in rows if row.get(f"{headline}_mean")]
    return (headline, sum(values) / len(values)) if values else None


def measured_rates(env: Path) -> dict[str, float]:
    """Environment steps per second, the median over tasks and seeds, of each folder of runs in ``env``."""
    rates: dict[str, list[float]] = {}
    for file in env.glob("*/seed-*/tasks.csv"):
        rates.setdefault(file.parents[1].name, []).extend(
            float(row["steps_per_second"]) for row in read_rows(file, sys.maxsize)
        )
    return {name: statistics.median(speeds) for name, speeds in rates.items() if speeds}


def _of_like(measured: Mapping[str, float], experiment: AnyExperiment) -> float | None:
    """That of the same agent and method or, if there is none yet, of the same agent with others."""
    name, agent = experiment.folder.parent.name, short(experiment.labels["agent"])
    others = [value for other, value in measured.items() if other.startswith((f"{agent}-", f"{agent},"))]
    return measured.get(name) or (statistics.median(others) if others else None)


def describe_disk(found: Sequence[Progress]) -> str:
    """How much disk the rest needs, going by what runs like them take that are complete."""
    sizes: dict[Path, dict[str, list[int]]] = {}
    for each in found:
        folder = each.run.experiment.folder
        if each.complete:
            own = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            sizes.setdefault(folder.parents[1], {}).setdefault(folder.parent.name, []).append(own)
    usual = {env: {name: statistics.median(all_) for name, all_ in names.items()} for env, names in sizes.items()}
    left = [each.run.experiment for each in found if not each.complete]
    known = [size for run in left if (size := _of_like(usual.get(run.folder.parents[1], {}), run)) is not None]
    if not left:
        return "no disk is needed"
    if not known:
        return "no run like them is complete yet, so the disk that they need is not known"
    return f"about {sum(known) / len(known) * len(left) / 1e6:,.0f} MB of disk are needed for them"


def describe(found: Sequence[Progress], jobs: int) -> str:
    """How many runs there are, how many are complete, and how long the rest takes, so many at a time."""
    left = [each for each in found if not each.complete]
    begun = sum(each.state == "begun" for each in left)
    text = f"{len(found)} runs: {len(found) - len(left)} complete, {begun} begun, {len(left) - begun} missing"
    known = [each.seconds for each in left if each.seconds is not None]
    if not left:
        return text
    if not known:
        return f"{text}; no run like them has ended yet, so their time is not known"
    guess = sum(known) / len(known) * len(left) / min(jobs, len(left))
    rest = f" ({len(left) - len(known)} of them taken to be like the others)" if len(known) < len(left) else ""
    return f"{text}; about {duration(guess)} left at {jobs} at a time{rest}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
