"""ViZDoom's scenarios: what an agent sees of them, and how their episodes end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from neoteny.envs import Task
from neoteny.envs.backends import make_backend

pytest.importorskip("vizdoom")


def played(env: gym.Env[Any, Any], actions: list[int]) -> tuple[list[Any], list[float], tuple[bool, bool]]:
    """What was seen and paid until the episode or the actions ended, and how it ended."""
    seen, rewards, ends = [env.reset(seed=3)[0]], [], (False, False)
    for action in actions:
        observation, reward, *ends_now, _ = env.step(action)
        seen.append(observation)
        rewards.append(float(reward))
        ends = (bool(ends_now[0]), bool(ends_now[1]))
        if any(ends):
            break
    return seen, rewards, ends


@pytest.fixture
def ours() -> Any:
    make_backend(Task("Vizdoom/Basic-v1", 1), 1, 0).close()  # registers them
    return gym.make


def test_pictures_and_rewards_are_vizdooms_own(ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against ViZDoom's environment itself, played with the same actions."""
    from vizdoom import ScreenFormat, ScreenResolution

    look = {"screen_format": ScreenFormat.GRAY8, "screen_resolution": ScreenResolution.RES_160X120}
    actions = np.random.default_rng(0).integers(4, size=100).tolist()
    monkeypatch.chdir(tmp_path)
    theirs, paid, _ = played(gym.make("VizdoomDefendCenter-v1", frame_skip=4, **look), actions)
    seen, rewards, _ = played(ours("Vizdoom/DefendCenter-v1"), actions)
    assert rewards == paid
    assert any(rewards)
    assert len(seen) > 20
    assert (seen[0].shape, seen[0].dtype) == ((4, 60, 80), np.uint8)
    for place in (0, 1, 5, len(seen) - 2):
        screens = [theirs[max(0, place - back)]["screen"][..., 0].astype(float) for back in (3, 2, 1, 0)]
        if place >= 3:  # before, the stack is filled with the first one
            means = [(s[::2, ::2] + s[1::2, ::2] + s[::2, 1::2] + s[1::2, 1::2]) / 4 for s in screens]
            np.testing.assert_array_equal(seen[place], np.floor(means))


def test_a_time_limit_truncates_and_shows_the_last_screen(ours: Any) -> None:
    """Basic ends after 300 frames if the monster lives: 75 actions."""
    seen, rewards, ends = played(ours("Vizdoom/Basic-v1"), [0] * 100)
    assert ends == (False, True)
    assert len(rewards) == 75
    assert seen[-1][-1].any()
    np.testing.assert_array_equal(seen[-1][-1], seen[-2][-1])


def test_death_terminates(ours: Any) -> None:
    _, _, ends = played(ours("Vizdoom/HealthGathering-v1"), [0] * 1000)
    assert ends == (True, False)


@pytest.mark.parametrize("backend", ["gymnasium", "async"])
def test_no_file_is_left_where_one_works(backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pool = make_backend(Task("Vizdoom/Basic-v1", 1, backend=backend), 2, 0)
    pool.reset()
    pool.step(np.zeros(2, int))
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("vizdoom-")]
    pool.close()
    assert not list(tmp_path.iterdir())
