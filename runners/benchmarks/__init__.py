"""What is timed: agents, methods, backends; each interleaved with what it is compared with."""

from neoteny.runners.benchmarks.agents import STOCK, compare_agents
from neoteny.runners.benchmarks.backends import RACES, compare_backends
from neoteny.runners.benchmarks.methods import WIDTHS, compare_methods

__all__ = ["RACES", "STOCK", "WIDTHS", "compare_agents", "compare_backends", "compare_methods"]
