"""The headline of a report, in words: what was learned, which method is best, what drifts, why, what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from neoteny.runners.measures import in_words
from neoteny.runners.reports import settings
from neoteny.runners.reports.causes import Attributed
from neoteny.runners.reports.comparison import Comparison
from neoteny.runners.reports.drift import NETWORKS, Drift
from neoteny.runners.reports.environment import Environment, means
from neoteny.runners.reports.figures import Figure, estimate, short
from neoteny.runners.reports.kept import measures
from neoteny.runners.reports.learning import learned_tasks
from neoteny.runners.reports.reference import compared
from neoteny.runners.reports.settings import spans
from neoteny.runners.reports.statistics import Estimate

#: How many are named before "and … more".
NAMED = 4
#: Bootstrap intervals of fewer runs are too narrow to be taken at their word.
FEW = 5


class Answer(NamedTuple):
    """A question, what the runs say to it, and the figure where it stands.

    Attributes:
        question: as people ask it.
        lead: the answer in a sentence.
        key: of the figure that it is read from.
        lines: method by method, or whatever there are several of.
    """

    question: str
    lead: str
    key: str
    lines: list[str]


def answers(
    env: Environment, found: Comparison, drifting: list[Drift], causes: list[Attributed], correlates: Figure | None
) -> list[Answer]:
    """The headline."""
    said = [
        Answer("Which tasks were learned?", *_learned(env)),
        Answer("Which method is best, and how sure is that?", *_best(env, found)),
        Answer("Does the agent lose its ability to learn?", *_lost(env)),
        Answer("What drifts, in which network, since when?", *_drifting(env, drifting)),
        Answer("Why?", *_why(causes, correlates)),
        Answer("What was forgotten?", *_forgotten(env)),
    ]
    if gaps := settings.missing(env):
        lead = f"{len(gaps)} thing{'s' * (len(gaps) > 1)} to know before you trust the numbers."
        said.append(Answer("What is missing?", lead, "what-was-run", _some(gaps)))
    return said


def _some(items: list[str]) -> list[str]:
    return [*items[:NAMED], *([f"… and {len(items) - NAMED} more"] if len(items) > NAMED else [])]


def _quoted(env: Environment, method: str) -> str:
    """A method's name in a sentence, in which “none” would be a word."""
    return f"“{env.called[method]}”"


def _names(env: Environment, methods: Iterable[str]) -> str:
    return ", ".join(_some([_quoted(env, method) for method in methods]))


Said = tuple[str, str, list[str]]


def _learned(env: Environment) -> Said:
    key, count = "tasks-learned", len(env.tasks)
    found = {method: tasks for method, tasks in learned_tasks(env).items() if tasks is not None}
    if not found:
        return "Not known: nothing says what an untrained agent reaches in a task.", key, []
    by_any = {task for method, tasks in found.items() if method not in env.fresh for task in tasks}
    order = sorted(found, key=lambda method: (method in env.fresh, -len(found[method])))
    lines = [
        f"{_quoted(env, m)}: {len(found[m])} of {count}" + f" ({_tasks(found[m])})" * bool(found[m]) for m in order
    ]
    if len(by_any) == count:
        everywhere = [m for m in order if m not in env.fresh and len(found[m]) == count]
        lead = f"All {count}" + (f", by {_names(env, everywhere)}." if everywhere else ", but by no method alone.")
    else:
        finals = [env.scores(method, f"{env.headline}_final") for method in env.live]
        known = [bool(np.isfinite(np.concatenate([each[:, task] for each in finals])).any()) for task in range(count)]
        rest = [task + 1 for task in range(count) if task + 1 not in by_any]
        lead = f"{len(by_any)} of {count}."
        if never := [task for task in rest if known[task - 1]]:
            lead += f" By no method {_tasks(never)}."
        if unknown := [task for task in rest if not known[task - 1]]:
            lead += f" Of {_tasks(unknown)} nothing is known: no episode came to its end."
    if len(env.methods) == 1:
        lead += " With one method alone that says: better than an untrained agent."
    return lead, key, _some(lines)


