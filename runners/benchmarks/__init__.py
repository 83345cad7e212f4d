"""What is timed: agents, methods, instruments, backends; each interleaved with what it is compared with."""

from neoteny.runners.benchmarks.agents import STOCK, compare_agents
from neoteny.runners.benchmarks.backends import RACES, compare_backends
from neoteny.runners.benchmarks.instruments import STEPS, compare_instruments
from neoteny.runners.benchmarks.methods import WIDTHS, compare_methods

__all__ = [
    "RACES",
    "STEPS",
    "STOCK",
    "WIDTHS",
    "compare_agents",
    "compare_backends",
    "compare_instruments",
    "compare_methods",
]
