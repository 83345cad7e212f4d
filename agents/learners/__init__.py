"""The updates of PPO, DQN and SAC with gradients in closed form, for networks that can be read."""

from neoteny.agents.learners.dqn import DQNUpdate
from neoteny.agents.learners.lanes import UnreadableError
from neoteny.agents.learners.ppo import PPOUpdate
from neoteny.agents.learners.sac import SACUpdate

__all__ = ["DQNUpdate", "PPOUpdate", "SACUpdate", "UnreadableError"]
