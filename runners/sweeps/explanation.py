"""Whether agents lose plasticity on a sequence, what the loss sits in, and what helps: in three sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.attribution import INTERVENTIONS, named
from neoteny.runners.attribution.reading import areas_of, in_plain_words, of_runs
from neoteny.runners.attribution.shares import Attribution, attribute
from neoteny.runners.measures import in_words
from neoteny.runners.measures.visit import OF_EXAMPLES
from neoteny.runners.reports.environment import mean
from neoteny.runners.reports.plots import NORM
from neoteny.runners.reports.reference import BARE, FRESH, difference
from neoteny.runners.reports.scores import Runs, Scores, interval, scores
from neoteny.runners.reports.wording import in_its_words
from neoteny.runners.sweeps.keeping import Trials, read_folder

#: What an attribution that was stopped at once has not.
ENDS = {"nothing", "everything"}


class Attributed(NamedTuple):
    """What an attribution of runs without a method says.

    Attributes:
        seeds: of the runs. Of several, intervals are over them, trials averaged; of one, over its trials.
        task: at which switch: into this task, the first being 1.
        measure: what is compared.
        found: the shares of the gap.
    """

    seeds: list[int]
    task: int
    measure: str
    found: Attribution

    @property
    def where(self) -> str:
        return f"into task {self.task} ({listed_seeds(self.seeds)})"


class Explanation(NamedTuple):
    """What is explained: one agent, without a method, with methods, and fresh.

    Attributes:
        agent: its label.
        measure: the headline of its runs.
        runs: by label of the method, the one without (``none``) first, ``fresh agents`` last; complete seeds only.
        attributed: what the loss sits in, if that was asked.
        notes: what was left out.
    """

    agent: str
    measure: str
    runs: Runs
    attributed: Attributed | None
    notes: list[str]

    def values(self, name: str, column: str = "") -> Scores:
        """(seeds × tasks): the mean of the measure over each task, or another column."""
        return scores(self.runs[name], column or f"{self.measure}_mean")

    @property
    def has_norms(self) -> bool:
        """Whether the largest singular values were measured."""
        return all(np.isfinite(self.values(name, NORM)).all() for name in self.runs)

    @property
    def late(self) -> slice:
        """The second half of the tasks."""
        tasks = self.values("none").shape[1]
        return slice(tasks // 2, tasks)


def explain(folder: Path, agent: str | None = None, task: int | None = None) -> Explanation:
    """What the runs in ``folder``, those of one environment, say.

    Args:
        folder: such as runs/plasticity/cartpole-rotate, or one that keeps the rows of such runs.
        agent: the label of the agent, if there are several.
        task: of the attribution, the first being 1, if there are several.

    Raises:
        ConfigError: there are no such runs.
    """
    found, trials = read_folder(folder)
    everything = {name: seeds for name, seeds in found.items() if any(seeds.values())}
    agents = [name.removesuffix(BARE) for name in everything if name.endswith(BARE) and not name.endswith(FRESH)]
    if not agents:
        raise ConfigError(
            f"{folder} has no finished task of a run without a method, in <agent>-none/seed-<s>/tasks.csv"
        )
    if agent is None and len(agents) > 1:
        raise ConfigError(f"--agent: choose one of {', '.join(agents)}")
    agent = configs.choose("--agent", agent or agents[0], {name: name for name in agents})
    own = {name: seeds for name, seeds in everything.items() if _is_of(name, agent, agents)}
    order = [f"{agent}{BARE}", *sorted(own.keys() - {f"{agent}{BARE}", f"{agent}{FRESH}"}), f"{agent}{FRESH}"]
    called = {name: name.removeprefix(f"{agent}-") for name in order} | {f"{agent}{FRESH}": "fresh agents"}
    runs, notes = _complete({called[name]: own[name] for name in order if name in own})
    first = next(iter(next(iter(runs.values())).values()))[0]
    attributed = _attributed({place: rows for place, rows in trials.items() if place.method == f"{agent}{BARE}"}, task)
    return Explanation(agent, first.get("headline") or "return", runs, attributed, notes)


def _is_of(name: str, agent: str, agents: Sequence[str]) -> bool:
    """Whether the folder is one of this agent's: one called ``ppo-trac-…`` is none of ``ppo``'s, if both are there."""
    fits = [each for each in agents if name.startswith((f"{each}-", f"{each},fresh-"))]
    return max(fits, key=len, default=None) == agent


def _complete(runs: Runs) -> tuple[Runs, list[str]]:
    """The seeds that have as many tasks as any has; and who is left out."""
    tasks = max(len(rows) for seeds in runs.values() for rows in seeds.values())
    found, notes = {}, []
    for name, seeds in runs.items():
        whole = {seed: rows for seed, rows in seeds.items() if len(rows) == tasks}
        if short := [seed for seed in seeds if seed not in whole]:
            notes.append(f"{name}: {listed_seeds(short)} left out, since not all {tasks} tasks are finished")
        if whole:
            found[name] = whole
    if "none" not in found:
        raise ConfigError(f"no run without a method has finished all {tasks} tasks")
    return found, notes


def _attributed(trials: Trials, task: int | None) -> Attributed | None:
    """The attribution into the first task that has one, or into ``task``, of all runs that have it."""
    whole = {place: rows for place, rows in trials.items() if {row["intervention"] for row in rows} >= ENDS}
    task = min((place.task for place in whole), default=0) if task is None else task
    chosen = {place.seed: areas_of(rows) for place, rows in sorted(whole.items()) if place.task == task}
    if not chosen:
        return None
    measure, together = next(iter(chosen.values()))
    if len(chosen) > 1:
        together = of_runs([areas for _, areas in chosen.values()])
    return Attributed([*chosen], task, measure, attribute(together))


def listed_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def sentences(this: Explanation) -> list[str]:
    """One on the loss, one on its cause, one on what helps; each says what is not known. Nobody can ask for the cause
    in networks that learn from examples."""
    asked = this.attributed is not None or this.measure not in OF_EXAMPLES
    return in_its_words([_loss(this), *([_cause(this)] if asked else []), _help(this)], this.measure)


def _show(values: Scores) -> str:
    """The mean over tasks and seeds with its interval; tasks without a mean return are left out."""
    known = np.array([mean(row) for row in values])
    known = known[np.isfinite(known)]
    if not len(known):
        return "not known"
    middle, low, high = interval(known)
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]" if len(known) > 1 else f"{middle:.3g}"


def _sure(live: Scores, fresh: Scores) -> int:
    """1 if the fresh agents are better by the interval of the difference, -1 if they are worse, else 0."""
    _, low, high = difference(live, fresh)
    return int(high < 0) - int(low > 0)


def _loss(this: Explanation) -> str:
    late = this.values("none")[:, this.late]
    numbers = f"tasks {this.late.start + 1} to {this.late.stop}" if late.shape[1] > 1 else f"task {this.late.stop}"
    text = f"Without a method the mean {in_words(this.measure)} of {numbers} is {_show(late)}"
    if "fresh agents" not in this.runs:
        return f"{text}; there are no fresh agents to compare it with."
    fresh = this.values("fresh agents")[:, this.late]
    verdict = {
        1: "plasticity is lost",
        0: "no loss of plasticity is sure",
        -1: "what was learned before helps, and no plasticity is lost",
    }[_sure(late, fresh)]
    text = f"{text}, that of agents that begin every task anew {_show(fresh)}: {verdict}"
    if not this.has_norms:
        return f"{text}."
    norms = this.values("none", NORM).mean(0)
    return (
        f"{text}, while the largest singular value of a layer goes from {norms[0]:.3g} after the first task to "
        f"{norms[-1]:.3g} after the last."
    )


def _cause(this: Explanation) -> str:
    if this.attributed is None:
        return "What it sits in was not asked: attribute.py does, of a run with --keep-agents."
    found = this.attributed.found
    at = f"At the switch {this.attributed.where}"
    if not found.shares:
        return f"{at}: {in_plain_words(this.attributed.measure, found)[0]}"
    by_share = sorted(found.shares.items(), key=lambda each: -each[1].middle)
    parts = ", ".join(f"{INTERVENTIONS[name].about.partition(';')[0]} {share}" for name, share in by_share)
    places = named(found)
    what = "loss" if found.gap.sign > 0 else "advantage over a fresh agent"
    verdict = f"the {what} sits in the {' and in the '.join(places)}" if places else f"the {what} sits in no part alone"
    return f"{at} so much of the gap to a fresh agent is gone where one thing alone is fresh: {parts}; {verdict}."


def _help(this: Explanation) -> str:
    methods = [name for name in this.runs if name not in ("none", "fresh agents")]
    if not methods:
        return "No method was tried."
    late: Callable[[str], Scores] = lambda name: this.values(name)[:, this.late]  # noqa: E731
    methods.sort(key=lambda name: -np.nan_to_num(np.nanmean(late(name)), nan=-np.inf))
    told = [f"{_show(late(name))} with {name}{_last_norm(this, name)}" for name in methods]
    text = f"The mean {in_words(this.measure)} of these tasks is {'; '.join(told)}"
    better = [name for name in methods if _sure(late("none"), late(name)) > 0]
    text += f": {_listed(better)} sure to help" if better else ": none of them is sure to help"
    if "fresh agents" in this.runs:
        short = [name for name in better if _sure(late(name), late("fresh agents")) > 0]
        text += f", {_listed(short)} still behind fresh agents" if short else ""
    return f"{text}."


def _last_norm(this: Explanation, name: str) -> str:
    if not this.has_norms:
        return ""
    return f", σ₁ {this.values(name, NORM)[:, -1].mean():.3g} at the end"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last} are" if others else f"{last} is"
