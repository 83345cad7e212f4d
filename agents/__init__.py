"""Agents that learn continually: stable-baselines3's algorithms with plasticity methods."""

from agents.checkpoint import CheckpointError
from agents.continual import Continual, NonFiniteError
from agents.networks import ActorCritic, OneHot
from agents.ppo import PPO, Network, PPOConfig

#: Every agent by the name that YAML and the command line call it.
AGENTS: dict[str, type[Continual]] = {"ppo": PPO}

__all__ = [
    "AGENTS", "PPO", "ActorCritic", "CheckpointError", "Continual", "Network", "NonFiniteError", "OneHot", "PPOConfig",
]  # fmt: skip
