"""Tables and a plot from finished runs: what each method reached, task by task, over seeds.

python runners/report.py runs/minigrid-permute --out results/minigrid-permute
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from neoteny.runners.measures import in_words, shown
from neoteny.runners.reports import (
    measured,
    plasticity_tables,
    plot,
    read_runs,
    reference_of,
    scores,
    solved_table,
    table,
    transfer_table,
    write_plasticity,
    write_rows,
)

KEPT_AND_LOST = (
    "Of the {measure} of {games} games on every task, before the first task and after each. Average performance is "
    "over all tasks, at the end. Forgetting (Continual World) is what a task has lost since its last visit, backward "
    "transfer what it has gained since its first, in the unit of the {measure}. Isolated forgetting and zero-shot "
    "transfer (CORA) are what one visit costs a task learned before it, and gives one that is to come, as shares of "
    "the task's largest {measure}."
)


def main(argv: Sequence[str], prog: str = "report.py") -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", type=Path, help="the folder of one environment's runs, such as runs/minigrid-permute")
    parser.add_argument("--out", type=Path, required=True, help="the folder that table and plot are written to")
    parser.add_argument(
        "--only",
        nargs="+",
        help="only these methods, by folder name, in this order, and the fresh runs that they are compared with",
    )
    parser.add_argument("--ranked", action="store_true", help="the highest mean return first")
    parser.add_argument("--solved-at", type=float, help="also say in how many seeds each task ends at this return")
    options = parser.parse_args(argv)
    runs = read_runs(options.runs)
    if not any(rows for seeds in runs.values() for rows in seeds.values()):
        parser.error(f"runs: there is no finished task in a <method>/seed-<s>/tasks.csv under {options.runs}")
    if options.only:
        if unknown := [name for name in options.only if name not in runs]:
            parser.error(f"--only: {unknown[0]!r} is not there; there are {', '.join(runs)}")
        fresh = filter(None, (reference_of(name, runs) for name in options.only))
        runs = {name: runs[name] for name in (*options.only, *fresh)}
    rows = [row for seeds in runs.values() for rows in seeds.values() for row in rows]
    headline = rows[0].get("headline", "return")
    if options.ranked:
        runs = dict(sorted(runs.items(), key=lambda run: -scores(run[1], f"{headline}_mean").mean()))
    options.out.mkdir(parents=True, exist_ok=True)
    text = [
        f"# {options.runs.name}",
        "Made by `python runners/report.py " + " ".join(argv) + "`. Means over seeds with 95 % bootstrap intervals.",
        "An episode counts where it began. The mean is that of the learning curve, the end its last tenth; the stretch "
        "in which not every episode could come to its end, as long as the longest, is left out of both.",
        *(text for name in sorted(shown(rows), key=lambda name: name != headline) for text in measured(runs, name)),
        *plasticity_tables(runs, headline),
        "## Largest spectral norm of a layer at each task's end",
        table(runs, "spectral_norm_max"),
    ]
    matrices = read_runs(options.runs, "evaluations.csv")
    if evaluated := {name: matrices[name] for name in runs if any(matrices.get(name, {}).values())}:
        games = next(row["games"] for seeds in evaluated.values() for rows in seeds.values() for row in rows)
        text += [
            "## Kept and lost",
            KEPT_AND_LOST.format(measure=in_words(headline), games=games),
            transfer_table(evaluated, headline),
        ]
    if notes := sorted({row["note"] for row in rows if row.get("note")}):
        text += ["## Tasks without a mean return", *notes]
    if options.solved_at is not None:
        for name, seeds in runs.items():
            text += [
                f"## {name}: solved (a {in_words(headline)} of {options.solved_at} at the end)",
                solved_table(seeds, options.solved_at, headline),
            ]
    (options.out / "table.md").write_text("\n\n".join(text) + "\n")
    plot(runs, options.out / "returns.png", options.runs.name, headline)
    write_rows(runs, options.out / "tasks.csv")
    if plasticity_tables(runs, headline):
        write_plasticity(runs, headline, options.out / "plasticity.csv")
        print(f"{options.out}/plasticity.csv")
    print(f"{options.out}/table.md\n{options.out}/returns.png\n{options.out}/tasks.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
