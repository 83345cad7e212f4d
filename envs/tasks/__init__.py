"""Tasks and task sequences, as frozen dataclasses."""

from neoteny.envs.tasks.sequence import TaskSequence
from neoteny.envs.tasks.task import Segment, Task, Visit

__all__ = ["Segment", "Task", "TaskSequence", "Visit"]
