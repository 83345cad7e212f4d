"""The life of a run: its folder, and the chain of segments that it learns."""

from neoteny.runners.runs.chain import Chain
from neoteny.runners.runs.folder import RunFolder

__all__ = ["Chain", "RunFolder"]
