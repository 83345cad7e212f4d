"""The sections of a report that follow from the rows of tasks.csv."""

from __future__ import annotations

from neoteny.runners.measures import shown
from neoteny.runners.measures.visit import OF_EXAMPLES
from neoteny.runners.reports.causes import HOW, overview
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
OVERVIEW = (
    " Under nothing and everything stands what was reached with the agent as it was, and with a fresh one; under the "
    "others the share. Where the interval of the gap includes 0 there are no shares."
)
OF_EXAMPLES_ABOUT = (
    "Examples are of training. The mean is over the passes through a task's examples, each counted as the network was "
    "about to learn from it; the end is of all examples, after the task."
)


def about_means(headline: str) -> str:
    """What means and ends are of."""
    return OF_EXAMPLES_ABOUT if headline in OF_EXAMPLES else ABOUT


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
    if section.attributed:
        text += ["## Why: attribution", HOW + OVERVIEW, as_markdown(overview(section.attributed))]
    if any(row.get(NORM) for row in rows):
        text += ["## Largest spectral norm of a layer at each task's end", table(runs, NORM)]
    return text
