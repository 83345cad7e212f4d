"""What the programs that run an experiment have in common: its errors, its exit codes, its last words."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from neoteny.agents import NonFiniteError
from neoteny.configs import ConfigError, dump_yaml
from neoteny.envs import EnvironmentFault
from neoteny.runners.experiments import StoppedByCallback, parse
from neoteny.runners.experiments.program import Program
from neoteny.runners.measures import HEADLINES
from neoteny.runners.runs.chain import Chain
from neoteny.runners.runs.display import kept_and_lost, summary
from neoteny.runners.runs.interruption import Stopped, interruption
from neoteny.runners.runs.learning import Learning


def run_program(
    argv: list[str], prog: str, doc: str | None, program: Program, learning: Callable[[Any], Learning]
) -> int:
    """Run the command line ``argv``; the exit code.

    Args:
        argv: the words after the program's name.
        prog: what the program is called.
        doc: its module's docstring.
        program: its settings.
        learning: how segments are learned.
    """
    try:
        with interruption.stoppable():
            return _run(argv, prog, (doc or "").split("\n\n")[0], program, learning)
    except KeyboardInterrupt as stop:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return stop.code if isinstance(stop, Stopped) else 130


def _run(argv: list[str], prog: str, description: str, program: Program, learning: Callable[[Any], Learning]) -> int:
    experiment, options = parse(argv, description, prog, program)
    if options.print_config:
        print(dump_yaml(experiment.plain), end="")
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("neoteny").setLevel(logging.INFO)
    chain = None
    try:
        chain = Chain(experiment, learning)
        if not chain.done:
            chain.run()
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except (NonFiniteError, EnvironmentFault, OSError) as error:
        good = chain.folder.agent if chain else None
        print(f"{prog}: {_what(error)}: {error}", file=sys.stderr)
        print(f"The last good state is {good}" if good else "It has no earlier state.", file=sys.stderr)
        return 1
    except StoppedByCallback as error:
        print(f"{prog}: {error}. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 1
    finally:
        if chain:
            chain.folder.release()
    summary(chain.folder.tasks, str(experiment.folder), chain.coverage, chain.folder.progress)
    kept_and_lost(chain.learning.evaluated, HEADLINES[experiment.sequence.score])
    print(f"Trained agent: {chain.folder.agent}\nDashboard:     tensorboard --logdir {experiment.run.out}")
    print(f"Fingerprint:   {experiment.sequence.fingerprint()} (results of the same one are of the same tasks)")
    return 0


def _what(error: Exception) -> str:
    """What has happened, in words."""
    if isinstance(error, NonFiniteError):
        return "training diverged"
    return "an environment has broken" if isinstance(error, EnvironmentFault) else "files cannot be written or read"
