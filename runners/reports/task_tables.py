"""The sections of a report that follow from the rows of tasks.csv."""

from __future__ import annotations

from neoteny.runners.measures import shown
from neoteny.runners.reports.comparison import MEASURES, compared
from neoteny.runners.reports.plots import NORM
from neoteny.runners.reports.reference import plasticity_tables
from neoteny.runners.reports.section import Section
from neoteny.runners.reports.sensitivity import sensitivity
from neoteny.runners.reports.tables import as_markdown, measured, table

ABOUT = (
    "An episode counts where it began. The mean is that of the learning curve, the end its last tenth; the stretch "
    "in which not every episode could come to its end, as long as the longest, is left out of both."
)


def sections(section: Section) -> list[str]:
    """Markdown: what was reached in each task, by what measure, in comparison, and the largest spectral norm."""
    runs, headline = section.env.rows, section.env.headline
    rows = [row for seeds in runs.values() for rows in seeds.values() for row in rows]
    text = [text for name in sorted(shown(rows), key=lambda name: name != headline) for text in measured(runs, name)]
    text += plasticity_tables(runs, headline)
    if rows_of_methods := compared(section.env, section.comparison):
        text += ["## Which method is better", MEASURES + section.comparison.about, as_markdown(rows_of_methods)]
    if swept := sensitivity(section.env):
        text += [f"## {swept.title}", swept.how, as_markdown(swept.table)]
    if any(row.get(NORM) for row in rows):
        text += ["## Largest spectral norm of a layer at each task's end", table(runs, NORM)]
    return text
