"""Settings read off an algorithm's constructor."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from neoteny import configs
from neoteny.agents import AGENTS, ActorCritic, Continual, ReplayAtSwitch, config_of
from neoteny.configs import ConfigError
from neoteny.plasticity import Spectral

ALGORITHMS = [
    sb3.A2C, sb3.PPO, sb3.DQN, sb3.SAC, sb3.TD3, sb3.DDPG, sb3_contrib.QRDQN, sb3_contrib.TQC, sb3_contrib.TRPO,
    sb3_contrib.CrossQ, sb3_contrib.RecurrentPPO, sb3_contrib.MaskablePPO,
]  # fmt: skip


def continual(algorithm: type) -> type[Continual]:
    return type(f"My{algorithm.__name__}", (Continual, algorithm), {})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_plain_argument_is_a_setting_with_the_algorithms_own_default(algorithm: type) -> None:
    config = config_of(continual(algorithm))()
    elsewhere = {"seed", "verbose", "stats_window_size", "tensorboard_log", "device", "_init_setup_model"}
    for name, parameter in inspect.signature(algorithm).parameters.items():
        if isinstance(parameter.default, (int, float, str)) and name not in elsewhere:
            assert getattr(config, name) == parameter.default, name
    assert config.optimizer is None
    assert config.rollout_length == getattr(config, "train_freq", None) or config.n_steps  # type: ignore[attr-defined]


DISCRETE = (sb3.A2C, sb3.PPO, sb3.DQN, sb3_contrib.QRDQN, sb3_contrib.TRPO, sb3_contrib.RecurrentPPO)
SMALL = {"buffer_size": 500, "learning_starts": 20, "batch_size": 16, "n_steps": 16, "network": {"hidden": [8]}}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("algorithm", ALGORITHMS[:-1])
def test_it_trains(algorithm: type) -> None:
    cls = continual(algorithm)
    known = {name: value for name, value in SMALL.items() if name in configs.fields(config_of(cls))}
    if "buffer_size" in known:
        del known["n_steps"]  # there: of n-step returns
    config = configs.build(config_of(cls), known, "agent")
    env = make_vec_env("CartPole-v1" if algorithm in DISCRETE else "Pendulum-v1", config.num_envs)
    agent = cls(env=env, **config.arguments(), seed=0, device="cpu")
    agent.learn(64)
    assert agent.num_timesteps >= 64
    assert (agent.replay_buffer.size() if "buffer_size" in known else agent.rollout_buffer.pos) > 0


def test_an_algorithm_keeps_its_own_optimizer_unless_told_otherwise() -> None:
    cls = continual(sb3.A2C)
    assert config_of(cls).policy is ActorCritic
    own = cls(env="CartPole-v1", **config_of(cls)().arguments())
    assert isinstance(own.policy.optimizer, torch.optim.RMSprop)
    config: Any = configs.build(config_of(cls), {"optimizer": "trac"}, "agent")
    assert type(cls(env="CartPole-v1", **config.arguments()).policy.optimizer).__name__ == "TRAC"


def optimizers(agent: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """The kind and the settings of every optimizer of an agent, without those of how torch runs it."""
    found = {name: value for name, value in vars(agent).items() if isinstance(value, torch.optim.Optimizer)}
    modules = [("", agent.policy), *agent.policy.named_children()]
    found |= {name: module.optimizer for name, module in modules if hasattr(module, "optimizer")}
    return {
        name: (type(o).__name__, {k: v for k, v in o.defaults.items() if k not in ("fused", "foreach")})
        for name, o in found.items()
    }


def environment(algorithm: type) -> str:
    return "CartPole-v1" if algorithm in (*DISCRETE, sb3_contrib.MaskablePPO) else "Pendulum-v1"


EVERY_AGENT = [*map(continual, ALGORITHMS), *AGENTS.values()]


@pytest.mark.parametrize("cls", EVERY_AGENT)
def test_optimizers_are_those_of_the_stock_agent(cls: type[Continual]) -> None:
    """Of an agent made from its default configuration, and of the algorithm with no more than its learning rate."""
    config: Any = config_of(cls)()
    algorithm: Any = next(base for base in cls.__mro__ if base.__module__.startswith(("stable_baselines3", "sb3_c")))
    env = environment(algorithm)
    small = {"buffer_size": 100} if "buffer_size" in configs.fields(type(config)) else {}
    ours: Any = cls(env=env, **config.arguments() | small)
    stock = algorithm("MlpLstmPolicy" if "Recurrent" in algorithm.__name__ else "MlpPolicy", env,
                      learning_rate=config.learning_rate, **small)  # fmt: skip
    assert optimizers(ours) == optimizers(stock)


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if issubclass(a, OnPolicyAlgorithm)])
def test_adam_without_its_epsilon_is_that_of_the_policy_and_ones_own_wins(algorithm: type) -> None:
    cls = continual(algorithm)

    def eps(**settings: Any) -> float:
        config: Any = configs.build(config_of(cls), {"optimizer": {"name": "adam", **settings}}, "agent")
        assert configs.build(config_of(cls), {"optimizer": dataclasses.asdict(config.optimizer)}, "agent") == config
        found: float = cls(env="CartPole-v1", **config.arguments()).policy.optimizer.defaults["eps"]
        return found

    assert eps() == eps(betas=[0.9, 0.9]) == 1e-5
    assert eps(eps=1e-8) == 1e-8
    assert eps(eps=1e-3, betas=[0.9, 0.9]) == 1e-3


class Louder(Continual, sb3_contrib.QRDQN):
    def __init__(self, *args: Any, loudness: float = 2.0, **kwargs: Any):
        self.loudness = loudness
        super().__init__(*args, **kwargs)


def test_arguments_of_ones_own_are_settings_too() -> None:
    config: Any = configs.build(config_of(Louder), {"loudness": 3, "batch_size": 64}, "agent")
    assert (config.loudness, config.batch_size, type(config.at_switch)) == (3.0, 64, ReplayAtSwitch)
    assert Louder(env="CartPole-v1", **config.arguments()).loudness == 3.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loudnes": 1}, r"agent\.loudnes: there is no such setting.*did you mean 'loudness'"),
        ({"learning_rate": -1}, r"agent\.learning_rate: .*greater than 0"),
        ({"train_freq": "often"}, r"agent\.train_freq"),
    ],
)
def test_wrong_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configs.build(config_of(Louder), given, "agent")


def test_who_neither_collects_rollouts_nor_replays_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"MyARS is neither on-policy nor off-policy"):
        config_of(continual(sb3_contrib.ARS))


def test_numpy_scalars_of_an_algorithm_are_saved(tmp_path: Path) -> None:
    cls = continual(sb3_contrib.TQC)
    agent: Any = cls("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]})
    agent.save(tmp_path / "agent")
    loaded: Any = cls.load(tmp_path / "agent")
    assert loaded.target_entropy == agent.target_entropy == -1


def test_methods_need_an_optimizer() -> None:
    with pytest.raises(ValueError, match="MyARS learns without an optimizer"):
        continual(sb3_contrib.ARS)("LinearPolicy", "CartPole-v1", reg=Spectral())
