"""DQN: double Q-learning by hand, exploration per environment and per task, and what it refuses."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from agent_zoo import CASES, difference, learned_state
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from neoteny.agents import DQN, SAC, DQNConfig
from neoteny.agents.dqn import DoubleTarget


class Fixed(nn.Module):
    """The same values for every batch."""

    def __init__(self, values: list[list[float]]):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, _: Tensor) -> Tensor:
        return self.values


def make(**more: Any) -> DQN:
    return CASES["dqn"].make(**more)


# Double Q-learning ------------------------------------------------------------------------------------------


def test_the_online_network_chooses_and_the_target_network_values() -> None:
    online = Fixed([[1.0, 3.0, 2.0], [9.0, 0.0, 5.0]])
    target = Fixed([[10.0, 20.0, 30.0], [-4.0, 40.0, 50.0]])
    assert DoubleTarget(online, target)(torch.zeros(2)).tolist() == [[20.0], [-4.0]]


def test_the_loss_is_that_of_double_q_learning() -> None:
    """r + γ(1 − done) Q_target(s', argmax Q_online(s')), worked out from the two networks and what was replayed."""
    agent = make(double=True, target_update_interval=1000, gamma=0.5).learn(60)
    with torch.no_grad():
        for parameter in agent.policy.q_net_target.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))  # so that the two disagree on what is best
    seen: list[Any] = []
    sample = agent.replay_buffer.sample
    agent.replay_buffer.sample = lambda *a, **k: seen.append(sample(*a, **k)) or seen[-1]  # type: ignore[func-returns-value]
    online, target = (
        {k: v.clone() for k, v in net.state_dict().items()} for net in (agent.q_net, agent.policy.q_net_target)
    )
    agent.train(gradient_steps=1, batch_size=16)
    agent.q_net.load_state_dict(online)
    agent.policy.q_net_target.load_state_dict(target)
    (batch,) = seen
    with torch.no_grad():
        after, chosen = agent.policy.q_net_target(batch.next_observations), agent.q_net(batch.next_observations)
        rows = torch.arange(16)
        double = after[rows, chosen.argmax(1)]
        plain = after.max(1).values
        taken = agent.q_net(batch.observations)[rows, batch.actions[:, 0]]
        losses = [
            nn.functional.smooth_l1_loss(taken, batch.rewards[:, 0] + 0.5 * (1 - batch.dones[:, 0]) * value).item()
            for value in (double, plain)
        ]
    assert agent.logger.name_to_value["train/loss"] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_double_changes_no_name_and_survives_a_file(tmp_path: Any) -> None:
    double, single = make(double=True), make()
    assert list(double.policy.state_dict()) == list(single.policy.state_dict())
    assert difference(learned_state(double), learned_state(single)) is None
    double.learn(60)
    assert difference(learned_state(double), learned_state(single.learn(60))) is not None
    double.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", env="CartPole-v1", device="cpu")
    assert isinstance(loaded.q_net_target, DoubleTarget)
    assert loaded.double is True
    assert difference(learned_state(loaded), learned_state(double)) is None


def test_the_target_network_moves_by_polyak_averaging() -> None:
    agent = make(double=True, tau=0.25, target_update_interval=1, learning_rate=0.1).learn(30)
    before = [p.clone() for p in agent.policy.q_net_target.parameters()]
    agent._on_step()
    pairs = zip(before, agent.q_net.parameters(), agent.policy.q_net_target.parameters(), strict=True)
    for old, online, new in pairs:
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online)
        assert not torch.equal(old, online)


# Exploration ------------------------------------------------------------------------------------------------


def test_environments_explore_each_on_its_own() -> None:
    agent = DQN("MlpPolicy", make_vec_env("CartPole-v1", 4), seed=0, device="cpu", buffer_size=100)
    observations = np.tile(np.array([0.1, 0.0, 0.1, 0.0], np.float32), (4, 1))
    greedy, _ = agent.predict(observations, deterministic=True)
    agent.exploration_rate = 0.5
    mixed = 0
    for _ in range(100):
        other = agent.predict(observations)[0] != greedy
        mixed += other.sum() == 1  # of 4: at 27/64, each being another one with probability 1/4
    assert mixed > 30
    agent.exploration_rate = 0.0
    np.testing.assert_array_equal(agent.predict(observations)[0], greedy)


def test_those_that_explore_are_those_that_were_drawn() -> None:
    agent = DQN("MlpPolicy", make_vec_env("CartPole-v1", 8), seed=0, device="cpu", buffer_size=100)
    observations = agent.env.reset()
    greedy, _ = agent.predict(observations, deterministic=True)
    agent.exploration_rate = 0.5
    agent.action_space.sample = lambda: 7  # type: ignore[method-assign]  # no action of its own
    np.random.seed(5)  # noqa: NPY002
    draws = np.random.rand(8) < 0.5  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert agent.predict(observations)[0].tolist() == np.where(draws, 7, greedy).tolist()
    assert 0 < draws.sum() < 8


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_one_environment_explores_as_in_stable_baselines3(rate: float) -> None:
    ours, theirs = make(), CASES["dqn"].make_stock()
    taken = []
    for agent in (ours, theirs):
        agent.set_random_seed(3)
        agent.exploration_rate = rate
        taken.append([agent.predict(np.zeros((1, 4), np.float32))[0] for _ in range(50)])
        taken[-1] += [np.random.rand(), agent.predict(np.zeros(4, np.float32))[0]]  # noqa: NPY002
    assert difference(taken[0], taken[1]) is None


def explored(agent: DQN, steps: int) -> list[float]:
    """ε after each of so many further steps."""
    seen: list[float] = []
    agent.learn(steps, callback=lambda *_: seen.append(agent.exploration_rate) or True, reset_num_timesteps=False)
    return [*seen[1:], agent.exploration_rate]


EXPLORING = {"exploration_fraction": 0.5, "exploration_initial_eps": 1.0, "exploration_final_eps": 0.2}


def test_exploration_follows_the_task_and_not_the_call() -> None:
    """20 steps of falling from 1 to 0.2 and 20 at 0.2, however they are divided among calls, and again."""
    agent = make(**EXPLORING)
    expected = [1 - 0.8 * min(step / 20, 1) for step in range(1, 41)]
    for _ in range(2):
        agent.begin_task(40)
        assert agent.exploration_rate == 1.0
        epsilon = explored(agent, 10) + explored(agent, 30)
        np.testing.assert_allclose(epsilon, expected)
    assert agent.num_timesteps == 80
    np.testing.assert_allclose(explored(agent, 4), 0.2)  # a task that goes on longer than was said


def test_exploration_may_be_kept() -> None:
    agent = make(at_switch={"exploration": "keep"}, **EXPLORING)
    agent.begin_task(40)
    first = explored(agent, 40)
    assert first[0] > 0.9
    agent.on_switch()
    agent.begin_task(40)
    np.testing.assert_allclose(explored(agent, 40), 0.2)


def test_without_tasks_exploration_is_stable_baselines3s() -> None:
    ours, theirs = make(**EXPLORING), CASES["dqn"].make_stock(**EXPLORING)
    for agent in (ours, theirs):
        agent.learn(20)
        agent.learn(20, reset_num_timesteps=False)
    assert explored(ours, 20) == explored(theirs, 20)


@pytest.mark.parametrize("kept", ["restart", "keep"])
def test_the_task_survives_a_file(kept: str, tmp_path: Any) -> None:
    agent = make(at_switch={"exploration": kept}, **EXPLORING)
    agent.begin_task(20)
    agent.learn(20, reset_num_timesteps=False)
    agent.begin_task(40)
    agent.learn(10, reset_num_timesteps=False)
    agent.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", env="CartPole-v1", device="cpu")
    assert loaded.at_switch == agent.at_switch
    assert loaded.exploration_rate == agent.exploration_rate
    assert explored(loaded, 30) == explored(agent, 30)


# What it cannot do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "env_id", "message"),
    [
        (DQN, "Pendulum-v1", r"dqn needs Discrete actions, the tasks have Box\(.*; choose sac or ppo"),
        (SAC, "CartPole-v1", r"sac needs Box actions, the tasks have Discrete\(2\); choose dqn or ppo"),
    ],
)
def test_actions_of_another_kind_are_refused(algorithm: Any, env_id: str, message: str) -> None:
    settings = algorithm.Config().arguments()
    for env in (gym.make(env_id), DummyVecEnv([lambda: gym.make(env_id)])):
        with pytest.raises(ValueError, match=message):
            algorithm(env=env, **settings)


def test_every_setting_reaches_stable_baselines3() -> None:
    config = DQNConfig(
        learning_rate=0.125, gamma=0.5, buffer_size=77, learning_starts=66, batch_size=55, tau=0.25, train_freq=3,
        gradient_steps=2, target_update_interval=44, exploration_fraction=0.375, exploration_initial_eps=0.75,
        exploration_final_eps=0.0625, max_grad_norm=0.875, double=False,
    )  # fmt: skip
    agent = DQN(env="CartPole-v1", **config.arguments(), device="cpu")
    arguments = {k: v for k, v in config.arguments().items() if k not in ("policy", "policy_kwargs", "train_freq")}
    assert {name: getattr(agent, name) for name in arguments} == arguments
    assert agent.train_freq.frequency == config.rollout_length == 3
    assert isinstance(agent.q_net_target, sb3.dqn.policies.QNetwork)


@pytest.mark.parametrize("closed_form", [True, False])
def test_actions_are_those_of_the_policy(closed_form: bool) -> None:
    """Also after a layer was replaced between two updates, and for what is no batch of observations."""
    env = make_vec_env("CartPole-v1", 6)
    agent = DQN("MlpPolicy", env, closed_form=closed_form, seed=0, device="cpu", learning_starts=50).learn(100)
    agent.exploration_rate = 0.0
    seen = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32) * 3
    for seed in range(2):
        before = agent.q_net.q_net[-1]
        agent.q_net.q_net[-1] = layer = nn.Linear(before.in_features, 2, bias=True)
        slope = torch.randn(1, before.in_features, generator=torch.Generator().manual_seed(seed))
        layer.weight.data, layer.bias.data = torch.cat([slope, -slope]), torch.zeros(2)
        expected, _ = agent.policy.predict(seen, deterministic=True)
        assert agent.predict(seen)[0].tolist() == expected.tolist()
        assert {*expected.tolist()} == {0, 1}
    assert agent.predict(seen[0])[0].shape == ()
    with pytest.raises(ValueError, match="observation"):
        agent.predict(seen[:, :3])
