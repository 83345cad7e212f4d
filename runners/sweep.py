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

--search optuna looks for the values of settings that have a range, such as the strength of a penalty
(docs/experiments.md):

    python runners/sweep.py --env cartpole-offset --agent ppo-trac --reg none,spectral,l2-init --seeds 3 \\
        --search optuna --grid reg.strength='log 1e-6 .. 1e-1' --trials 20

Runs that are finished are skipped and runs that were stopped go on, so the same command can be given again at any time.
They are processes of this machine, or run on a cluster: --engine ray, --engine slurm (docs/clusters.md).
Options this program does not know are passed on to every run; those of a method, such as --reg.strength, to the methods
that have such a setting.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.engines.engine import ENGINES, Engine, Settings, find_engine
from neoteny.runners.engines.work import Job
from neoteny.runners.experiments import (
    Plan,
    PlannedRun,
    Sweep,
    load_sweep,
    parse_grid,
    parse_seeds,
    split_names,
    split_settings,
)
from neoteny.runners.experiments.command_line import Parser, parser_of
from neoteny.runners.experiments.sweeps import Search
from neoteny.runners.reports import compare
from neoteny.runners.runs.interruption import interruption
from neoteny.runners.sweeps import Progress, attributions, collected, describe, ended_early, progress_of, run_all
from neoteny.runners.sweeps.progress import describe_disk

HERE = Path(__file__).parent
#: What is named of a sweep.
KINDS = {
    "env": "task sequences, parted by commas or spaces (default: minigrid-seq)",
    "agent": "agents (default: ppo)",
    "data": "examples, of supervised learning: continual_supervised.py then runs (default: digits)",
    "change": "what changes from task to task there (default: random-labels)",
    "net": "networks there (default: mlp)",
    "reg": "plasticity methods (default: none spectral)",
}


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
        own |= _search(options)
        return Plan(configs.build(Sweep, names | own, "sweep"), rest, grid=grid, prog=prog)
    called, sweep = load_sweep(options.experiment)
    own |= {"options": {"out": f"runs/{called}"} | sweep.options} | _search(options, sweep)
    return Plan(dataclasses.replace(sweep, **own), rest, grid=grid, only=names, prog=prog)


def _search(options: argparse.Namespace, sweep: Sweep | None = None) -> dict[str, Any]:
    """How values are searched for: as an experiment says it, and the options."""
    own = sweep.search if sweep else None
    if not (options.search or own):
        if options.trials is not None:
            raise ConfigError("--trials: is of a search: --search optuna")
        return {}
    if sweep and sweep.attribution:
        raise ConfigError("--search: an attribution is of runs that are named, and a search names none")
    search = own or Search()
    if options.trials is None:
        return {"search": search}
    return {"search": configs.build(Search, dataclasses.asdict(search) | {"trials": options.trials}, "search")}


def make_parser(prog: str) -> Parser:
    parser = parser_of(prog, __doc__)
    known = ", ".join(configs.names("experiments"))
    parser.add_argument(
        "--experiment", metavar="NAME", help=f"what a file says, in runs/NAME: {known}; or the path of a .yaml file"
    )
    for kind, text in KINDS.items():
        parser.add_argument(f"--{kind}", nargs="+", metavar="NAME", help=text)
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
    parser.add_argument(
        "--search",
        choices=["optuna"],
        help="look for values of the settings that have a range, such as --grid reg.strength='log 1e-6 .. 1e-1'",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="of each method, in a search (default: 20)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, what is missing, its time and its disk")
    add_engine_options(parser)
    return parser


def add_engine_options(parser: Parser) -> None:
    """Options that say what runs the runs; those of Slurm's jobs, --slurm.NAME, are not listed."""
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what runs them (default: local, processes)")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="runs at a time, at most (default: processors here, or room on the cluster)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="that one run needs (default: 1 for local, else what a cluster gives)",
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, metavar="N", help="for each run on a cluster, 0.25 for instance"
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of a Ray cluster: auto or HOST:PORT (default: Ray is started on this machine)",
    )


