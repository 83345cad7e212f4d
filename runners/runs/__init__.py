"""The life of a run: its folder, and the chain of segments that it learns."""

from neoteny.runners.runs.chain import Chain
from neoteny.runners.runs.evaluations import evaluate
from neoteny.runners.runs.folder import RunFolder
from neoteny.runners.runs.loading import LoadedRun, find_agent_file, load_run

__all__ = ["Chain", "LoadedRun", "RunFolder", "evaluate", "find_agent_file", "load_run"]
