"""Tasks of examples: data, how it changes from task to task, and the sequence that is learned."""

from neoteny.envs.supervised.change import Change
from neoteny.envs.supervised.changes import CHANGES
from neoteny.envs.supervised.data import Data
from neoteny.envs.supervised.sources import SOURCES, Source
from neoteny.envs.supervised.stream import Stream

__all__ = ["CHANGES", "SOURCES", "Change", "Data", "Source", "Stream"]
