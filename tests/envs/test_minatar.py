"""MinAtar as Gymnasium environments."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from neoteny.envs import ConfigError
from neoteny.envs.suites import extras

pytest.importorskip("minatar")
extras.prepare("MinAtar/")

GAMES = {"SpaceInvaders": 6, "Asterix": 4, "Seaquest": 10, "Breakout": 4, "Freeway": 7}
UP, FIRE = 2, 5
each_game = pytest.mark.parametrize("game", sorted(GAMES))


def make(game: str, **kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make(f"MinAtar/{game}-v1", use_minimal_action_set=False, **kwargs)


def rollout(env: gym.Env[Any, Any], seed: int | None, steps: int = 400) -> list[Any]:
    """All that comes out of random actions, which ``seed`` has no part in."""
    actions = np.random.default_rng(0).integers(6, size=steps)
    out: list[Any] = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, *rest, _ = env.step(action)
        out += [observation, rest]
        if rest[1] or rest[2]:
            out.append(env.reset()[0])
    return out


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@each_game
def test_gymnasiums_checker_finds_nothing(game: str) -> None:
    check_env(make(game).unwrapped, skip_render_check=True)


@each_game
def test_spaces(game: str) -> None:
    env = make(game)
    observation, _ = env.reset(seed=0)
    assert env.action_space == gym.spaces.Discrete(6)
    assert env.observation_space == gym.spaces.Box(0, 1, (10, 10, GAMES[game]), np.uint8)
    assert observation.dtype == np.uint8
    assert set(np.unique(observation)) == {0, 1}


def test_the_packages_meaning_of_the_versions() -> None:
    assert gym.make("MinAtar/SpaceInvaders-v1").action_space == gym.spaces.Discrete(4)
    with pytest.warns(DeprecationWarning, match="out of date"):
        assert gym.make("MinAtar/SpaceInvaders-v0").action_space == gym.spaces.Discrete(6)


def test_the_minimal_actions_are_those_of_the_game() -> None:
    env = gym.make("MinAtar/SpaceInvaders-v1", sticky_action_prob=0.0)  # none, left, right, fire
    env.reset(seed=0)
    assert env.step(3)[0][..., 4].sum() == 1  # a bullet


@each_game
def test_two_copies_of_one_seed_agree_and_of_two_seeds_differ(game: str) -> None:
    first = rollout(make(game), 3)
    assert same(first, rollout(make(game), 3))
    assert not same(first, rollout(make(game), 4))


@each_game
def test_a_seed_leaves_nothing_of_what_was_before(game: str) -> None:
    env = make(game, sticky_action_prob=0.5)
    first = rollout(env, 3)
    assert same(first, rollout(env, 3))


def test_the_last_action_of_an_episode_does_not_stick_to_the_next() -> None:
    env = make("SpaceInvaders", sticky_action_prob=1.0)  # every action is the one before it: none, for ever
    env.reset(seed=0)
    env.unwrapped._game.last_action = FIRE  # type: ignore[attr-defined]
    env.reset()
    assert env.step(UP)[0][..., 4].sum() == 0


def test_the_global_random_state_is_untouched() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    rollout(make("Asterix"), 3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002


def test_an_idle_episode_is_cut_and_a_busy_one_is_not() -> None:
    idle = make("Seaquest", idle_limit=50, sticky_action_prob=0.0)
    idle.reset(seed=0)
    assert [idle.step(0)[2:4] for _ in range(50)] == [(False, False)] * 49 + [(False, True)]
    idle.reset()
    assert idle.step(0)[2:4] == (False, False)  # it counts anew
    busy = make("SpaceInvaders", idle_limit=10, sticky_action_prob=0.0)
    busy.reset(seed=0)
    earned, cut = 0.0, []
    for _ in range(40):
        _, reward, terminated, truncated, _ = busy.step(FIRE)
        earned += float(reward)
        cut.append(truncated == (earned == 0 and len(cut) >= 9))
        if terminated:
            break
    assert earned > 0
    assert all(cut)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minatar", None)
    monkeypatch.delitem(sys.modules, "neoteny.envs.suites.minatar")
    with pytest.raises(ConfigError, match=r"'MinAtar/Asterix-v1' needs the extra 'minatar': pip install 'neoteny\[min"):
        extras.prepare("MinAtar/Asterix-v1")
