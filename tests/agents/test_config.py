"""Configurations: every YAML makes an agent, and an agent of one's own needs a dataclass and a class."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sb3_contrib
from gymnasium import spaces
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from neoteny import configs
from neoteny.agents import AGENTS, AgentConfig, Continual, Encoded, Network, ReplayAtSwitch
from neoteny.plasticity import L2Init

FILES = sorted((configs.FOLDER / "agents").glob("*.yaml"))


def built(name: str) -> tuple[type[Continual], Any]:
    _, data = configs.load("agents", name)
    cls = AGENTS[data.pop("algorithm")]
    return cls, configs.build(cls.Config, data, "agent")  # type: ignore[attr-defined]


def environment(name: str, num_envs: int) -> VecEnv:
    if name.endswith("procgen"):
        return DummyVecEnv([lambda: FakeImageEnv(screen_height=64, screen_width=64, n_channels=3)] * num_envs)
    if name.endswith(("atari", "vizdoom")):
        return DummyVecEnv([lambda: FakeImageEnv(screen_height=84, screen_width=84, n_channels=4)] * num_envs)
    return make_vec_env("Pendulum-v1" if name.startswith("sac") else "CartPole-v1", num_envs)


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_every_yaml_makes_an_agent(name: str) -> None:
    cls, config = built(name)
    env = environment(name, config.num_envs)
    agent: Any = cls(env=env, reg=L2Init(heads="include"), seed=0, device="cpu", **config.arguments())
    for field in dataclasses.fields(config):
        if field.name not in ("network", "num_envs", "normalize", "optimizer", "clip_range", "train_freq"):
            assert getattr(agent, field.name) == getattr(config, field.name), field.name
    frequency = agent.n_steps if "ppo" in name else agent.train_freq.frequency
    assert config.rollout_length == frequency


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_yaml_says_where_it_comes_from(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert built(path.stem)[1].num_envs >= 1


@pytest.mark.parametrize("name", AGENTS)
def test_what_is_the_runners_is_no_argument_of_the_algorithm(name: str) -> None:
    arguments = AGENTS[name].Config().arguments()  # type: ignore[attr-defined]
    assert not {"num_envs", "normalize", "network", "optimizer"} & arguments.keys()
    assert {"policy", "policy_kwargs", "at_switch", "learning_rate", "gamma"} <= arguments.keys()


@pytest.mark.parametrize("name", AGENTS)
def test_normalization_is_off_unless_asked_for(name: str) -> None:
    default = AGENTS[name].Config()  # type: ignore[attr-defined]
    assert dataclasses.astuple(default.normalize) == (False, False)
    assert dataclasses.astuple(built("ppo-mujoco")[1].normalize) == (True, True)


# One's own --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, config={"extra": "forbid"}, kw_only=True)
class QuantileConfig(AgentConfig):
    """Settings of an agent that is not ours."""

    train_freq: PositiveInt = 2
    learning_starts: PositiveInt = 10
    buffer_size: PositiveInt = 100
    at_switch: ReplayAtSwitch = ReplayAtSwitch(replay="clear")

    @property
    def rollout_length(self) -> int:
        return self.train_freq


class Quantiles(Continual, sb3_contrib.QRDQN):
    Config: ClassVar[type] = QuantileConfig


class EncodedQuantiles(Encoded, sb3_contrib.qrdqn.policies.QRDQNPolicy):
    pass


def test_an_agent_of_ones_own(tmp_path: Path) -> None:
    config = configs.build(QuantileConfig, {"network": {"hidden": [8]}, "num_envs": 2}, "agent")
    agent = Quantiles(env=make_vec_env("CartPole-v1", config.num_envs), **config.arguments(), device="cpu", seed=0)
    agent.begin_task(40)
    agent.learn(40)
    assert agent.exploration_rate == agent.exploration_final_eps
    assert agent._n_updates > 0
    agent.save(tmp_path / "agent", replay=True)
    loaded = Quantiles.load(tmp_path / "agent", env=make_vec_env("CartPole-v1", 2))
    assert loaded.replay_buffer.size() == 20
    loaded.on_switch()
    assert loaded.replay_buffer.size() == 0
    assert loaded.at_switch == config.at_switch


def test_a_policy_of_ones_own_gets_its_encoder_by_space() -> None:
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=3)
    settings = dataclasses.replace(QuantileConfig(), network=Network(hidden=())).arguments()
    agent = Quantiles(env=env, **settings | {"policy": EncodedQuantiles}, device="cpu")
    assert type(agent.quantile_net.features_extractor).__name__ == "NatureCNN"
    assert isinstance(agent.action_space, spaces.Discrete)
