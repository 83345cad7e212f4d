"""Evaluate an agent of a run on the run's tasks: a table here, and as CSV in the run's folder.

    python runners/evaluate.py runs/minigrid-seq/ppo-spectral/seed-0 --task 1,2

The run may be finished, stopped or still running; it is not changed. Tasks count from 1, as in the tables of a run.
The same agent gives the same numbers again: games begin from seeds of their own, which the agent has not learned from.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs import EnvironmentFault
from neoteny.runners.experiments import parse_numbers
from neoteny.runners.experiments.command_line import Parser, parser_of
from neoteny.runners.measures import HEADLINES, in_words
from neoteny.runners.runs import LoadedRun, evaluate, load_run
from neoteny.runners.runs.display import number
from neoteny.runners.runs.tables import write_text
from neoteny.runners.runs.video import record_video


def which_agent(text: str) -> int | None:
    """``last``, or ``task-3``: the agent after the third task."""
    return None if text == "last" else int(text.removeprefix("task-"))


which_agent.__name__ = "agent"  # what argparse calls it in errors


def parser(prog: str) -> Parser:
    made = parser_of(prog, __doc__)
    made.add_argument("run", type=Path, help="the folder of a run: the one with config.yaml in it")
    made.add_argument(
        "--task", type=parse_numbers, metavar="N,...", help="such as 1,3-5; default: each task of the sequence"
    )
    made.add_argument(
        "--agent",
        type=which_agent,
        metavar="A",
        help="last: of the last checkpoint (default); task-3: as it was after task 3, of a run with --keep-agents",
    )
    made.add_argument("--episodes", type=int, default=20, metavar="N", help="whole games in each task (default: 20)")
    how = made.add_mutually_exclusive_group()
    how.add_argument(
        "--stochastic",
        action="store_true",
        help="act as when learning (default): actions drawn from the policy, ε-greedy for DQN",
    )
    how.add_argument("--deterministic", action="store_true", help="take the most likely action, the greedy one for DQN")
    made.add_argument(
        "--render",
        type=Path,
        metavar="FILE",
        help="also film a whole game in each task, .mp4 or .gif (neoteny[video])",
    )
    made.add_argument("--device", metavar="X", help="of the agent's networks: auto, cpu, cuda, …; default: the run's")
    return made


def main(argv: Sequence[str], prog: str = "evaluate.py") -> int:
    options = parser(prog).parse_args(argv)
    configs.import_from_here()
    agent = "last" if options.agent is None else f"task-{options.agent:04d}"
    file = options.run / f"evaluation-{agent}.csv"
    try:
        run = load_run(options.run, options.agent, options.device, replay=False)
        if options.render:
            record_video(run, options.render, options.task, options.deterministic)
        rows = evaluate(run, options.task, options.episodes, options.deterministic)
        print(f"{options.run}: agent {agent}, after {run.agent.num_timesteps:,} steps")
        show(rows, run)
        write_text(file, as_csv([{"step": run.agent.num_timesteps, **row} for row in rows], options.deterministic))
        print("\n".join(map(str, [file, options.render] if options.render else [file])))
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{prog}: {error.filename or options.run} cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except EnvironmentFault as error:
        print(f"{prog}: an environment has broken: {error}", file=sys.stderr)
        return 1
    return 0


def show(rows: Sequence[dict[str, Any]], run: LoadedRun) -> None:
    """The table on standard output, with the measures that say something."""
    headline = HEADLINES[run.experiment.sequence.score]
    also = {headline, *(name for name in ("score", "success") if any(told(row, name) for row in rows))}
    if any(not row["games"] for row in rows):
        also.add("reward_rate")
    names = [name for name in HEADLINES.values() if name in {"return"} | also]
    table = Table()
    table.add_column("task", justify="right")
    table.add_column("environment", overflow="fold")
    for column in ("games", *map(in_words, names)):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(str(row["task"]), row["name"], str(row["games"]), *(number(row[name]) for name in names))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for row in rows:
        if not row["games"]:
            print(f"Task {row['task']}: no game has ended; see reward rate")


def told(row: dict[str, Any], name: str) -> bool:
    """Whether a measure says more than the return."""
    return not math.isnan(row[name]) and row[name] != row["return"]


def as_csv(rows: Sequence[dict[str, Any]], deterministic: bool) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[0], "deterministic"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "deterministic": deterministic} for row in rows)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
