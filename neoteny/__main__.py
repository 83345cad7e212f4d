"""The command ``neoteny``: the programs by name."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import threading
from importlib import import_module
from types import ModuleType

from neoteny.versions import versions

#: By name, the module whose ``main`` is run, and what it does.
COMMANDS = {
    "train": ("neoteny.runners.continual_rl", "train one agent on a sequence of tasks"),
    "supervise": ("neoteny.runners.continual_supervised", "train one network on a sequence of supervised tasks"),
    "sweep": ("neoteny.runners.sweep", "run methods × seeds, several at a time"),
    "evaluate": ("neoteny.runners.evaluate", "evaluate an agent of a run on the run's tasks"),
    "report": ("neoteny.runners.report", "make a page, plots and tables from runs"),
    "results": ("neoteny.runners.results", "make the tables and pictures of kept results anew"),
    "doctor": ("neoteny.runners.doctor", "say of runs what is whole, and repair them"),
    "attribute": ("neoteny.runners.attribute", "say which part of an agent its loss of plasticity sits in"),
    "explain": ("neoteny.runners.explain", "say whether agents lose plasticity, why, and what helps, with a picture"),
    "benchmark": ("neoteny.runners.benchmark", "time agents, methods and environments"),
    "check": ("neoteny.envs.checker", "hold a task sequence of your own to what it promises"),
}


def version() -> str:
    """The versions of Neoteny and of what it stands on, which a bug report should name."""
    return "\n".join(f"{part} {found}" for part, found in versions().items())


def _load(module: str) -> ModuleType:
    """Import a program; Ctrl-C ends that without a traceback."""
    gc.disable()
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if is_main else None
    program = import_module(module)
    if before is not None:
        signal.signal(signal.SIGINT, before)
    gc.freeze()  # what was imported is no garbage: looking for it takes a third of the time of a --help
    gc.enable()
    return program


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; the exit code."""
    first, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if first in COMMANDS:
        program = _load(COMMANDS[first][0])
        return int(program.main(rest, prog=f"neoteny {first}"))
    listed = "\n".join(f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="neoteny",
        usage="neoteny [--version] COMMAND ...",
        description="Reinforcement learning agents that stay trainable, task after task.",
        epilog=f"commands:\n{listed}\n\n`neoteny COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=version(), help="show the versions of all parts and exit"
    )
    _, unknown = parser.parse_known_args([first])
    from neoteny.configs import suggestion

    near = suggestion(unknown[0], [*COMMANDS, "--help", "--version"])
    print(f"neoteny: {first!r} is no command; choose from {', '.join(COMMANDS)}{near}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
