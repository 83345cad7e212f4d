"""What the instruments of a run add to the time that it trains, at several widths of its hidden layers.

Two numbers. Runs with and without take turns: the ratio is all that they add, and scatters as the machine does. And
the clock is read around every look and every dump of a logger: what these take more with instruments than without, over
the rest of the slice, scatters little, and lacks what a look costs later, such as a cache that has to be filled again.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stable_baselines3.common.logger import Logger

from neoteny import configs
from neoteny.runners.benchmarks.methods import share
from neoteny.runners.benchmarks.timing import Slice, figures, measure, show
from neoteny.runners.experiments import Experiment, compose, find_device, load_presets
from neoteny.runners.measures import Panel
from neoteny.runners.runs import Chain, recorder

WIDTHS = (64, 256)
#: Environment steps of a task: short ones, which have their end looked at like any other, and usual ones.
STEPS = (10_000, 100_000)
#: By default the instruments of a run.
DEFAULT_NAMES = ("default",)
#: The sequence that each agent is timed on.
CASES: Mapping[str, str] = {
    "ppo": "minigrid-permute",
    "ppo-control": "cartpole-dynamics",
    "dqn": "minigrid-permute",
    "dqn-control": "cartpole-dynamics",
    "sac-control": "pendulum-gravity",
    "recurrent-ppo": "minigrid-memory",
}


def experiment(case: str, width: int, steps: int, tasks: int, **run: Any) -> Experiment:
    """A run of so many tasks; without early stopping, so that all do equal work."""
    presets = load_presets({"env": CASES[case], "agent": case, "reg": "none"})
    stops = {"agent.target_kl": None} if "target_kl" in presets["agent"][1] else {}
    hidden = {"agent.network.hidden": [width, width]}
    return compose(presets, hidden | stops, run, steps_per_task=steps, num_tasks=tasks)


def learning(settings: Experiment) -> Slice:
    """A task, with all that a run writes."""
    walk = Chain(settings).walk()

    def learn() -> int:
        steps, over = 0, False
        with redirect_stderr(io.StringIO()):  # a run says when a task is over
            while not over:
                segment = next(walk)
                steps, over = steps + segment.steps, segment.ends_visit
        return steps

    return learn


@dataclass
class Inside:
    """Seconds that runs spend in looks at their networks and in dumps of their loggers.

    Attributes:
        clock: what seconds are of.
        total: so far.
        slices: per environment step, of each slice of a contender.
    """

    clock: Callable[[], float]
    total: float = 0.0
    slices: dict[str, list[float]] = field(default_factory=dict)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose seconds count."""

        def run(*args: Any, **settings: Any) -> Any:
            begun = self.clock()
            try:
                return function(*args, **settings)
            finally:
                self.total += self.clock() - begun

        return run

    def noted(self, contender: str, slice_: Slice) -> Slice:
        """The slice, whose seconds inside are kept."""
        kept = self.slices.setdefault(contender, [])

        def learn() -> int:
            before = self.total
            steps = slice_()
            kept.append((self.total - before) / steps)
            return steps

        return learn

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks and dumps are timed meanwhile."""
        places = [
            *((Panel, name) for name in ("begin", "end", "at_switch")),
            (recorder, "record_look"),
            (Logger, "dump"),
        ]
        with ExitStack() as stack:
            for place, name in places:
                stack.enter_context(patch.object(place, name, self.timed(getattr(place, name))))
            yield


def contenders(
    case: str, width: int, steps: int, tasks: int, instruments: tuple[str, ...], out: str, device: str = "cpu"
) -> dict[str, Slice]:
    """Runs without and with instruments, which are the same otherwise."""
    slices = {}
    for name, chosen in {"off": ("none",), "on": instruments}.items():
        folder = str(Path(out) / name)
        run = experiment(case, width, steps, tasks, instruments=chosen, out=folder, device=device)
        slices[name] = learning(run)
    return slices


def compare_instruments(options: argparse.Namespace) -> dict[str, Any]:
    """Measure runs with and without instruments, print the table, and return its numbers.

    Raises:
        ConfigError: an instrument is not known, there is no sequence for the agent, or the device is not there.
    """
    device = find_device(options.device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time  # so that other programs disturb less
    names = tuple(options.instruments or DEFAULT_NAMES)
    sequence = configs.choose("--agent", options.agent, CASES)
    title = (
        f"Time added by --instruments {' '.join(names)} to {options.agent} on {sequence}, "
        f"{device}, {options.rounds} interleaved rounds [middle half]"
    )
    widths = options.widths or WIDTHS
    columns = [name for width in widths for name in (f"width {width}", "inside looks")]
    table = Table("steps per task", *columns, title=title, title_justify="left")
    numbers: dict[str, dict[str, Any]] = {}
    with Progress(console=Console(stderr=True)) as progress:
        for steps in options.steps or STEPS:
            numbers[str(steps)] = {}
            for width in widths:
                inside = Inside(clock)
                with tempfile.TemporaryDirectory() as out, inside.watching():
                    slices = contenders(options.agent, width, steps, options.rounds + 1, names, out, str(device))
                    slices = {name: inside.noted(name, slice_) for name, slice_ in slices.items()}
                    seconds = measure(slices, options.rounds, progress, f"{steps:,} steps, width {width}", clock)
                on, (off_looks, looks) = seconds["on"], (np.array(inside.slices[name][1:]) for name in ("off", "on"))
                numbers[str(steps)][str(width)] = {
                    **figures(on, on / seconds["off"]),
                    "inside": figures(on, on / (on - looks + off_looks)),
                }
            found = [each for number in numbers[str(steps)].values() for each in (number, number["inside"])]
            table.add_row(f"{steps:,}", *map(share, found))
    show(table)
    return {"title": title, "instruments": numbers}
