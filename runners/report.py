"""What finished runs say, on one page: what was learned, which method is better, what drifts, what was forgotten.

    python runners/report.py runs/minigrid-permute

writes runs/minigrid-permute/report/report.html, which opens in any browser without a server and without a network, and
beside it the figures as PNG and SVG, all their numbers as CSV, and tables in Markdown. A folder may be that of a run,
of a method, of an environment, or one that holds several of these; each environment has a section of its own. Runs that
are not there, were stopped or still run are said to be so.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from neoteny.runners.experiments.command_line import parser_of
from neoteny.runners.reports import FIGURES, Environment, Section, environments, page, write


def main(argv: Sequence[str], prog: str = "report.py") -> int:
    parser = parser_of(prog, __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_OR_SWEEP", help="such as runs/minigrid-permute")
    parser.add_argument("--out", type=Path, help="the folder that is written to (default: report/ in the first folder)")
    parser.add_argument(
        "--only",
        nargs="+",
        help="only these methods, by folder name, in this order, and the fresh runs that they are compared with",
    )
    parser.add_argument("--ranked", action="store_true", help="in tables, the highest mean return first")
    parser.add_argument("--solved-at", type=float, help="also say in how many seeds each task ends at this return")
    options = parser.parse_args(argv)
    if absent := [folder for folder in options.runs if not folder.is_dir()]:
        parser.error(f"runs: there is no folder {absent[0]}")
    found = environments(options.runs)
    for env in found:
        if not env.runs:
            print(f"{env.name}: no task is finished, so nothing is said of it", file=sys.stderr)
    found = [env for env in found if env.runs]
    if not found:
        where = ", ".join(map(str, options.runs))
        parser.error(f"runs: there is no finished task in a <method>/seed-<s>/tasks.csv under {where}")
    if options.only:
        there = {method for env in found for method in env.methods}
        if unknown := [name for name in options.only if name not in there]:
            parser.error(f"--only: {unknown[0]!r} is not there; there are {', '.join(sorted(there))}")
        found = [env.only(options.only) for env in found if {*options.only} & {*env.methods}]
    if options.ranked:
        found = [env.the_best_first() for env in found]
    out = options.out or options.runs[0] / "report"
    for file in write_report(found, out, shlex.join(["python", "runners/report.py", *argv]), options.solved_at):
        print(file)
    return 0


def write_report(found: Sequence[Environment], out: Path, command: str, solved_at: float | None = None) -> list[Path]:
    """Write the page and, for each environment, its files: in ``out``, or of several each in a folder of its own."""
    files: list[Path] = []
    sections = [Section(env) for env in found]
    places = {
        section.env.name: "" if len(found) == 1 else f"{section.env.name.replace('/', '_')}/" for section in sections
    }
    for section in sections:
        files += write(section, out / places[section.env.name], command, solved_at)
    title = f"Report: {', '.join(env.name for env in found)}"
    html = out / "report.html"
    html.write_text(
        page(title, command, sections, {name: f"{place}{FIGURES}/" for name, place in places.items()}), encoding="utf-8"
    )
    return [html, *files]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
