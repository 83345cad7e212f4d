"""The headline of a report, in words: what was learned, which method is best, what drifts, why, what was forgotten."""

from __future__ import annotations

import math
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

#: How many are named before "and … more".
NAMED = 4


class Answer(NamedTuple):
    """A question, what the runs say to it, and the figure where it stands."""

    question: str
    text: str
    key: str


def answers(
    env: Environment, found: Comparison, drifting: list[Drift], causes: list[Attributed], correlates: Figure | None
) -> list[Answer]:
    """The headline."""
    said = [
        Answer("Which tasks were learned?", _learned(env), "tasks-learned"),
        Answer("Which method is best, and how sure is that?", _best(env, found), "comparison"),
        Answer("Does the agent lose its ability to learn?", _lost(env), "plasticity-against-fresh"),
        Answer("What drifts, in which network, since when?", _drifting(env, drifting), "drift"),
        Answer("Why?", _why(causes, correlates), "attribution" if causes else "correlates"),
        Answer("What was forgotten?", _forgotten(env), "evaluation-matrix"),
    ]
    if gaps := settings.missing(env):
        more = f" And {len(gaps) - NAMED} more, under What was run." if len(gaps) > NAMED else ""
        said.append(Answer("What is missing?", " ".join(gaps[:NAMED]) + more, "what-was-run"))
    return said


def _some(items: list[str], joint: str = ", ") -> str:
    more = f"{joint}and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return joint.join(items[:NAMED]) + more


def _learned(env: Environment) -> str:
    found = learned_tasks(env)
    count = len(env.tasks)
    known = {method: tasks for method, tasks in found.items() if tasks is not None}
    if not known:
        return "Not known: there is neither a progress.csv nor an evaluation that says where an agent began."
    order = sorted(known, key=lambda method: -len(known[method]))
    said = [f"{env.called[m]} learned {len(known[m])} of {count} ({settings.spans(known[m]) or 'none'})" for m in order]
    never = [str(task + 1) for task in range(count) if not any(task + 1 in tasks for tasks in known.values())]
    text = _some(said, "; ") + "."
    if never:
        text += f" By no method: task{'s' * (len(never) > 1)} {', '.join(never)}."
    return text


def _best(env: Environment, found: Comparison) -> str:
    if len(env.live) < 2:
        return f"There is one method here, {', '.join(env.called[m] for m in env.live)}: nothing to compare it with."
    if not found.order or not found.tasks:
        return "Not known: the methods share no task on which they can be compared."
    best, second = found.order[:2]
    text = f"{env.called[best]} has the highest interquartile mean, {estimate(*found.iqm[best])}; "
    text += f"then {env.called[second]} with {estimate(*found.iqm[second])}. "
    chance = found.better(best, second, whole_runs=True)
    if math.isnan(chance[1]):
        return text + "With one run of a method there is no interval: nothing can be said of how sure that is. Run more seeds."
    runs = min(len(found.scores[method]) for method in (best, second))
    few = f", of {runs} seeds" if runs < 5 else ""
    text += f"A run of {env.called[best]} does better than one of {env.called[second]} with probability {estimate(*chance)}{few}: "
    text += "sure at the 95 % level." if chance[1] > 0.5 else "not sure, since the interval holds 0.5."
    if env.baseline and env.baseline not in (best, second):
        chance = found.better(best, env.baseline, whole_runs=True)
        sure = "sure at the 95 % level" if chance[1] > 0.5 else "not sure"
        text += f" Better than {env.called[env.baseline]} with probability {estimate(*chance)}: {sure}."
    return text


def _lost(env: Environment) -> str:
    lines = [line for line in compared(env.rows, env.headline) if not math.isnan(line.ratio[0])]
    if not lines:
        return _trend(env)
    said = []
    for method in env.ranked:
        of = [line for line in lines if line.method == method and line.task is not None and line.task > 0]
        if not of:
            continue
        last = of[-1]
        below = [line for line in of if line.ratio[2] < 1]
        word = "no loss shown" if not below else f"below a fresh agent in tasks {settings.spans([int(b.task or 0) + 1 for b in below])}"
        said.append(f"{env.called[method]}: {word}, {estimate(*last.ratio)} times a fresh agent in task {int(last.task or 0) + 1}")
    return _some(said, "; ") + "." if said else _trend(env)


def _trend(env: Environment) -> str:
    said = []
    for method in env.ranked:
        middle = means(env.scores(method, f"{env.headline}_mean"))[0]
        known = middle[np.isfinite(middle)]
        if len(known) > 1:
            said.append(f"{env.called[method]} from {short(known[0])} in the first task to {short(known[-1])} in the last")
    changes = f"The mean {in_words(env.headline)} goes: {_some(said, '; ')}. " if said else ""
    return (
        "Not known: there are no fresh agents to compare with, and later tasks may just be harder (sweep.py --reference fresh adds them). "
        + changes
    )


def _drifting(env: Environment, found: list[Drift]) -> str:
    if not found:
        return "Not known: nothing was measured of the networks at the end of two tasks."
    by_place: dict[tuple[str, str, int], list[str]] = {}
    for drift in found:
        if drift.since is not None:
            place = drift.kind.title.partition(":")[0], NETWORKS[drift.network], drift.since
            by_place.setdefault(place, []).append(f"{drift.method} ({short(drift.first)} to {short(drift.last)})")
    if not by_place:
        return "Nothing drifts by the rule below."
    order = sorted(by_place.items(), key=lambda each: (-len(each[1]), each[0][2]))
    said = [f"{what} of the {network} since task {task}: {_some(who)}" for (what, network, task), who in order]
    still = [env.called[m] for m in env.live if not any(d.method == env.called[m] and d.since for d in found)]
    return _some(said, "; ") + "." + (f" Nothing drifts in {_some(still)}." if still else "")


def _why(causes: list[Attributed], correlates: Figure | None) -> str:
    said = [f"{each.title}: the loss sits in {', '.join(each.named)}" for each in causes if each.named]
    said += [f"{each.title}: there is no part that the loss sits in alone" for each in causes if not each.named]
    if said:
        return "By intervention, " + _some(said, "; ") + "."
    text = "No intervention was made; attribute.py RUN --task N on a run with --keep-agents says which part the loss sits in. "
    if correlates is None:
        return text
    sure = [row for row in correlates.table if abs(float(row["rank correlation"] or 0)) and _apart(row["low"], row["high"])]
    if not sure:
        return text + "No number that was measured goes clearly with the next task's return."
    said = [f"{row['number']} (ρ = {short(float(row['rank correlation'] or 0))})" for row in sure]
    return text + f"What goes with the next task's return: {_some(said)}. That is correlation, not cause."


def _apart(low: object, high: object) -> bool:
    """Whether an interval does not hold 0."""
    return isinstance(low, float) and isinstance(high, float) and (low > 0 or high < 0)


def _forgotten(env: Environment) -> str:
    said = []
    for method in env.ranked:
        lost = measures(env, method).get("forgetting")
        if lost is not None and np.isfinite(lost).any():
            middle, low, high = numbers = [float(value[0]) for value in means(lost[:, None])]
            if math.isnan(low):  # one run
                low = high = middle
            sure = "forgets" if low > 0 else "has gained on earlier tasks" if high < 0 else "is not shown to forget"
            said.append(f"{env.called[method]} {sure}: {estimate(*numbers)} of {in_words(env.headline)} per task")
    if not said:
        return "Not known: agents were not evaluated on earlier tasks (--evaluate-all does that)."
    return _some(said, "; ") + "."
