"""Tasks, task sequences, and vectorized environments that run them."""

from neoteny.configs import ConfigError
from neoteny.envs import registration
from neoteny.envs.backends import EnvironmentFault
from neoteny.envs.sb3 import ContinualVecEnv
from neoteny.envs.shifts import SHIFTS, Clock, PermuteObservation, Shift, Site, Transform
from neoteny.envs.tasks import Segment, Task, TaskSequence, Visit
from neoteny.envs.vector import ContinualVectorEnv

__all__ = [
    "SHIFTS", "Clock", "ConfigError", "ContinualVecEnv", "ContinualVectorEnv", "EnvironmentFault", "PermuteObservation",
    "Segment", "Shift", "Site", "Task", "TaskSequence", "Transform", "Visit",
]  # fmt: skip

registration.register()
