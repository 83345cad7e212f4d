"""Anybody's agents on ``neoteny/*``: for 20,000 steps over two switches, the right task at the right time."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import wrappers
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

import neoteny.envs  # noqa: F401  (registers neoteny/*)

POLE = "neoteny/cartpole-dynamics-v0"
STEPS, BUDGET, COUNT = 20_000, 8_001, 8
#: Of each copy: 8,001 environment steps are 1,001 of eight copies, since no task loses a step.
EACH = 1_001


def plan(count: int, total: int = STEPS) -> list[int]:
    """The task of each step of one of ``count`` environments."""
    each = -(-BUDGET // count)
    return [step // each for step in range(total // count)]


class Tasks(BaseCallback):
    """Takes down ``info["task"]`` of each step, and at which ones all episodes end."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []
        self.cuts: list[int] = []

    def _on_step(self) -> bool:
        self.seen.append([info["task"] for info in self.locals["infos"]])
        if self.locals["dones"].all():
            self.cuts.append(len(self.seen))
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "count", "settings"),
    [
        (sb3.PPO, COUNT, {"n_steps": 125, "batch_size": 250, "n_epochs": 2}),
        pytest.param(sb3.DQN, 1, {"train_freq": 20}, marks=pytest.mark.full),
        pytest.param(sb3_contrib.TRPO, COUNT, {"n_steps": 125, "batch_size": 250}, marks=pytest.mark.full),
        pytest.param(
            sb3_contrib.QRDQN,
            COUNT,
            {"train_freq": 20},
            marks=pytest.mark.full,
        ),
    ],
)
def test_stock_agents_meet_the_right_task_at_the_right_time(make: Any, count: int, settings: Any) -> None:
    env = make_vec_env(POLE, count, seed=3, env_kwargs={"copies": count, "steps_per_task": BUDGET, "num_tasks": 3})
    tasks = Tasks()
    make("MlpPolicy", env, seed=0, device="cpu", **settings).learn(STEPS, callback=tasks)
    assert tasks.seen == [[task] * count for task in plan(count)]
    each = -(-BUDGET // count)
    assert {each, 2 * each} <= set(tasks.cuts)
    env.close()


def learner(env: Any, total: int) -> list[tuple[Any, Any]]:
    """Actor-critic as CleanRL writes it: one page, on a Gymnasium vector. Gives (info, dones) of each step."""
    torch.manual_seed(0)
    width, actions = env.single_observation_space.shape[0], int(env.single_action_space.n)
    net = nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, actions + 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-5)
    out, n = [], env.num_envs
    observations, _ = env.reset(seed=1)
    for _ in range(total // n // 20):
        logs, values, rewards, dones = [], [], [], []
        for _ in range(20):
            *logits, value = net(torch.as_tensor(observations, dtype=torch.float32)).split(1, dim=1)
            policy = torch.distributions.Categorical(logits=torch.cat(logits, 1))
            action = policy.sample()
            observations, reward, terminated, truncated, info = env.step(action.numpy())
            out.append((info, terminated | truncated))
            logs.append(policy.log_prob(action))
            values.append(value[:, 0])
            rewards.append(torch.as_tensor(reward, dtype=torch.float32))
            dones.append(torch.as_tensor(terminated | truncated, dtype=torch.float32))
        with torch.no_grad():
            goal = net(torch.as_tensor(observations, dtype=torch.float32))[:, -1]
        loss = torch.zeros(())
        for log, value, reward, done in zip(*(x[::-1] for x in (logs, values, rewards, dones)), strict=True):
            goal = reward + 0.99 * (1 - done) * goal
            loss = loss + ((goal - value) ** 2).mean() * 0.5 - (log * (goal - value).detach()).mean()
        optimizer.zero_grad()
        (loss / 20).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    return out


SETTINGS = {"steps_per_task": BUDGET, "num_tasks": 3}


@pytest.mark.slow
def test_a_page_of_code_on_our_vector() -> None:
    env = wrappers.vector.RecordEpisodeStatistics(gym.make_vec(POLE, COUNT, "vector_entry_point", **SETTINGS))
    steps = learner(env, STEPS)
    assert [info["task"].tolist() for info, _ in steps] == [[task] * COUNT for task in plan(COUNT)]
    assert steps[EACH - 1][1].all()
    assert steps[2 * EACH - 1][1].all()
    assert sum("episode" in info for info, _ in steps) > 100


@pytest.mark.full
@pytest.mark.slow
def test_a_page_of_code_on_copies_that_are_reset_in_the_same_step() -> None:
    env = copies(gym.vector.AutoresetMode.SAME_STEP)
    steps = learner(env, STEPS)
    # where an episode ends, the info is of the next one and that of the step is in final_info
    seen = [np.where(done, info["final_info"]["task"] if done.any() else 0, info["task"]) for info, done in steps]
    assert [tasks.tolist() for tasks in seen] == [[task] * COUNT for task in plan(COUNT)]


@pytest.mark.full
@pytest.mark.slow
def test_a_page_of_code_on_copies_that_are_reset_in_the_next_step() -> None:
    """A step that only resets is not a step of the environment: each copy switches after its own 1,001 steps."""
    env = copies(gym.vector.AutoresetMode.NEXT_STEP)
    steps = learner(env, STEPS + 4_000)
    resets = np.array([np.zeros(COUNT, bool)] + [done for _, done in steps[:-1]])
    tasks = np.array([info["task"] for info, _ in steps])
    for i in range(COUNT):
        own = tasks[~resets[:, i], i]
        assert own.tolist() == np.minimum(np.arange(len(own)) // EACH, 2).tolist()
        assert own[-1] == 2


def copies(mode: gym.vector.AutoresetMode) -> gym.vector.SyncVectorEnv:
    def make() -> Any:
        return wrappers.RecordEpisodeStatistics(gym.make(POLE, copies=COUNT, **SETTINGS))

    return gym.vector.SyncVectorEnv([make] * COUNT, autoreset_mode=mode)
