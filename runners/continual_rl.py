"""Train one agent on a sequence of tasks, and record its returns and its trainability.

    python runners/continual_rl.py --env minigrid-seq --reg spectral

Watch it with TensorBoard (tensorboard --logdir runs). A run that was stopped goes on when the same command is given
again, to the same numbers.
"""

import signal
import sys

if __name__ == "__main__":  # what is imported below takes its seconds: Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    from neoteny.envs.backends.orphans import end_with_caller
    from neoteny.runners.experiments.program import REINFORCEMENT
    from neoteny.runners.runs.reinforcement import Reinforcement
    from neoteny.runners.runs.running import run_program
except (ImportError, SyntaxError) as error:
    print(
        f"continual_rl.py: this Python ({sys.executable}) cannot run Neoteny: {error}\n"
        "Run `make install` first, then use .venv/bin/python.",
        file=sys.stderr,
    )
    sys.exit(2)


def main(argv: "list[str]", prog: str = "continual_rl.py") -> int:
    """Run the command line ``argv`` of a program called ``prog``; the exit code."""
    return run_program(argv, prog, __doc__, REINFORCEMENT, Reinforcement)


if __name__ == "__main__":
    end_with_caller()
    sys.exit(main(sys.argv[1:]))
