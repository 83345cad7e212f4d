"""What happens at a switch: each setting does what it says, the defaults nothing, and what was seen survives a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_zoo import CASES, Recorder, difference, learned_state
from pydantic import ValidationError
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from neoteny import configs
from neoteny.agents import AGENTS, PPO, AtSwitch, DQNAtSwitch, ReplayAtSwitch, SACAtSwitch
from neoteny.agents.normalization import statistics

OPTIMIZERS = {"ppo": ["policy"], "dqn": ["policy"], "sac": ["actor", "critic", ""]}


def optimizers(agent: Any) -> list[Any]:
    parts = [agent if name == "" else getattr(agent, name) for name in OPTIMIZERS[agent.__class__.__name__.lower()]]
    return [part.ent_coef_optimizer if part is agent else part.optimizer for part in parts]


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac"])
def test_by_default_a_switch_changes_nothing(name: str) -> None:
    agent, same = (CASES[name].make().learn(CASES[name].steps) for _ in range(2))
    agent.on_switch()
    assert difference(learned_state(agent), learned_state(same)) is None


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac"])
def test_every_optimizer_is_reset(name: str) -> None:
    agent = CASES[name].make(at_switch={"optimizer": "reset"}).learn(CASES[name].steps)
    assert all(len(optimizer.state) for optimizer in optimizers(agent))
    weights = {k: v.clone() for k, v in agent.policy.state_dict().items()}
    agent.on_switch()
    assert [len(optimizer.state) for optimizer in optimizers(agent)] == [0] * len(OPTIMIZERS[name])
    assert difference(dict(agent.policy.state_dict()), weights) is None
    agent.learn(CASES[name].steps, reset_num_timesteps=False)
    assert all(len(optimizer.state) for optimizer in optimizers(agent))


@pytest.mark.parametrize(("given", "initial"), [("auto", 1.0), ("auto_0.25", 0.25)])
def test_sac_restarts_its_entropy_coefficient(given: str, initial: float) -> None:
    case = CASES["sac"]
    agent = case.make(ent_coef=given, at_switch={"exploration": "restart"}).learn(case.steps)
    learned = agent.log_ent_coef.item()
    assert learned != pytest.approx(math.log(initial), abs=1e-4)
    agent.on_switch()
    assert agent.log_ent_coef.item() == pytest.approx(math.log(initial), abs=1e-6)
    assert agent.log_ent_coef.requires_grad
    assert len(agent.ent_coef_optimizer.state) == 0
    assert len(agent.actor.optimizer.state) > 0
    agent.learn(case.steps, reset_num_timesteps=False)
    assert agent.log_ent_coef.item() != pytest.approx(math.log(initial), abs=1e-4)


def test_sac_restarts_its_entropy_coefficient_after_loading(tmp_path: Path) -> None:
    case = CASES["sac"]
    case.make(ent_coef="auto_0.25", at_switch={"exploration": "restart"}).learn(case.steps).save(tmp_path / "agent")
    loaded = case.ours.load(tmp_path / "agent", env=case.env)
    assert loaded.at_switch == SACAtSwitch(exploration="restart")
    loaded.on_switch()
    assert loaded.log_ent_coef.item() == pytest.approx(math.log(0.25))


def normalized(**more: Any) -> PPO:
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    return PPO("MlpPolicy", env, **CASES["ppo"].arguments(**more))


def test_normalization_is_kept_or_reset() -> None:
    for value in ("keep", "reset"):
        agent = normalized(at_switch={"normalization": value}).learn(128)
        env = agent.get_vec_normalize_env()
        assert env is not None
        before = statistics(env)
        assert before["obs_rms"]["count"] == pytest.approx(130)  # 128 steps and the reset of two environments
        agent.on_switch()
        fresh = {"mean": np.zeros(4), "var": np.ones(4), "count": 1e-4}
        assert difference(statistics(env)["obs_rms"], before["obs_rms"] if value == "keep" else fresh) is None
        assert (env.ret_rms.count == 1e-4) == (value == "reset")


def test_normalization_survives_a_file(tmp_path: Path) -> None:
    agent = normalized().learn(128)
    agent.save(tmp_path / "agent")
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=9))
    loaded = PPO.load(tmp_path / "agent", env=env, device="cpu")
    theirs = agent.get_vec_normalize_env()
    assert theirs is not None
    assert difference(statistics(env), statistics(theirs)) is None
    observation = theirs.get_original_obs()
    np.testing.assert_array_equal(env.normalize_obs(observation), theirs.normalize_obs(observation))
    env.obs_rms.update(np.ones((4, 4)))  # type: ignore[union-attr]
    assert difference(statistics(env), statistics(theirs)) is not None  # and is nobody else's
    assert PPO.load(tmp_path / "agent", env=make_vec_env("CartPole-v1", 2)).get_vec_normalize_env() is None
    assert loaded.num_timesteps == 128


def test_methods_are_told_after_the_agent_has_changed() -> None:
    seen: list[int] = []

    class Looking(Recorder):
        def on_switch(self) -> None:
            seen.append(len(agent.policy.optimizer.state))

    agent = CASES["ppo"].make(reg=Looking(), at_switch={"optimizer": "reset"}).learn(64)
    agent.on_switch()
    assert seen == [0]


# The settings -----------------------------------------------------------------------------------------------


def test_an_agent_has_the_settings_that_mean_something_to_it() -> None:
    kinds = {name: type(case.make().at_switch) for name, case in CASES.items() if name != "ppo-continuous"}
    assert kinds == {
        "ppo": AtSwitch, "a2c": AtSwitch, "dqn": DQNAtSwitch, "qrdqn": ReplayAtSwitch, "sac": SACAtSwitch,
        "recurrent-ppo": AtSwitch,
    }  # fmt: skip
    for name, agent in AGENTS.items():
        assert type(agent.Config().at_switch) is kinds[name]  # type: ignore[attr-defined]
    assert DQNAtSwitch().plain() == {
        "optimizer": "keep", "normalization": "keep", "replay": "keep", "exploration": "restart",
    }  # fmt: skip
    assert set(SACAtSwitch().plain().values()) == {"keep"}


@pytest.mark.parametrize(
    ("agent", "given", "message"),
    [
        ("ppo", {"replay": "clear"}, r"agent\.at_switch\.replay: there is no such setting; the settings here are"),
        ("dqn", {"reply": "clear"}, r"agent\.at_switch\.reply: there is no such setting.*did you mean 'replay'\?"),
        ("dqn", {"replay": "drop"}, r"agent\.at_switch\.replay: input should be 'keep' or 'clear', got 'drop'"),
        ("sac", {"exploration": 3}, r"agent\.at_switch\.exploration: .*'restart' or 'keep', got 3"),
    ],
)
def test_settings_that_cannot_be_are_named(agent: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(configs.ConfigError, match=message):
        configs.build(AGENTS[agent].Config, {"at_switch": given}, "agent")  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        CASES[agent].make(at_switch=given)
