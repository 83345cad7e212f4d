"""Rebuild the tables and pictures of results/ from the rows that it keeps; nothing is trained.

    python runners/results.py

Of every folder of results/: from tasks.csv (and tasks-….csv) table.md, returns.png or the like, of several sequences
one after the other, and figures of reports (sensitivity.png; others, such as drift.png, where there was one); from
trials.csv the tables and pictures of its attributions; where explain.py has written, what it has.
Texts, README.md, are written by hand.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from neoteny.configs import ConfigError
from neoteny.runners import attribution
from neoteny.runners.experiments.command_line import parser_of
from neoteny.runners.reports import Environment, Section, plot
from neoteny.runners.reports.drawn import save
from neoteny.runners.reports.flat import read_flat, read_trials
from neoteny.runners.reports.sources import of_rows
from neoteny.runners.reports.task_tables import about_means, sections
from neoteny.runners.reports.wording import in_its_words
from neoteny.runners.reports.writing import picture_of
from neoteny.runners.sweeps.explanation import explain
from neoteny.runners.sweeps.picture import explained

#: Figures of a report that are drawn wherever there are rows for them; others where there was one.
ALWAYS = ("sensitivity", "attribution")


def of_tasks(file: Path) -> Iterator[Path]:
    """Write the table of a tasks.csv, and pictures where methods are compared or where there was one."""
    suffix = file.stem.removeprefix("tasks")
    text: list[str] = []
    trials = {} if _of_studies(file.with_name("trials.csv")) else read_trials(file.with_name("trials.csv"))
    for sequence, runs in read_flat(file).items():
        heading = [f"# Sequence {sequence}"] if sequence else []
        name = sequence or f"{file.parent.name}{suffix}"
        section = Section(Environment(name, [*of_rows(runs, file.parent, trials=trials)]))
        text += in_its_words([*heading, *sections(section)], section.env.headline)
        stem = "-".join(filter(None, (picture_of(section.env.headline), sequence)))
        picture = file.with_name(f"{stem}{suffix}.png")
        tasks = max(len(rows) for seeds in runs.values() for rows in seeds.values())
        if picture.exists() or (len(runs) > 1 and tasks > 1):
            plot(runs, picture, name, section.env.headline)
            yield picture
        for drawn in section.figures:
            if drawn.key in ALWAYS or file.with_name(f"{drawn.key}.png").exists():
                yield from save(drawn, file.parent, name)[:1]
    head = [
        f"# {file.parent.name}{suffix}",
        f"Made by `make results` from [{file.name}]({file.name}). Means over seeds with 95 % bootstrap intervals.",
        about_means(section.env.headline),
    ]
    table = file.with_name(f"table{suffix}.md")
    table.write_text("\n\n".join(head + text) + "\n")
    yield table


def _of_studies(trials: Path) -> bool:
    """Whether a trials.csv has studies by their names, and not the attributions of the runs beside it."""
    return trials.is_file() and "study" in trials.read_text().partition("\n")[0].split(",")


def of_trials(file: Path) -> Iterator[Path]:
    """Write the table and the picture of every study in a trials.csv."""
    studies: dict[str, list[dict[str, str]]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            studies.setdefault(row["study"], []).append(row)
    for study, rows in studies.items():
        found = attribution.read(rows)
        table, picture = (file.with_name(f"{study}.{kind}") for kind in ("csv", "png"))
        attribution.write_table(table, *found)
        attribution.plot(picture, f"{study}: task {rows[0]['at_task']}, {rows[0]['name']}", *found)
        yield from (table, picture)


def rebuild(folder: Path) -> Iterator[str]:
    """What was written, a line for each file; and the folders that keep no rows to rebuild anything from."""
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    for each in [folder] if any(folder.glob("t*.csv")) else below:
        tasks, trials = sorted(each.glob("tasks*.csv")), sorted(each.glob("trials.csv"))
        if (each / "explained.md").exists():
            tasks, trials = [], []
            yield from map(str, explained(explain(each), each.name, each))
        elif not (tasks or trials):
            yield f"{each}: no tasks.csv and no trials.csv, so there is nothing to rebuild its figures from"
        for file in tasks:
            yield from map(str, of_tasks(file))
        for file in filter(_of_studies, trials):
            yield from map(str, of_trials(file))


def main(argv: list[str], prog: str = "results.py") -> int:
    parser = parser_of(prog, __doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), help="default: %(default)s")
    options = parser.parse_args(argv)
    if not options.folder.is_dir():
        parser.error(f"folder: {options.folder} is no folder")
    try:
        count = 0
        for count, line in enumerate(rebuild(options.folder), 1):  # noqa: B007
            print(line)
        if not count:
            parser.error(f"folder: there are no results in {options.folder}, which would be folders with a tasks.csv")
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