def settings_of(options: argparse.Namespace, slurm: dict[str, list[Any]], out: str) -> Settings:
    """What the engine is told.

    Raises:
        ConfigError: an option is out of range, or of another engine.
    """
    for option, value, engines in (
        ("--address", options.address, ("ray",)),
        ("--gpus", options.gpus, ("ray", "slurm")),
        *((f"--{key}", True, ("slurm",)) for key in slurm),
    ):
        if value and options.engine not in engines:
            raise ConfigError(f"{option}: is of --engine {' and '.join(engines)}, got --engine {options.engine}")
    for option, given, least in (("--jobs", options.jobs, 1), ("--memory", options.memory, 0.001)):
        if given is not None and given < least:
            raise ConfigError(f"{option}: at least {least} is needed, got {given}")
    if options.gpus < 0:
        raise ConfigError(f"--gpus: at least 0 is needed, got {options.gpus:g}")
    slurms = {key.removeprefix("slurm."): value for key, (value,) in slurm.items()}
    return Settings(Path(out), options.jobs, options.memory, options.gpus, options.address, slurms)


def job_of(plan: Plan, run: PlannedRun) -> Job:
    """What carries out a run."""
    command = [sys.executable, str(HERE / plan.program.file), *run.arguments]
    return Job(run.folder, command, threads=run.experiment.run.threads)


def carry_out(plan: Plan, found: list[Progress], engine: Engine, share: int) -> int:
    """Do what is missing; the exit code.

    Args:
        plan: of the sweep.
        found: how far its runs are.
        engine: runs what is missing.
        share: processes at a time that attributions have together.

    Raises:
        ConfigError: what is to be attributed is not there.
    """
    missing = {each.run.folder: job_of(plan, each.run) for each in found if not each.complete}
    failed = run_all([*missing.values()], engine, "runs", {each.run.folder: each for each in found})
    failed += ended_early([each.run for each in found if not each.run.experiment.evaluates], missing, failed)
    wrong = {each.job.name for each in failed}
    print(f"{len(found) - len(wrong)} of {len(found)} runs are complete.")
    done = [run.folder for run in plan.runs if run.folder not in wrong]
    if after := attributions(plan, HERE / "attribute.py", share, done):
        alone, sharing = ([job for job in after if (job.threads > 1) == many] for many in (False, True))
        not_attributed = [*run_all(alone, engine, "attributions"), *run_all(sharing, engine, "attributions")]
        print(f"{len(after) - len(not_attributed)} of {len(after)} attributions are complete.")
        failed += not_attributed
    for folder in dict.fromkeys(Path(folder).parents[1] for folder in done):
        if len(done) > 1 and (board := compare(folder)):
            print(f"Compared in {board} (tensorboard --logdir {folder.parent})")
        print(f"What they say:  python runners/report.py {shlex.quote(str(folder))}")
    if failed:
        print(f"\n{collected(failed)}\nThe same command tries again what failed.", file=sys.stderr)
    return 1 if failed else 0


def run(options: argparse.Namespace, rest: list[str], prog: str) -> int:
    """Plan, say what is planned, and do it; the exit code.

    Raises:
        ConfigError: a setting is wrong, a folder holds another run, or the engine does not start.
    """
    slurm, words = split_settings(rest, ("slurm",))
    start = find_engine(options.engine)
    planned = plan(options, words, prog)
    if planned.sweep.search:
        return configs.import_extra("--search optuna", "neoteny.runners.searches.program", "optuna").run_search(
            planned,
            planned.sweep.search,
            lambda out: start(settings_of(options, slurm, out)),
            partial(job_of, planned),
            options.dry_run,
        )
    settings = settings_of(options, slurm, planned.runs[0].experiment.run.out if planned.runs else "runs")
    found = progress_of(planned.runs)
    share = (options.jobs or os.cpu_count() or 1) if options.engine == "local" else 1
    after = attributions(planned, HERE / "attribute.py", share)
    for note in planned.notes:
        print(note, file=sys.stderr)
    seeds = ", ".join(map(str, planned.sweep.seeds))
    print(f"{describe(found, options.jobs or share)}. Seeds: {seeds}.", file=sys.stderr)
    if options.dry_run:
        for each in found:
            print(f"{each.state:<9} {each.run.folder}")
        for job in after:
            print(f"{'missing':<9} {job.name}")
        print(f"{describe_disk(found)}.", file=sys.stderr)
        return 0
    with start(settings) as engine:
        for note in engine.notes:
            print(note, file=sys.stderr)
        return carry_out(planned, found, engine, min(share, engine.room or share))


def main(argv: list[str], prog: str = "sweep.py") -> int:
    parser = make_parser(prog)
    options, rest = parser.parse_known_args(argv)
    if options.reference == "fresh" and "--fresh" in rest:
        parser.error("--reference: with --fresh all runs are fresh, and none is left to be compared with them")
    configs.import_from_here()
    try:
        with interruption.stoppable():
            return run(options, rest, prog)
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoints.", file=sys.stderr)
        return interruption.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
