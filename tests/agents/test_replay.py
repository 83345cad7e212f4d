"""Replay buffers: the same samples as stable-baselines3's, on disk and back, and when learning from them begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agent_zoo as zoo
import numpy as np
import pytest
from agent_zoo import CASES, difference, learned_state
from gymnasium import spaces
from safetensors import safe_open
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from neoteny.agents import DQN, CheckpointError
from neoteny.agents.replay import TensorReplay, filled, refill

MEMORY = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}


def fill(buffer: ReplayBuffer, steps: int) -> None:
    """Numbers that name their step and environment."""
    rng = np.random.default_rng(0)
    for step in range(steps):
        place = np.arange(buffer.n_envs) + 10 * step
        observations = np.broadcast_to(place[:, None, None], (buffer.n_envs, *buffer.obs_shape)).astype(np.int16)
        done = rng.random(buffer.n_envs) < 0.3
        infos = [{"TimeLimit.truncated": bool(t)} for t in done & (rng.random(buffer.n_envs) < 0.5)]
        buffer.add(observations, observations + 1, place % 5, place / 2, done, infos)


# Sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thrifty", [False, True], ids=["plain", "thrifty"])
@pytest.mark.parametrize("steps", [5, 8, 21])
@pytest.mark.parametrize("envs", [1, 3])
def test_the_same_samples_as_stable_baselines3s(envs: int, steps: int, thrifty: bool) -> None:
    settings: dict[str, Any] = {"n_envs": envs, "device": "cpu", "optimize_memory_usage": thrifty}
    settings["handle_timeout_termination"] = not thrifty
    samples = []
    for kind in (TensorReplay, ReplayBuffer):
        buffer = kind(8 * envs, spaces.Box(-999, 999, (2, 3), np.int16), spaces.Discrete(5), **settings)
        fill(buffer, steps)
        zoo.reseed(3)
        samples.append([tuple(buffer.sample(32))[:5] for _ in range(3)])
    assert difference(samples[0], samples[1]) is None


@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_normalized_samples_are_stable_baselines3s_too(name: str) -> None:
    def trained(make: Any) -> Any:
        return make(VecNormalize(make_vec_env(CASES[name].env, 1, seed=0))).learn(CASES[name].steps)

    case = CASES[name]
    ours = trained(lambda env: case.ours("MlpPolicy", env, **case.arguments(**case.to_the_bit)))
    theirs = trained(lambda env: case.stock("MlpPolicy", env, **case.arguments()))
    assert isinstance(ours.replay_buffer, TensorReplay)
    assert difference(learned_state(ours), learned_state(theirs)) is None


def test_a_sample_is_a_copy() -> None:
    buffer = TensorReplay(4, spaces.Box(-999, 999, (1, 1), np.int16), spaces.Discrete(5), device="cpu")
    fill(buffer, 4)
    sample = buffer.sample(8)
    before = sample.observations.clone()
    buffer.observations[:] = 7
    assert sample.observations.equal(before)


def test_other_kinds_of_replay_stay_what_they_are() -> None:
    assert type(CASES["dqn"].make(n_steps=3).replay_buffer) is NStepReplayBuffer
    assert type(CASES["dqn"].make(replay_buffer_class=ReplayBuffer).replay_buffer) is ReplayBuffer
    assert type(CASES["qrdqn"].make().replay_buffer) is TensorReplay


# On disk ----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", [1000, 40], ids=["filling", "full"])
@pytest.mark.parametrize("envs", [1, 2])
@pytest.mark.parametrize("memory", [{}, MEMORY], ids=["plain", "thrifty"])
@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_going_on_from_a_file_with_its_replay_is_going_on(
    name: str, memory: dict[str, Any], envs: int, size: int, tmp_path: Path
) -> None:
    """Training, saving, loading and training again gives every bit of training twice."""
    case = CASES[name]
    settings = case.arguments(buffer_size=size, **memory)
    agent = case.ours("MlpPolicy", make_vec_env(case.env, envs, seed=1), **settings).learn(60)
    agent.save(tmp_path / "agent", replay=True)
    loaded = case.ours.load(tmp_path / "agent", env=make_vec_env(case.env, envs), device="cpu")
    assert (loaded.replay_buffer.pos, loaded.replay_buffer.full) == (agent.replay_buffer.pos, size == 40)
    for branch in (agent, loaded):
        branch.set_env(make_vec_env(case.env, envs, seed=3))
        zoo.reseed(3)
        branch.action_space.seed(3)
        branch.learn(60, reset_num_timesteps=False)
    assert difference(learned_state(loaded), learned_state(agent)) is None
    assert difference(filled(loaded.replay_buffer), filled(agent.replay_buffer)) is None


def test_only_what_is_filled_is_written(tmp_path: Path) -> None:
    agent = CASES["dqn"].make(buffer_size=100_000).learn(50)
    agent.save(tmp_path / "agent", replay=True)
    with safe_open(tmp_path / "agent.safetensors", "pt") as file:
        assert file.get_slice("replay.arrays.observations").get_shape() == [51, 1, 4]
    agent.save(tmp_path / "without")
    loaded = DQN.load(tmp_path / "without", env="CartPole-v1")
    assert loaded.replay_buffer.size() == 0


def test_a_replay_of_another_shape_is_refused(tmp_path: Path) -> None:
    CASES["dqn"].make().learn(30).save(tmp_path / "agent", replay=True)
    with pytest.raises(CheckpointError, match=r"agent: the replay buffer in the file holds 1000 steps of 1 env"):
        DQN.load(tmp_path / "agent", env=make_vec_env("CartPole-v1", 2))
    with pytest.raises(CheckpointError, match=r"this agent's 500 of 1 "):
        DQN.load(tmp_path / "agent", env="CartPole-v1", buffer_size=500)


def test_dict_observations_are_written_too() -> None:
    settings: dict[str, Any] = {"buffer_size": 20, "learning_starts": 5, "device": "cpu", "seed": 0}
    agent = DQN("MultiInputPolicy", DummyVecEnv([SimpleMultiObsEnv]), **settings).learn(12)
    state = filled(agent.replay_buffer)
    assert "observations.vec" in state["arrays"]
    other = DQN("MultiInputPolicy", DummyVecEnv([SimpleMultiObsEnv]), **settings)
    refill(other.replay_buffer, state)
    assert difference(filled(other.replay_buffer), state) is None


# When learning begins ---------------------------------------------------------------------------------------


def updates(agent: Any, steps: int) -> list[int]:
    """``_n_updates`` as every further step begins."""
    seen: list[int] = []
    agent.learn(steps, callback=lambda *_: seen.append(agent._n_updates) or True, reset_num_timesteps=False)
    return seen


def test_after_clearing_learning_waits_for_new_steps() -> None:
    """SAC with learning_starts 20 updates first after its 21st step; after clearing at 30, after the 51st."""
    agent = CASES["sac"].make(at_switch={"replay": "clear"})
    assert updates(agent, 30) == [0] * 21 + list(range(1, 10))
    agent.on_switch()
    assert agent.replay_buffer.size() == 0
    assert updates(agent, 30) == [10] * 21 + list(range(11, 20))
    agent.on_switch()
    agent.on_switch()
    assert updates(agent, 30) == [20] * 21 + list(range(21, 30))


def test_a_kept_replay_is_learned_from_at_once() -> None:
    agent = CASES["sac"].make()
    updates(agent, 30)
    agent.on_switch()
    assert updates(agent, 5) == [10, 11, 12, 13, 14]


def test_a_fresh_agent_in_the_midst_of_a_run_waits_too() -> None:
    agent = CASES["sac"].make()
    agent.num_timesteps = 500
    assert updates(agent, 30) == [0] * 21 + list(range(1, 10))


def test_waiting_survives_a_file(tmp_path: Path) -> None:
    agent = CASES["sac"].make(at_switch={"replay": "clear"})
    updates(agent, 30)
    agent.on_switch()
    updates(agent, 10)
    agent.save(tmp_path / "agent", replay=True)
    loaded = CASES["sac"].ours.load(tmp_path / "agent", env=CASES["sac"].env, device="cpu")
    assert updates(loaded, 20) == [10] * 11 + list(range(11, 20))
    loaded.on_switch()
    assert updates(loaded, 25) == [20] * 21 + [21, 22, 23, 24]


def test_starting_over_is_stable_baselines3s() -> None:
    case = CASES["sac"]
    ours = case.make(**case.to_the_bit).learn(30).learn(40)
    theirs = case.make_stock().learn(30).learn(40)
    assert difference(learned_state(ours), learned_state(theirs)) is None
