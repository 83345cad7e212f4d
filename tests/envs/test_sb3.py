"""Sequences under stable-baselines3."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from counting_env import GO, ID, TRUNCATE, sequence
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from neoteny.envs import ContinualVecEnv


class Rollouts(BaseCallback):
    """Keeps a copy of what each rollout held before training on it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, np.ndarray]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        self.kept.append(
            {key: getattr(buffer, key).copy() for key in ("observations", "actions", "rewards", "episode_starts")}
        )


def test_ppo_bootstraps_truncated_episodes_and_no_others() -> None:
    """With a critic that says 5 everywhere, a truncated step's reward is raised by 0.9 · 5, any other's is as given."""
    count, steps = 2, 64
    env = ContinualVecEnv(sequence(ID, ID, steps=40), count)
    model = PPO("MlpPolicy", env, n_steps=steps, batch_size=32, n_epochs=1, gamma=0.9, seed=0, device="cpu")
    torch.nn.init.zeros_(model.policy.value_net.weight)
    torch.nn.init.constant_(model.policy.value_net.bias, 5.0)
    rollouts = Rollouts()
    model.learn(2 * count * steps, callback=rollouts)
    rollout = rollouts.kept[0]
    actions = rollout["actions"][..., 0]
    plain = rollout["observations"][..., 2] + 1 + actions / 10  # the reward: step + action / 10
    truncated = actions == TRUNCATE
    truncated[40 // count - 1] |= actions[40 // count - 1] == GO  # the switch cuts what runs
    np.testing.assert_allclose(rollout["rewards"], plain + 0.9 * 5.0 * truncated, rtol=1e-6)
    ended = (actions != GO) | truncated
    np.testing.assert_array_equal(rollout["episode_starts"][1:], ended[:-1])
    assert 0 < truncated.sum() < ended.sum() < ended.size
    assert model.ep_info_buffer


def test_ppo_learns_across_minigrid_switches() -> None:
    tasks = ("MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0")
    env = ContinualVecEnv(sequence(*tasks, steps=64, cycles=2), num_envs=4)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=32, n_epochs=1, seed=0, device="cpu")
    rollouts = Rollouts()
    model.learn(8 * 32, callback=rollouts)
    assert env.segment.index == 3
    starts = [bool(rollout["episode_starts"][0].all()) for rollout in rollouts.kept]
    assert starts == [True, False] * 4  # a switch after every second rollout: 64 steps


def test_vec_env_answers_what_wrappers_ask() -> None:
    env = ContinualVecEnv(sequence(ID), num_envs=3)
    assert env.render_mode is None
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    assert env.get_attr("run_seed", indices=[0, 2]) == [0, 0]
    env.reset()
    env.close()
    env.close()
