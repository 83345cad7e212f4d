"""Train one network on a sequence of supervised tasks, and record its accuracy and its trainability.

    python runners/continual_supervised.py --data digits --change random-labels --net mlp --reg spectral

Watch it with TensorBoard (tensorboard --logdir runs). A run that was stopped goes on when the same command is given
again, to the same numbers.
"""

import signal
import sys

if __name__ == "__main__":  # what is imported below takes its seconds: Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from neoteny.envs.backends.orphans import end_with_caller
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.runs.running import run_program
from neoteny.runners.runs.supervised import Supervised


def main(argv: list[str], prog: str = "continual_supervised.py") -> int:
    """Run the command line ``argv`` of a program called ``prog``; the exit code."""
    return run_program(argv, prog, __doc__, SUPERVISED, Supervised)


if __name__ == "__main__":
    end_with_caller()
    sys.exit(main(sys.argv[1:]))
