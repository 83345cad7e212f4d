"""The sections of a report that follow from the rows of tasks.csv."""

from __future__ import annotations

from neoteny.runners.measures import shown
from neoteny.runners.reports.plots import NORM
from neoteny.runners.reports.reference import plasticity_tables
from neoteny.runners.reports.scores import Runs
from neoteny.runners.reports.tables import measured, table

ABOUT = (
    "An episode counts where it began. The mean is that of the learning curve, the end its last tenth; the stretch "
    "in which not every episode could come to its end, as long as the longest, is left out of both."
)


def headline_of(runs: Runs) -> str:
    """The measure that comes first."""
    rows = (row for seeds in runs.values() for rows in seeds.values() for row in rows)
    return next(rows, {}).get("headline") or "return"


def sections(runs: Runs) -> list[str]:
    """Markdown: what was reached in each task, plasticity against fresh agents, and the largest spectral norm."""
    rows = [row for seeds in runs.values() for rows in seeds.values() for row in rows]
    headline = headline_of(runs)
    text = [text for name in sorted(shown(rows), key=lambda name: name != headline) for text in measured(runs, name)]
    text += plasticity_tables(runs, headline)
    if any(row.get(NORM) for row in rows):
        text += ["## Largest spectral norm of a layer at each task's end", table(runs, NORM)]
    return text
