"""Reinforcement learning agents that stay trainable, task after task.

.. code-block:: python

    from neoteny import PPO, ContinualVecEnv, Spectral, TaskSequence

The names below are imported when they are first used, so that ``import neoteny`` alone takes no time. Everything else
is in :mod:`neoteny.agents`, :mod:`neoteny.envs` and :mod:`neoteny.plasticity`.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neoteny.agents import DQN, PPO, SAC, Continual, RecurrentPPO
    from neoteny.envs import ContinualVecEnv, TaskSequence
    from neoteny.plasticity import Spectral
    from neoteny.runners.runs import evaluate, load_run

__version__ = "0.2.0.dev0"

__all__ = [
    "DQN",
    "PPO",
    "SAC",
    "Continual",
    "ContinualVecEnv",
    "RecurrentPPO",
    "Spectral",
    "TaskSequence",
    "__version__",
    "evaluate",
    "load_run",
]

_HOMES = {
    "neoteny.agents": ("DQN", "PPO", "SAC", "Continual", "RecurrentPPO"),
    "neoteny.envs": ("ContinualVecEnv", "TaskSequence"),
    "neoteny.plasticity": ("Spectral",),
    "neoteny.runners.runs": ("evaluate", "load_run"),
}


# In a checkout the packages stand beside this folder. Take those, even if another checkout is the installed one.
_checkout = Path(__file__).parents[1]
if (_checkout / "agents" / "continual.py").exists():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
