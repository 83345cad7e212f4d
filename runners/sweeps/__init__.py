"""Many runs, several at a time: what of them is there, how long the rest takes, and what comes after them."""

from neoteny.runners.sweeps.attributions import attributions
from neoteny.runners.sweeps.progress import Progress, describe, progress_of
from neoteny.runners.sweeps.running import collected, ended_early, run_all

__all__ = ["Progress", "attributions", "collected", "describe", "ended_early", "progress_of", "run_all"]
