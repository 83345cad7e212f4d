"""What is run: an experiment, from presets and the command line."""

from neoteny.runners.experiments.command_line import parse
from neoteny.runners.experiments.compose import compose, find_agent, load_presets
from neoteny.runners.experiments.experiment import Experiment, Run, find_device

__all__ = ["Experiment", "Run", "compose", "find_agent", "find_device", "load_presets", "parse"]
