"""Run a grid of environments, agents, methods and seeds, several at a time, each as continual_rl.py would.

    python runners/sweep.py --env minigrid-permute --reg none spectral --seeds 0-4 --jobs 2

Runs that are finished are skipped and runs that were stopped go on, so the same command can be given again at any time.
Options this program does not know are passed on to every run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from neoteny.runners.experiments import parse, parse_numbers
from neoteny.runners.reports import compare

PROGRAM = Path(__file__).with_name("continual_rl.py")


def plan(options: argparse.Namespace, rest: list[str], prog: str) -> dict[str, list[str]]:
    """The command of every run, by its folder. Exits with code 2 on a wrong setting, before anything runs."""
    commands = {}
    methods = [(reg, rest) for reg in options.reg]
    if options.reference:
        methods.append(("none", [*without_reg(rest), "--fresh"]))
    for env, agent, (reg, more), seed in itertools.product(options.env, options.agent, methods, options.seeds):
        arguments = ["--env", env, "--agent", agent, "--reg", reg, "--seed", str(seed), *more]
        experiment, _ = parse(arguments, prog=prog)
        commands[str(experiment.folder)] = [sys.executable, str(PROGRAM), *arguments]
    return commands


def without_reg(words: Sequence[str]) -> list[str]:
    """Options without those of the method: ``--reg.strength 3e-4`` or ``--reg.strength=3e-4``."""
    found: list[str] = []
    is_value = False
    for word in words:
        if not (is_value or word.startswith("--reg.")):
            found.append(word)
        is_value = word.startswith("--reg.") and "=" not in word
    return found


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def run_all(commands: Mapping[str, list[str]], pool: ThreadPoolExecutor) -> list[str]:
    """Run the commands in ``pool``; the folders of those that failed, each with its error on the console."""
    failed = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=len(commands))
        futures = {pool.submit(run, command): folder for folder, command in commands.items()}
        for future in as_completed(futures):
            result = future.result()
            if result.returncode:
                failed.append(futures[future])
                progress.console.print(f"FAILED {futures[future]}\n{result.stderr[-2000:]}", highlight=False)
            progress.advance(bar)
    return failed


def main(argv: list[str], prog: str = "sweep.py") -> int:
    description, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--env", nargs="+", default=["minigrid-seq"], help="task sequences")
    parser.add_argument("--agent", nargs="+", default=["ppo"], help="agents")
    parser.add_argument("--reg", nargs="+", default=["none", "spectral"], help="plasticity methods")
    parser.add_argument("--seeds", type=parse_numbers, default=[0], help="such as 0-4 or 0,3,7")
    parser.add_argument(
        "--reference",
        choices=["fresh"],
        help="also run agents that begin every task anew, without a method, once for each env, agent and seed; "
        "reports then have each method's plasticity, area(live) / area(fresh)",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    options, rest = parser.parse_known_args(argv)
    if options.jobs < 1:
        parser.error(f"--jobs: at least 1 is needed, got {options.jobs}")
    if options.reference and "--fresh" in rest:
        parser.error("--reference: with --fresh all runs are fresh, and none is left to be compared with them")
    commands = plan(options, rest, prog)
    pool = ThreadPoolExecutor(options.jobs)
    try:
        failed = run_all(commands, pool)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        print("\nStopped. The same command goes on from the last checkpoints.", file=sys.stderr)
        return 130
    print(f"{len(commands) - len(failed)} of {len(commands)} runs are complete.")
    for folder in sorted({Path(folder).parents[1] for folder in commands}):
        if len(commands) > 1 and (board := compare(folder)):
            print(f"Compared in {board} (tensorboard --logdir {folder.parent})")
    for env in dict.fromkeys(Path(folder).parents[1] for folder in commands):
        print(f"What they say:  python runners/report.py {shlex.quote(str(env))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
