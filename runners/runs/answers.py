"""The summary of a run as an answer: which tasks were learned, what drifted, and how sure that is."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence

from neoteny.runners.measures import in_words
from neoteny.runners.measures.verdicts import (
    LEVELS,
    SHORT,
    Difference,
    Drift,
    Row,
    Verdict,
    drifts,
    measure_of,
    verdicts,
)

#: Columns of the terminal, and of what stands before the text.
WIDTH, INDENT = 80, 15
FEW_SEEN = "too few episodes were seen to end"
#: By measure, what a task that was learned has, when that is not known, and what it is known from.
CRITERIA = {
    "success": (
        "more than half of the games solved",
        f"{FEW_SEEN}, or about half of the games are solved",
        "episodes",
    ),
    "accuracy": (
        "more than 90 % of the training examples right",
        "about 90 % of the training examples are right",
        "examples",
    ),
    "r_squared": ("R² higher than at its beginning", "too few examples", "examples"),
}

#: So many tasks are told apart before "and … more".
NAMED = 3


def answers(tasks: Sequence[Row], progress: Sequence[Row] = ()) -> list[str]:
    """Lines of at most 80 columns; none without a task.

    Args:
        tasks: the rows of ``tasks.csv``.
        progress: the rows of ``progress.csv``.
    """
    if not tasks:
        return []
    lines = [*_learned(tasks), *_drifted(drifts(tasks, progress), tasks)]
    return [line for heading, text in lines for line in _wrapped(heading, text)]


def in_runs(tasks: Iterable[int]) -> str:
    """Numbers in order, runs of them shortened: ``1-3, 5``."""
    parts: list[list[int]] = []
    for task in tasks:
        if parts and parts[-1][-1] == task - 1:
            parts[-1][1:] = [task]
        else:
            parts.append([task])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _wrapped(heading: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{heading}:".ljust(INDENT), subsequent_indent=" " * INDENT, break_on_hyphens=False
    )


def _learned(tasks: Sequence[Row]) -> Iterable[tuple[str, str]]:
    found = verdicts(tasks)
    measure = measure_of(tasks)
    by_kind = {kind: [each for each in found if each.kind == kind] for kind in ("learned", "same", "worse", "unknown")}
    solved = measure in LEVELS
    what = in_words(measure)
    criterion, unknown, seen = CRITERIA.get(measure, (f"{what} higher than at its beginning", FEW_SEEN, "episodes"))
    if len(by_kind["unknown"]) == len(found):
        yield "Learned", f"not known of any task: {unknown}"
        return
    which = f" ({in_runs(each.task for each in by_kind['learned'])})" if by_kind["learned"] else ""
    yield "Learned", f"{len(by_kind['learned'])} of {len(found)} tasks{which}: at its end {criterion}"
    if by_kind["same"]:
        heading = "Not learned" if solved else "No gain"
        yield heading, _some(by_kind["same"], lambda each: f"task {each.task} ({_change(each.change)})")
    if by_kind["worse"]:
        yield "Worse", _some(by_kind["worse"], lambda each: f"task {each.task} ({_change(each.again or each.change)})")
    if tasks_unknown := by_kind["unknown"]:
        some = in_runs(each.task for each in tasks_unknown)
        yield "Not known", f"task{'s' * (len(tasks_unknown) > 1)} {some}: {unknown}"
    yield from _again([each for each in found if each.again is not None], what)
    yield "How sure", f"95 % intervals, from the {seen} of this run alone: of one seed. Over seeds: report.py"


def _again(found: Sequence[Verdict], what: str) -> Iterable[tuple[str, str]]:
    """Tasks that came again, against their first visits."""
    known = [each for each in found if each.again is not None and not math.isnan(each.again.low)]
    if not known:
        return
    lower = [each for each in known if each.again is not None and each.again.high < 0]
    text = f"{len(known)} visits to tasks that came before: {len(lower)} end with a lower {what} than the first one did"
    named = _some(lower, lambda each: f"task {each.task}: {_change(each.again or each.change)}")
    yield "Again", text + (f" ({named})" if lower else "")


def _some(found: Sequence[Verdict], said: Callable[[Verdict], str]) -> str:
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return ", ".join([*map(said, found[:NAMED]), *more])


def _change(change: Difference) -> str:
    gain = change.after - change.before
    return f"{change.before:.3g} → {change.after:.3g}: {gain:+.2g} [{change.low:.2g}, {change.high:.2g}]"


def _drifted(found: Sequence[Drift], tasks: Sequence[Row]) -> Iterable[tuple[str, str]]:
    if not found:
        return
    since = [f"{SHORT[each.column]} since task {each.since}" for each in found if each.since is not None]
    text = "; ".join(map(_of_networks, sorted(found, key=lambda each: each.since is None)))
    first, last = (int(row["task"]) + 1 for row in (tasks[0], tasks[-1]))
    rule = f"worse by half than at the end of task {first}, or 10 % more dormant"
    yield "Drift", f"{', '.join(since) or 'none'} ({rule}). From there to the end of task {last}: {text}"


def _of_networks(drift: Drift) -> str:
    where = f" ({drift.network}: {drift.place})" if drift.place and drift.place != drift.network else ""
    where = where or (f" ({drift.network})" if drift.network else "")
    first, last = (f"{v:.0%}".replace("%", " %") if drift.column == "dormant_max" else f"{v:.3g}" for v in drift[3:5])
    return f"{SHORT[drift.column]} {first} → {last}{where if drift.since is not None else ''}"
