"""Anybody's wrappers and agents on ``neoteny/*``: what they see, and the right task at the right time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from counting_env import GO, ID, TERMINATE
from gymnasium import wrappers
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from neoteny.envs import ConfigError, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.registration import ContinualEnv
from neoteny.envs.shifts import OffsetObservation

GRID, POLE = "neoteny/minigrid-seq-v0", "neoteny/cartpole-dynamics-v0"


@pytest.fixture
def counting(tmp_path: Path) -> str:
    """A file with two visits of 16 steps each."""
    file = tmp_path / "counting.yaml"
    file.write_text(json.dumps({"tasks": [{"env": ID, "steps": 16}], "cycles": 2}))
    return str(file)


def vector(name: str, num_envs: int, **kwargs: Any) -> Any:
    return gym.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)


# -------------------------------------------------------------------------------------------------------- info


def test_info_says_the_task_at_every_step_and_the_return_at_an_end(counting: str) -> None:
    env = ContinualEnv(preset=counting)
    env.reset()
    place = {"task": 0, "env_id": ID, "task_id": 0}
    assert env.step(GO)[-1] == place
    whole = {"return": pytest.approx(1 + 2.1), "length": 2, "score": pytest.approx(1 + 2.1), "game_length": 2}
    assert env.step(TERMINATE)[-1] == place | whole
    env.reset()
    infos = [env.step(GO)[-1] for _ in range(14)]
    assert infos == [place] * 14  # an episode cut by the switch has no return
    assert env.reset()[1] == place | {"task": 1}


# ---------------------------------------------------------------------------------------------------- wrappers


def test_record_episode_statistics_of_one_environment() -> None:
    env = wrappers.RecordEpisodeStatistics(gym.make(GRID, seed=0, steps_per_task=300))
    env.action_space.seed(0)
    env.reset()
    ends = [info for *_, info in (step_or_reset(env) for _ in range(900)) if "return" in info]
    assert len(ends) >= 3
    for info in ends:
        assert (info["episode"]["r"], info["episode"]["l"]) == (pytest.approx(info["return"]), info["length"])


def step_or_reset(env: Any) -> Any:
    out = env.step(env.action_space.sample())
    if out[2] or out[3]:
        env.reset()
    return out


def test_record_episode_statistics_of_a_vector() -> None:
    env = wrappers.vector.RecordEpisodeStatistics(vector(GRID, 4, seed=0, steps_per_task=1200))
    env.action_space.seed(0)
    env.reset()
    ends = 0
    for _ in range(900):
        info = env.step(env.action_space.sample())[-1]
        for i in np.flatnonzero(info.get("_return", False)):
            assert info["episode"]["r"][i] == pytest.approx(info["return"][i])
            assert info["episode"]["l"][i] == info["length"][i]
            ends += 1
    assert ends >= 3
    assert info["task"].tolist() == [2] * 4


def test_normalize_observation_across_a_switch() -> None:
    env = wrappers.NormalizeObservation(gym.make(POLE, seed=0, steps_per_task=500))
    env.action_space.seed(0)
    seen = [env.reset()[0]] + [step_or_reset(env)[0] for _ in range(1000)]
    assert np.abs(np.mean(seen[500:], 0)).max() < 1
    assert np.std(seen[500:], 0) == pytest.approx(np.ones(4), abs=0.6)


def test_normalize_observation_of_a_vector_of_copies() -> None:
    """Gymnasium's wrapper of vectors asks for resets in the next step, which copies behind its SyncVectorEnv have."""
    env = wrappers.vector.NormalizeObservation(gym.make_vec(POLE, 4, "sync", copies=4, steps_per_task=400))
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(300):
        observations, *_, info = env.step(env.action_space.sample())
    assert np.isfinite(observations).all()
    assert info["task"].tolist() == [2] * 4
    with pytest.raises(ValueError, match="NEXT_STEP"):
        wrappers.vector.NormalizeObservation(vector(POLE, 4))


# ------------------------------------------------------------------------------------------------------- frames


def test_frames_are_those_of_the_environment_itself(tmp_path: Path) -> None:
    """Gymnasium's own CartPole, told the same, shows the same picture at every step: the last one of each episode."""
    file = tmp_path / "pole.yaml"
    file.write_text(json.dumps({"tasks": [{"env": "CartPole-v1", "steps": 60, "backend": "gymnasium"}], "cycles": 2}))
    env = ContinualEnv(preset=str(file), render_mode="rgb_array")
    plain = gym.make("CartPole-v1", render_mode="rgb_array")
    env.action_space.seed(0)
    ours, theirs = env.reset()[0], plain.reset(seed=env._vector.segment.seed(0))[0]
    for step in range(1, 121):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(env.render(), plain.render())
        action = env.action_space.sample()
        ours, _, *ends, _ = env.step(action)
        theirs = plain.step(action)[0]
        if any(ends):
            np.testing.assert_array_equal(env.render(), plain.render())
            ours = env.reset()[0]
            theirs = plain.reset(seed=env._vector.segment.seed(0) if step == 60 else None)[0]


