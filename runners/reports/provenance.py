"""What the runs of a report were made with, and in what that is not the same for all."""

from __future__ import annotations

from collections.abc import Iterator

from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Cell
from neoteny.runners.reports.sources import Run, named

UNKNOWN = "not recorded"


def made_with(env: Environment) -> list[dict[str, Cell]]:
    """A row for each set of versions and processor, with the runs that were made with it, and from which step on."""
    found: dict[tuple[int | str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in env.all:
        for step, parts in run.made_with.items() or [(UNKNOWN, {})]:
            found.setdefault((step, tuple(parts.items())), []).append(run)
    return [{"runs": named(runs), "from step": str(step), **dict(parts)} for (step, parts), runs in found.items()]


def differing(env: Environment) -> Iterator[str]:
    """A sentence for each part that is not the same for all runs of which it is known."""
    every = [(run, parts) for run in env.all for parts in run.made_with.values()]
    for part in dict.fromkeys(name for _, parts in every for name in parts):
        by: dict[str, list[Run]] = {}
        for run, parts in every:
            by.setdefault(parts.get(part, "none"), []).append(run)
        if len(by) > 1:
            some = " — ".join(f"{value}: {named(runs)}" for value, runs in by.items())
            yield f"Not all runs were made with the same {part}, which can change numbers too: {some}."
