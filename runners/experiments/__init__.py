"""What is run: an experiment, from presets and the command line."""

from neoteny.runners.experiments.callbacks import Callbacks, StoppedByCallback, make_callbacks
from neoteny.runners.experiments.command_line import parse, parse_numbers
from neoteny.runners.experiments.compose import compose, find_agent, load_presets
from neoteny.runners.experiments.experiment import Experiment, Run, find_device
from neoteny.runners.experiments.recorded import from_plain, read_experiment

__all__ = [
    "Callbacks", "Experiment", "Run", "StoppedByCallback", "compose", "find_agent", "find_device", "from_plain",
    "load_presets", "make_callbacks", "parse", "parse_numbers", "read_experiment",
]  # fmt: skip