@pytest.mark.parametrize("preset", ["minigrid-seq", "minigrid-mg10", "minatar-seq-small", "pendulum-gravity"])
def test_presets_are_seen_and_recorded(preset: str, tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = gym.make(f"neoteny/{preset}-v0", seed=0, steps_per_task=12, render_mode="rgb_array")
    env = wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    env.action_space.seed(0)
    env.reset()
    for _ in range(30):
        step_or_reset(env)
    env.close()
    assert len(list((tmp_path / "videos").glob("*.mp4"))) >= 3


@pytest.mark.parametrize("name", [GRID, "neoteny/minatar-seq-small-v0", "neoteny/cartpole-dynamics-v0"])
def test_a_vector_is_seen(name: str) -> None:
    env = vector(name, 2, render_mode="rgb_array")
    env.reset()
    frames = env.render()
    assert len(frames) == 2
    assert all(frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[-1] == 3 for frame in frames)
    assert all(frame.std() > 0 for frame in frames)
    env.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("neoteny/atari-seq-small-v0", "EnvPool does not render; choose backend: gymnasium"),
        ("neoteny/cartpole-offset-v0", "EnvPool does not render; choose backend: gymnasium"),
    ],
)
def test_what_cannot_be_seen_says_what_to_choose(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"render_mode: .*{message}"):
        gym.make(name, render_mode="rgb_array")
    env = gym.make(name)
    assert env.unwrapped.metadata["render_modes"] == []
    check_env(env.unwrapped)


class Late(gym.Env[Any, Any]):
    """Says only once it is made how it can be seen, as Meta-World's environments do."""

    observation_space, action_space = gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    @property
    def metadata(self) -> Any:  # type: ignore[override]
        return {"render_modes": ["rgb_array"]}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def render(self) -> np.ndarray:
        return np.full((4, 4, 3), 9, np.uint8)


def test_an_environment_that_says_late_how_it_can_be_seen() -> None:
    if "Late-v0" not in gym.registry:
        gym.register("Late-v0", Late, disable_env_checker=True)
    env = ContinualVectorEnv(TaskSequence((Task("Late-v0", 10),)), 2, render_mode="rgb_array")
    env.reset()
    assert [frame.tolist() for frame in env.render()] == [[[[9] * 3] * 4] * 4] * 2


def test_atari_is_seen_in_python_only() -> None:
    """Its vector environment shows other observations, so the choice is the user's."""
    with pytest.raises(ConfigError, match="ALE/Pong-v5: its vector environment does not render; choose backend: gymn"):
        ContinualVectorEnv(TaskSequence((Task("ALE/Pong-v5", 10),)), render_mode="rgb_array")
    env = ContinualVectorEnv(TaskSequence((Task("ALE/Pong-v5", 10, backend="gymnasium"),)), render_mode="rgb_array")
    env.reset()
    assert env.render()[0].shape == (210, 160, 3)


def test_an_environment_without_frames_is_refused_by_name(counting: str) -> None:
    with pytest.raises(ConfigError, match=f"render_mode: {ID}: it does not render as rgb_array"):
        ContinualEnv(preset=counting, render_mode="rgb_array")
    with pytest.raises(ConfigError, match="render_mode: 'rgb_array' or None is needed, got 'human'"):
        ContinualEnv(preset=counting, render_mode="human")


# ------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("copies", [0, -1])
def test_copies_are_at_least_one(copies: int) -> None:
    with pytest.raises(ConfigError, match=f"copies: at least 1 is needed, got {copies}"):
        gym.make(POLE, copies=copies)


def test_copies_switch_and_ramp_as_one_vector_of_as_many_does() -> None:
    task = Task(ID, 101, shifts=(OffsetObservation(value=10.0, ramp=60),))
    sequence = TaskSequence((task,), cycles=3)
    one = ContinualVectorEnv(sequence, 4)
    two = [ContinualVectorEnv(sequence, 2, seed, copies=2) for seed in (1, 2)]
    for env in (one, *two):
        env.reset()
    for _ in range(90):
        observations, *_, truncated, info = one.step(np.full(4, GO))
        for env in two:
            seen, *_, cut, said = env.step(np.full(2, GO))
            np.testing.assert_array_equal(seen[:, 2], observations[:2, 2])  # the step, and the shift
            assert (cut.tolist(), said["task"].tolist()) == (truncated[:2].tolist(), info["task"][:2].tolist())
    assert one.segment.visit.index == 2


# --------------------------------------------------------------- 20,000 steps over two switches, by anybody's agent

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
        (sb3.DQN, 1, {"train_freq": 20}),
        (sb3_contrib.TRPO, COUNT, {"n_steps": 125, "batch_size": 250}),
        (sb3_contrib.QRDQN, COUNT, {"train_freq": 20}),
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
    env = wrappers.vector.RecordEpisodeStatistics(vector(POLE, COUNT, **SETTINGS))
    steps = learner(env, STEPS)
    assert [info["task"].tolist() for info, _ in steps] == [[task] * COUNT for task in plan(COUNT)]
    assert steps[EACH - 1][1].all()
    assert steps[2 * EACH - 1][1].all()
    assert sum("episode" in info for info, _ in steps) > 100


@pytest.mark.slow
def test_a_page_of_code_on_copies_that_are_reset_in_the_same_step() -> None:
    env = copies(gym.vector.AutoresetMode.SAME_STEP)
    steps = learner(env, STEPS)
    # where an episode ends, the info is of the next one and that of the step is in final_info
    seen = [np.where(done, info["final_info"]["task"] if done.any() else 0, info["task"]) for info, done in steps]
    assert [tasks.tolist() for tasks in seen] == [[task] * COUNT for task in plan(COUNT)]


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
