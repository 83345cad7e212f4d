"""The files of a report: tables in Markdown, figures as PNG and SVG, and every number as CSV."""

from __future__ import annotations

from pathlib import Path

from neoteny.runners.measures import in_words
from neoteny.runners.reports import provenance, settings
from neoteny.runners.reports.drawn import save
from neoteny.runners.reports.figures import write_csv
from neoteny.runners.reports.flat import Place, write_trials
from neoteny.runners.reports.plots import plot
from neoteny.runners.reports.reference import write_plasticity
from neoteny.runners.reports.section import Section
from neoteny.runners.reports.sources import as_rows
from neoteny.runners.reports.tables import solved_table, transfer_table, write_rows
from neoteny.runners.reports.task_tables import about_means, sections
from neoteny.runners.reports.wording import in_its_words

#: Where a section's figures are, in its folder.
FIGURES = "figures"

KEPT_AND_LOST = (
    "Of the {measure} of {games} games on every task, before the first task and after each. Average performance is "
    "over all tasks, at the end. Forgetting (Continual World) is what a task has lost since its last visit, backward "
    "transfer what it has gained since its first, in the unit of the {measure}. Isolated forgetting and zero-shot "
    "transfer (CORA) are what one visit costs a task learned before it, and gives one that is to come, as shares of "
    "the task's largest {measure}."
)


def markdown(section: Section, command: str, solved_at: float | None = None) -> str:
    """The tables of a sequence, as Markdown.

    Args:
        section: what is said of it.
        command: that makes the report.
        solved_at: the return at which a task counts as solved; None: nothing is said of it.
    """
    env = section.env
    runs, headline = env.rows, env.headline
    rows = [row for seeds in runs.values() for rows in seeds.values() for row in rows]
    text = [
        f"# {env.name}",
        f"Made by `{command}`. Means over seeds with 95 % bootstrap intervals.",
        about_means(headline),
    ]
    if gaps := settings.missing(env):
        text += ["## Missing or unfinished", "\n".join(f"- {gap}" for gap in gaps)]
    text += sections(section)
    if evaluated := as_rows(env.runs, "evaluations"):
        games = next(row.get("games", "") for seeds in evaluated.values() for rows in seeds.values() for row in rows)
        about = KEPT_AND_LOST.format(measure=in_words(headline), games=games)
        text += ["## Kept and lost", about, transfer_table(evaluated, headline)]
    if notes := sorted({row["note"] for row in rows if row.get("note")}):
        text += ["## Tasks without a mean return", *notes]
    if solved_at is not None:
        for name, seeds in runs.items():
            text += [
                f"## {name}: solved (a {in_words(headline)} of {solved_at} at the end)",
                solved_table(seeds, solved_at, headline),
            ]
    return "\n\n".join([*text[:2], *in_its_words(text[2:], headline)]) + "\n"


def picture_of(headline: str) -> str:
    """What the picture of all runs is called, by what they are scored by."""
    return "returns" if headline == "return" else headline


def write(section: Section, folder: Path, command: str, solved_at: float | None = None) -> list[Path]:
    """Write everything of a section but the page.

    Returns:
        The files that people look for; figures are in the folder ``figures`` beside them.
    """
    env = section.env
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown(section, command, solved_at))
    picture = folder / f"{picture_of(env.headline)}.png"
    plot(env.rows, picture, env.name, env.headline)
    write_rows(env.rows, folder / "tasks.csv")
    files = [folder / "table.md", picture, folder / "tasks.csv"]
    if trials := {Place(run.method, run.seed, at): rows for run in env.all for at, rows in run.trials.items()}:
        write_trials(trials, folder / "trials.csv")
        files.append(folder / "trials.csv")
    if env.fresh:
        write_plasticity(env.rows, env.headline, folder / "plasticity.csv")
        files.append(folder / "plasticity.csv")
    for figure in section.figures:
        figure.write(figures)
        save(figure, figures, env.name)
    tables = {
        "what-was-run": settings.methods(env),
        "settings": settings.differing(env),
        "made-with": provenance.made_with(env),
    }
    for name, rows in tables.items():
        if rows:
            write_csv(figures / f"{name}.csv", rows)
    return [*files, figures]
