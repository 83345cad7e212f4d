"""One picture and three sentences: whether an agent loses plasticity, what the loss sits in, and what helps.

    python runners/sweep.py --experiment plasticity
    python runners/explain.py runs/plasticity/cartpole-rotate

takes the runs of one environment and one agent: without a method (none), with methods, and fresh ones (--reference
fresh), and the attribution of a run without a method, if there is one (attribute.py). Everything in the sentences is
computed from these runs: means over the second half of the tasks, with 95 % intervals over seeds. Something is called
sure where the interval of its difference leaves 0 out; with three seeds that is soon said.

--out also keeps the rows that all this is computed from, in tasks.csv and trials.csv; from these it can be explained
again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from neoteny.configs import ConfigError
from neoteny.runners.experiments.command_line import parser_of
from neoteny.runners.sweeps.explanation import explain, sentences
from neoteny.runners.sweeps.keeping import read_folder, write_folder
from neoteny.runners.sweeps.picture import explained


def main(argv: list[str], prog: str = "explain.py") -> int:
    parser = parser_of(prog, __doc__)
    parser.add_argument("runs", type=Path, help="the folder of one environment's runs, or of their rows")
    parser.add_argument(
        "--agent", metavar="NAME", help="which agent, if there are several: its folders' name before -none"
    )
    parser.add_argument("--task", type=int, metavar="N", help="the attribution into this task, if there are several")
    parser.add_argument("--out", type=Path, help="the folder to write to (default: that of the runs)")
    options = parser.parse_args(argv)
    try:
        found = explain(options.runs, options.agent, options.task)
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    out = options.out or options.runs
    out.mkdir(parents=True, exist_ok=True)
    written = explained(found, out.resolve().name, out)
    if options.out:
        written += write_folder(out, *read_folder(options.runs))
    print("\n".join([*sentences(found), *found.notes, "", *map(str, written)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
