"""Train one agent on a sequence of tasks, and record its returns and its trainability.

    python runners/continual_rl.py --env minigrid-seq --reg spectral

Watch it with TensorBoard (tensorboard --logdir runs). A run that was stopped goes on when the same command is given
again, to the same numbers.
"""

import logging
import signal
import sys

if __name__ == "__main__":  # what is imported below takes its seconds: Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    from neoteny.agents import NonFiniteError
    from neoteny.configs import ConfigError, dump_yaml
    from neoteny.envs import EnvironmentFault
    from neoteny.envs.backends.orphans import end_with_caller
    from neoteny.runners.experiments import StoppedByCallback, parse
    from neoteny.runners.measures import HEADLINES
    from neoteny.runners.runs import Chain
    from neoteny.runners.runs.display import kept_and_lost, summary
    from neoteny.runners.runs.interruption import Stopped, interruption
except (ImportError, SyntaxError) as error:
    print(
        f"continual_rl.py: this Python ({sys.executable}) cannot run Neoteny: {error}\n"
        "Run `make install` first, then use .venv/bin/python.",
        file=sys.stderr,
    )
    sys.exit(2)


def main(argv: "list[str]", prog: str = "continual_rl.py") -> int:
    """Run the command line ``argv`` of a program called ``prog``; the exit code."""
    try:
        with interruption.stoppable():
            return _run(argv, prog)
    except KeyboardInterrupt as stop:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return stop.code if isinstance(stop, Stopped) else 130


def _run(argv: "list[str]", prog: str) -> int:
    experiment, options = parse(argv, (__doc__ or "").split("\n\n")[0], prog)
    if options.print_config:
        print(dump_yaml(experiment.plain), end="")
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("neoteny").setLevel(logging.INFO)
    chain = None
    try:
        chain = Chain(experiment)
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
    summary(chain.folder.tasks, str(experiment.folder), chain.coverage, chain.folder.progress)
    kept_and_lost(chain.evaluations.rows, HEADLINES[experiment.sequence.score])
    print(f"Trained agent: {chain.folder.agent}\nDashboard:     tensorboard --logdir {experiment.run.out}")
    print(f"Fingerprint:   {experiment.sequence.fingerprint()} (results of the same one are of the same tasks)")
    return 0


def _what(error: Exception) -> str:
    """What has happened, in words."""
    if isinstance(error, NonFiniteError):
        return "training diverged"
    return "an environment has broken" if isinstance(error, EnvironmentFault) else "files cannot be written or read"


if __name__ == "__main__":
    end_with_caller()
    sys.exit(main(sys.argv[1:]))
