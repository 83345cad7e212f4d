"""Continual learning agents: stable-baselines3's algorithms with plasticity methods."""

from neoteny.agents.attached import Attached, NonFiniteError
from neoteny.agents.checkpoint import CheckpointError
from neoteny.agents.config import AgentConfig, Network, Normalize, OffPolicyConfig
from neoteny.agents.continual import Continual
from neoteny.agents.derived import config_of
from neoteny.agents.dqn import DQN, DQNAtSwitch, DQNConfig
from neoteny.agents.encoders import CellsAndWords, CellsAndWordsGRU, SmallCNN, encoder_for
from neoteny.agents.networks import ActorCritic, Encoded, QPolicy, SoftActorCritic
from neoteny.agents.one_hot import OneHot
from neoteny.agents.ppo import PPO, PPOConfig
from neoteny.agents.recurrent_ppo import RecurrentActorCritic, RecurrentNetwork, RecurrentPPO, RecurrentPPOConfig
from neoteny.agents.sac import SAC, SACAtSwitch, SACConfig
from neoteny.agents.switch import AtSwitch, ReplayAtSwitch

#: All agents by their name in YAML and on the command line.
AGENTS: dict[str, type[Continual]] = {"ppo": PPO, "dqn": DQN, "sac": SAC, "recurrent-ppo": RecurrentPPO}

__all__ = [
    "AGENTS", "DQN", "PPO", "SAC", "ActorCritic", "AgentConfig", "AtSwitch", "Attached",
    "CellsAndWords", "CellsAndWordsGRU", "CheckpointError", "Continual",
    "DQNAtSwitch", "DQNConfig", "Encoded", "Network", "NonFiniteError", "Normalize", "OffPolicyConfig",
    "OneHot", "PPOConfig", "QPolicy", "RecurrentActorCritic", "RecurrentNetwork", "RecurrentPPO", "RecurrentPPOConfig",
    "ReplayAtSwitch", "SACAtSwitch", "SACConfig", "SmallCNN", "SoftActorCritic", "config_of", "encoder_for",
]  # fmt: skip
