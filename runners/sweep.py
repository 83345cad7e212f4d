"""Run a grid of environments, agents, methods and seeds, several at a time, each as continual_rl.py would.

    python runners/sweep.py --env minigrid-permute --reg none,spectral --seeds 5 --jobs 2
    python runners/sweep.py --env cartpole-rotate --agent ppo-trac --reg none,spectral,l2-init \\
        --grid reg.strength=1e-5,1e-4,1e-3 --seeds 10 --reference fresh
    python runners/sweep.py --experiment plasticity

Where --data, --change or --net is named, the grid is of data, changes, networks, methods and seeds, and each run is one
of continual_supervised.py:

    python runners/sweep.py --data digits --change random-labels --net mlp --reg none,spectral,l2 --reference fresh

An experiment is the same in a file, of configs/experiments/ or your own. With one, --env, --agent, --reg and the
like choose from what it names, and --seeds, --grid and other options are in place of its own.

Runs that are finished are skipped and runs that were stopped go on, so the same command can be given again at any time.
Options this program does not know are passed on to every run; those of a method, such as --reg.strength, to the methods
that have such a setting.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.experiments import Plan, Sweep, load_sweep, parse_grid, parse_seeds, split_names
from neoteny.runners.experiments.command_line import Parser, parser_of
from neoteny.runners.reports import compare
from neoteny.runners.runs.interruption import Stopped, interruption
from neoteny.runners.sweeps import Job, attributions, describe, progress_of, run_all

HERE = Path(__file__).parent
#: What is named of a sweep.
KINDS = ("env", "agent", "data", "change", "net", "reg")


def plan(options: argparse.Namespace, rest: list[str], prog: str) -> Plan:
    """All runs. Exits with code 2 on a wrong setting of one of them, before anything runs.

    Raises:
        ConfigError: there is no such experiment, name or setting.
    """
    named = {kind: getattr(options, kind) for kind in KINDS}
    names: dict[str, Any] = {kind: split_names(words) for kind, words in named.items() if words}
    own: dict[str, Any] = {"reference": options.reference} if options.reference else {}
    if options.seeds:
        own["seeds"] = parse_seeds(",".join(options.seeds))
    grid = parse_grid(options.grid)
    if not options.experiment:
        return Plan(configs.build(Sweep, names | own, "sweep"), rest, grid=grid, prog=prog)
    called, sweep = load_sweep(options.experiment)
    own["options"] = {"out": f"runs/{called}"} | sweep.options
    return Plan(dataclasses.replace(sweep, **own), rest, grid=grid, only=names, prog=prog)


def make_parser(prog: str) -> Parser:
    parser = parser_of(prog, __doc__)
    known = ", ".join(configs.names("experiments"))
    parser.add_argument(
        "--experiment", metavar="NAME", help=f"what a file says, in runs/NAME: {known}; or the path of a .yaml file"
    )
    for option, text in (
        ("--env", "task sequences, parted by commas or spaces (default: minigrid-seq)"),
        ("--agent", "agents (default: ppo)"),
        ("--data", "examples, of supervised learning: continual_supervised.py then runs (default: digits)"),
        ("--change", "what changes from task to task there (default: random-labels)"),
        ("--net", "networks there (default: mlp)"),
        ("--reg", "plasticity methods (default: none spectral)"),
    ):
        parser.add_argument(option, nargs="+", metavar="NAME", help=text)
    parser.add_argument(
        "--grid",
        nargs="+",
        action="extend",
        default=[],
        metavar="SETTING=VALUE,VALUE",
        help="alternatives of a setting: reg.strength=1e-4,1e-3 for all methods that have one, "
        "spectral.strength=1e-4,1e-3 for one of them, agent.learning_rate=1e-3,1e-2, ...",
    )
    parser.add_argument(
        "--seeds", nargs="+", metavar="SEEDS", help="10: ten of them, 0 to 9; 0-4 or 0,3,7: these (default: 0-0)"
    )
    parser.add_argument("--seed", dest="seeds", type=lambda text: [f"{int(text)},"], metavar="N", help="this one alone")
    parser.add_argument(
        "--reference",
        choices=["fresh", "none"],
        help="fresh: also run agents that begin every task anew, without a method, once for each env, agent and seed; "
        "reports then have each method's plasticity, area(live) / area(fresh)",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, what of them is missing, and its time")
    return parser


def carry_out(plan: Plan, jobs: int, dry: bool) -> int:
    """Do what is missing; the exit code.

    Raises:
        ConfigError: a folder holds another run, or what is to be attributed is not there.
    """
    found = progress_of(plan.runs)
    after = attributions(plan, HERE / "attribute.py", jobs)
    for note in plan.notes:
        print(note, file=sys.stderr)
    seeds = ", ".join(map(str, plan.sweep.seeds))
    print(f"{describe(found, jobs)}. Seeds: {seeds}.", file=sys.stderr)
    if dry:
        for each in found:
            print(f"{each.state:<9} {each.run.folder}")
        for job in after:
            print(f"{'missing':<9} {job.name}")
        return 0
    program = [sys.executable, str(HERE / plan.program.file)]
    missing = [Job(each.run.folder, [*program, *each.run.arguments]) for each in found if not each.complete]
    failed = run_all(missing, jobs)
    print(f"{len(found) - len(failed)} of {len(found)} runs are complete.")
    done = [run.folder for run in plan.runs if run.folder not in failed]
    if after := attributions(plan, HERE / "attribute.py", jobs, done):
        not_attributed = run_all(after, jobs, "attributions")
        print(f"{len(after) - len(not_attributed)} of {len(after)} attributions are complete.")
        failed += not_attributed
    for folder in dict.fromkeys(Path(folder).parents[1] for folder in done):
        if len(done) > 1 and (board := compare(folder)):
            print(f"Compared in {board} (tensorboard --logdir {folder.parent})")
        print(f"What they say:  python runners/report.py {shlex.quote(str(folder))}")
    return 1 if failed else 0


def main(argv: list[str], prog: str = "sweep.py") -> int:
    parser = make_parser(prog)
    options, rest = parser.parse_known_args(argv)
    if options.jobs < 1:
        parser.error(f"--jobs: at least 1 is needed, got {options.jobs}")
    if options.reference == "fresh" and "--fresh" in rest:
        parser.error("--reference: with --fresh all runs are fresh, and none is left to be compared with them")
    configs.import_from_here()
    try:
        with interruption.stoppable():
            return carry_out(plan(options, rest, prog), options.jobs, options.dry_run)
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("\nStopped. The same command goes on from the last checkpoints.", file=sys.stderr)
        return stop.code if isinstance(stop, Stopped) else 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
