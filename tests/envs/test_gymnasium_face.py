"""Anybody's wrappers on ``neoteny/*``, frames, and copies that share the budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting_env import GO, ID, TERMINATE
from gymnasium import wrappers
from gymnasium.utils.env_checker import check_env

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
    begins = {"new_task": 1, "new_task_steps": 16}
    assert infos == [place] * 13 + [place | begins]  # an episode cut by the switch has no return
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
