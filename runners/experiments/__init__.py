"""What is run: an experiment, from presets and the command line."""

from neoteny.runners.experiments.base import AnyExperiment, find_device
from neoteny.runners.experiments.callbacks import Callbacks, StoppedByCallback, make_callbacks
from neoteny.runners.experiments.command_line import parse, parse_numbers
from neoteny.runners.experiments.compose import compose, find_agent, load_presets
from neoteny.runners.experiments.experiment import Experiment, Run
from neoteny.runners.experiments.plan import Plan, PlannedRun, split_settings
from neoteny.runners.experiments.recorded import from_plain, read_any, read_experiment
from neoteny.runners.experiments.sweeps import Sweep, load_sweep, parse_grid, parse_seeds, split_names

__all__ = [
    "AnyExperiment", "Callbacks", "Experiment", "Plan", "PlannedRun", "Run", "StoppedByCallback", "Sweep", "compose",
    "find_agent", "find_device", "from_plain", "load_presets", "load_sweep", "make_callbacks", "parse", "parse_grid",
    "parse_numbers", "parse_seeds", "read_any", "read_experiment", "split_names", "split_settings",
]  # fmt: skip
