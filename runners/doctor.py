"""Say of runs what is whole, what is not, and what the same command would do when it is given again.

    python runners/doctor.py runs
    python runners/doctor.py runs/minigrid-seq/ppo-spectral/seed-0 --repair

A run is finished, can go on, runs at this moment, or cannot go on. `--repair` does to its files what going on would do
first: checkpoints that are damaged and what lies beyond the last whole one are removed. Exit code: 0 if all runs are
whole, 1 if one is damaged or cannot go on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.experiments import AnyExperiment, read_any
from neoteny.runners.experiments.command_line import parser_of
from neoteny.runners.runs.checkpoints import Checkpoints
from neoteny.runners.runs.lock import Lock, holder
from neoteny.runners.runs.recovery import Recovery, recover
from neoteny.runners.runs.tables import Table


class Finding(NamedTuple):
    """What is found of a run.

    Attributes:
        kind: ``finished``, ``can go on``, ``running``, ``damaged`` (and can go on), or ``cannot go on``.
        text: more of it.
    """

    kind: str
    text: str


def examine(folder: Path) -> Finding:
    """What is whole in the folder of a run; nothing is written."""
    if by := holder(folder):
        return Finding("running", by)
    try:
        experiment = read_any(folder)
        found = recover(folder)
    except ConfigError as error:
        return Finding("cannot go on", str(error).removeprefix("--out: "))
    done = found.state["segment"] + 1
    goes_on = _goes_on(experiment, found)
    if found.damaged:
        listed = "; ".join(f"checkpoints/{name}: {why}" for name, why in found.damaged.items())
        return Finding("damaged", f"{listed}; {goes_on}")
    return Finding("finished", "") if done == len(experiment.segments) else Finding("can go on", goes_on)


def _goes_on(experiment: AnyExperiment, found: Recovery) -> str:
    """Where the run would go on."""
    total = sum(segment.steps for segment in experiment.segments)
    if found.state["segment"] < 0:
        return f"from the beginning, {total:,} steps"
    visit = experiment.segments[found.state["segment"]].visit
    return f"after step {found.state['step']:,} of {total:,}, in task {visit.index + 1} {visit.label}"


def repair(folder: Path) -> None:
    """Remove damaged checkpoints, what lies beyond the last whole one, and what a killed process has left.

    Raises:
        ConfigError: another process runs there, or no checkpoint is whole.
    """
    lock = Lock(folder)
    state, _ = recover(folder)
    Checkpoints(folder / "checkpoints").tidy(state["segment"])
    for name in ("tasks.csv", "progress.csv"):
        if (folder / name).exists():
            Table(folder / name, state["step"])
    lock.release()


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs in these folders, which may be runs themselves.

    Raises:
        ConfigError: there is none in one of them.
    """
    found: list[Path] = []
    for folder in folders:
        below = sorted(path.parent for path in folder.rglob("config.yaml"))
        if not below:
            raise ConfigError(f"{folder}: there is no run, which would have a config.yaml")
        found += below
    return list(dict.fromkeys(found))


def main(argv: Sequence[str], prog: str = "doctor.py") -> int:
    """Run the command line ``argv`` of a program called ``prog``; the exit code."""
    parser = parser_of(prog, __doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="runs, or folders with runs in them")
    parser.add_argument("--repair", action="store_true", help="remove what is damaged, so that the run can go on")
    options = parser.parse_args(argv)
    configs.import_from_here()
    wrong = 0
    try:
        for folder in runs_in(options.folders):
            found = examine(folder)
            print(f"{found.kind:<13} {folder}{f': {found.text}' if found.text else ''}")
            if found.kind == "damaged" and options.repair:
                repair(folder)
                print(f"{'repaired':<13} {folder}")
            elif found.kind in ("damaged", "cannot go on"):
                wrong += 1
    except ConfigError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