def _tasks(numbers: list[int]) -> str:
    return f"{'tasks' if len(numbers) > 1 else 'task'} {spans(numbers)}"


def _best(env: Environment, found: Comparison) -> Said:
    key = "comparison"
    if len(env.live) < 2:
        return f"There is one method here, {_names(env, env.live)}: nothing to compare it with.", key, []
    if not found.order or not found.tasks:
        return "Not known: the methods share no task on which they can be compared.", key, []
    best, second = found.order[:2]
    lines = [f"{_quoted(env, m)}: interquartile mean {estimate(*found.iqm[m])}" for m in found.order]
    ahead, chance = _ahead(env, found, best, second)
    names = _quoted(env, best), _quoted(env, second)
    if math.isnan(chance[1]):
        lead = f"{names[0]} is ahead, but with one run of a method nothing says how sure that is: run more seeds."
    elif chance[1] > 0.5:
        runs = min(len(found.scores[method]) for method in (best, second))
        few = " Intervals of so few runs are too narrow." if runs < FEW else ""
        lead = f"{names[0]} is better than {names[1]} at the 95 % level, from {runs} runs each.{few}"
    else:
        lead = f"Not clear: {names[0]} has the highest mean, and the runs do not tell it from {names[1]}."
    lines = [ahead, *_some(lines)]
    if env.baseline and env.baseline not in (best, second):
        lines.insert(1, _ahead(env, found, best, env.baseline)[0])
    return lead, key, lines


def _ahead(env: Environment, found: Comparison, one: str, other: str) -> tuple[str, Estimate]:
    """How probable it is that one is better; whole runs are drawn, which is the more cautious."""
    chance = found.better(one, other, whole_runs=True)
    runs = min(len(found.scores[method]) for method in (one, other))
    sure = "" if math.isnan(chance[1]) else ": sure" if chance[1] > 0.5 else ": not sure, since the interval holds 0.5"
    text = f"a run of {_quoted(env, one)} does better than one of {_quoted(env, other)}"
    return f"{text} with probability {estimate(*chance)}, from {runs} run{'s' * (runs > 1)}{sure}", chance


def _lost(env: Environment) -> Said:
    key = "plasticity-against-fresh"
    compares = [line for line in compared(env.rows, env.headline) if not math.isnan(line.difference[0])]
    lines, losing = [], []
    for method in env.ranked:
        of = [line for line in compares if line.method == method and line.task]
        if not of:
            continue
        below = [int(line.task or 0) + 1 for line in of if line.difference[2] < 0 and len(env.of(method)) > 1]
        last = of[-1]
        text = (
            f"in {_tasks(below)} worse than a fresh agent"
            if below
            else "in no task shown to be worse than a fresh agent"
        )
        how = (
            f"{estimate(*last.ratio)} times its"
            if not math.isnan(last.ratio[0])
            else f"{estimate(*last.difference)} beside its"
        )
        lines.append(
            f"{_quoted(env, method)}: {text}; at the end (task {int(last.task or 0) + 1}) {how} mean "
            f"{in_words(env.headline)}"
        )
        losing += [method] * bool(below and below[-1] == int(last.task or 0) + 1)
    if not lines:
        return _trend(env)
    if any(len(env.of(method)) < 2 for method in (*env.fresh, *env.live)) and not losing:
        return "Not sure: single runs have no interval.", key, _some(lines)
    lead = (
        f"Yes, at the end of the run: {_names(env, losing)}."
        if losing
        else "Not shown: none is worse than a fresh agent in the last task."
    )
    return lead, key, _some(lines)


