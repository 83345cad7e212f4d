"""What an agent meets: tasks, and sequences of them, as plain frozen values."""

from neoteny.envs.tasks.sequence import TaskSequence
from neoteny.envs.tasks.task import Segment, Task, Visit

__all__ = ["Segment", "Task", "TaskSequence", "Visit"]
