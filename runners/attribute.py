"""Which part of an agent its loss of plasticity sits in: one thing is made fresh, and the next task is learned.

    python runners/continual_rl.py --env cartpole-rotate --agent ppo-trac --keep-agents
    python runners/attribute.py runs/cartpole-rotate/ppo-trac-none/seed-0 --task 4 --seeds 5

takes the agent as it was before task 4 (the first is 1), makes copies, and in each makes one thing fresh: a head, a
torso, the optimizer's state, ... Each copy learns task 4 as the run would have. An agent that is fresh altogether
(everything) is learned from too, and the old one as it is (nothing). How much of the gap between these two is gone
says where the loss sits:

    share = (mean return after the intervention - nothing) / (everything - nothing)

A seed changes environments, minibatches and fresh weights; those of one number are the same for all interventions. Seed
0 is the run's own: nothing, with seed 0, is the row of the run's tasks.csv. Intervals are 95 % bootstrap intervals over
seeds, made wider for few of them: with three by 2.7, with five by 1.6. Where twelve parts have no share in truth, one
of them has an interval above 0 in about one table of four: a share that just clears 0 asks for more seeds.

A part that is made fresh has fresh moments in the optimizer too, and the target networks of what is fresh follow. So
where the loss is in the optimizer's state, parts have a share of it as well; that of the optimizer is then the largest.

Results are in RUN/attribution/task-0004/: trials.csv has a row per trial, attribution.csv the table, attribution.png
the plot. The rest of the run is not touched. Stop it at any time: the same command goes on with the trials that are
missing, and more --seeds or others in --only add to those that are there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from neoteny import configs
from neoteny.agents import CheckpointError
from neoteny.configs import ConfigError
from neoteny.envs import EnvironmentFault
from neoteny.envs.backends.orphans import end_with_caller
from neoteny.runners.attribution import INTERVENTIONS, Study, find_switch, plot, print_table, read, write_table
from neoteny.runners.experiments.command_line import parser_of
from neoteny.runners.reports import compare


def choose(only: Sequence[str], left_out: dict[str, str]) -> list[str]:
    """The interventions to be made, ``nothing`` and ``everything`` always among them.

    Raises:
        ConfigError: one of ``only`` cannot be made in this agent.
    """
    for name in only:
        if name in left_out:
            raise ConfigError(f"--only: {name} cannot be made fresh in this agent: {left_out[name]}")
    wanted = {"nothing", "everything", *(only or INTERVENTIONS)} - left_out.keys()
    return [name for name in INTERVENTIONS if name in wanted]


def attribute(options: argparse.Namespace) -> None:
    """Do what is missing, and show what there is.

    Raises:
        ConfigError: something in the options is wrong; nothing has been written then.
        EnvironmentFault, BrokenProcessPool: a trial has failed.
    """
    for name in options.only:
        configs.choose("--only", name, INTERVENTIONS)
    switch = find_switch(options.run, options.task)
    left_out = switch.left_out()
    chosen = choose(options.only, left_out)
    study = Study(options.run, switch)
    study.run(chosen, options.seeds, options.jobs)
    rows = [row for (_, seed), row in study.rows.items() if seed < options.seeds]
    measure, areas, attribution = read(rows)
    label = switch.experiment.sequence.visits[switch.task].label
    name = "/".join(switch.experiment.folder.parts[-3:])
    title = f"{name}: task {options.task}, {label}"
    print_table(title, measure, areas, attribution)
    if not options.only and left_out:
        print("Left out: " + "; ".join(f"{name} ({why})" for name, why in left_out.items()) + ".")
    for row in rows:
        if note := row.get("note"):
            print(f"{row['intervention']}, seed {row['trial']}: {note}")
    write_table(study.folder / "attribution.csv", measure, areas, attribution)
    plot(study.folder / "attribution.png", title, measure, areas, attribution)
    print("\n".join(str(study.folder / name) for name in ("attribution.csv", "attribution.png", "trials.csv")))
    if not options.part_of_sweep:  # which compares at its end
        print(f"In TensorBoard: {compare(options.run.resolve().parents[1])}")


def main(argv: list[str], prog: str = "attribute.py") -> int:
    listed = "\n".join(f"  {name:<14}{each.about}" for name, each in INTERVENTIONS.items())
    parser = parser_of(prog, __doc__, f"\nwhat is made fresh, if the agent has it:\n{listed}")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run with --keep-agents")
    parser.add_argument("--part-of-sweep", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--task", type=int, required=True, metavar="N", help="the task to learn, the first being 1")
    parser.add_argument("--seeds", type=int, default=5, metavar="K", help="trials of each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="only these, beside nothing and everything"
    )
    options = parser.parse_args(argv)
    for name, least in (("seeds", 2), ("jobs", 1)):
        if (value := getattr(options, name)) < least:
            parser.error(f"--{name}: at least {least} is needed, got {value}")
    configs.import_from_here()
    try:
        attribute(options)
    except (ConfigError, CheckpointError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except (EnvironmentFault, BrokenProcessPool) as error:
        print(f"{prog}: a trial has failed: {error}\nThe same command tries it again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on with the trials that are missing.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    end_with_caller()
    sys.exit(main(sys.argv[1:]))
