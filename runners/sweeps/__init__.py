"""Many runs, several at a time: what of them is there, how long the rest takes, and what comes after them."""

from neoteny.runners.sweeps.attributions import attributions
from neoteny.runners.sweeps.processes import Job, run_all
from neoteny.runners.sweeps.progress import Progress, describe, progress_of

__all__ = ["Job", "Progress", "attributions", "describe", "progress_of", "run_all"]