def _trend(env: Environment) -> Said:
    lines = []
    for method in env.ranked:
        middle = means(env.scores(method, f"{env.headline}_mean")).middle
        known = middle[np.isfinite(middle)]
        if len(known) > 1:
            lines.append(
                f"{_quoted(env, method)}: {short(known[0])} over the first task, {short(known[-1])} over the last"
            )
    lead = (
        "Not known: there are no fresh agents to compare with (sweep.py --reference fresh), and later tasks may just "
        "be harder."
    )
    return lead, "learning-curves", _some(lines)


def _drifting(env: Environment, found: list[Drift]) -> Said:
    key = "drift"
    if not found:
        return "Not known: nothing was measured of the networks at the end of two tasks.", key, []
    places: dict[tuple[str, str], list[Drift]] = {}
    for drift in found:
        if drift.since is not None:
            places.setdefault((drift.method, NETWORKS[drift.network]), []).append(drift)
    if not places:
        return "Nothing drifts, by the rule that stands there.", key, []
    order = sorted(places.items(), key=lambda each: (-len(each[1]), each[1][0].since or 0))
    lines = [f"“{method}”, {network}: {'; '.join(map(_went, drifts))}" for (method, network), drifts in order]
    (method, network), drifts = order[0]
    lead = f"Most of all the {network} of “{method}”, since task {drifts[0].since}."
    still = [m for m in env.live if not any(method == env.called[m] for method, _ in places)]
    return lead + (f" Nothing drifts in {_names(env, still)}." if still else ""), key, _some(lines)


def _went(drift: Drift) -> str:
    layer = f" in {drift.layer}" if drift.layer else ""
    what, numbers = drift.kind.title.partition(":")[0], f"({short(drift.first)} to {short(drift.last)})"
    return f"since task {drift.since} {what}{layer} {numbers}"


def _why(causes: list[Attributed], correlates: Figure | None) -> Said:
    together = [each for each in causes if each.runs > 1]
    lines = [f"by intervention, {each.title}: {each.verdict}" for each in together or causes]
    if together:
        alone = [each for each in causes if each.runs == 1]
        lines.append(
            f"of {len(alone)} runs alone {sum(bool(each.named) for each in alone)} name a part: trials are few"
        )
    named = [each for each in causes if each.named]
    says = correlates.title.removeprefix("What ") if correlates else ""
    rows = [row for row in correlates.table if _apart(row["low"], row["high"])] if correlates else []
    lines += [f"{says}: {row['number']} (ρ = {short(float(row['rank correlation'] or 0))})" for row in rows]
    if named:
        lead = f"In {named[0].title} the loss sits in {named[0].named[0]}."
    elif causes:
        lead = "Not known: the interventions that were made name no part."
    else:
        lead = "Not known: no intervention was made (attribute.py RUN --task N, on a run with --keep-agents)."
    if rows:
        lead += " What goes with it is correlation, not cause."
    return lead, "attribution" if causes or not rows else "correlates", _some(lines)


def _apart(low: object, high: object) -> bool:
    """Whether an interval does not hold 0."""
    return isinstance(low, float) and isinstance(high, float) and (low > 0 or high < 0)


def _forgotten(env: Environment) -> Said:
    key, lines, forgets, what = "evaluation-matrix", [], [], in_words(env.headline)
    for method in env.ranked:
        found = measures(env, method)
        lost, left = found.get("forgetting"), found.get("average_performance")
        if lost is not None and left is not None and np.isfinite(lost).any():
            _, low, _ = numbers = means(lost[:, None]).at(0)
            forgets += [method] * (low > 0)
            end = estimate(*means(left[:, None]).at(0))
            lines.append(
                f"{_quoted(env, method)}: {estimate(*numbers)} of {what} lost per task; at the end {end} on average"
            )
    if not lines:
        return "Not known: agents were not evaluated on earlier tasks (--evaluate-all does that).", key, []
    lead = f"Tasks were forgotten by {_names(env, forgets)}." if forgets else "No method is shown to forget."
    return f"{lead} Who has learned little has little to lose: see what is left at the end.", key, _some(lines)
