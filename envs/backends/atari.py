"""Atari games, on EnvPool or ale-py: lives, whole games, and one set of defaults for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from neoteny.configs import ConfigError
from neoteny.envs.backends.base import Sealed, Step
from neoteny.envs.shifts import Array
from neoteny.envs.tasks import Task

#: Frames that a game has at most: half an hour.
MOST_FRAMES = 108_000

#: What holds if a task's ``kwargs`` do not say otherwise: EnvPool's name, ale-py's name, value. EnvPool's time limit
#: is in steps, ale-py's in frames.
DEFAULTS: tuple[tuple[str, str, Any], ...] = (
    ("frame_skip", "frameskip", 4),
    ("stack_num", "stack_num", 4),
    ("img_height", "img_height", 84),
    ("img_width", "img_width", 84),
    ("gray_scale", "grayscale", True),
    ("noop_max", "noop_max", 30),
    ("use_fire_reset", "use_fire_reset", True),
    ("full_action_space", "full_action_space", False),
    ("repeat_action_probability", "repeat_action_probability", 0.0),
    ("episodic_life", "episodic_life", False),
    ("reward_clip", "reward_clipping", False),
)

#: What :class:`AtariBackend` does instead of the emulators, by ale-py's name.
OURS = ("episodic_life", "reward_clipping")


def is_ale(env_id: str) -> bool:
    return env_id.rpartition(":")[2].startswith("ALE/")


@cache
def is_atari(env_id: str) -> bool:
    """Whether it is the id of an Atari game, ale-py's (``ALE/Pong-v5``) or EnvPool's (``Pong-v5``)."""
    if is_ale(env_id):
        return True
    try:
        from envpool.registration import registry
    except ImportError:
        return False
    return env_id in registry.specs and registry.specs[env_id][0] == "envpool.atari"


def settings(task: Task) -> dict[str, Any]:
    """All settings of a task's games, by the names that its ``kwargs`` have.

    ``ALE/…-v5`` has sticky actions with probability 0.25 if ``kwargs`` do not say otherwise: Gymnasium gave the id that
    meaning.
    """
    column = int(is_ale(task.env))
    known = {names[column]: value for *names, value in DEFAULTS}
    if is_ale(task.env):
        own = gym.registry[task.env.rpartition(":")[2]].kwargs
        return known | {"max_num_frames_per_episode": MOST_FRAMES} | own | task.kwargs
    limit = MOST_FRAMES // max(1, task.kwargs.get("frame_skip", known["frame_skip"]))
    return known | {"max_episode_steps": limit} | task.kwargs


def check_alike(tasks: Iterable[Task]) -> None:
    """Hold the Atari tasks of a sequence to one meaning of what their ``kwargs`` leave open.

    Raises:
        ConfigError: ids of ale-py and of EnvPool, whose sticky actions differ by default, and a task does not set them.
    """
    games = [task for task in tasks if is_atari(task.env)]
    stickiness = "repeat_action_probability"
    silent = [task for task in games if stickiness not in task.kwargs]
    if silent and len({is_ale(task.env) for task in games}) == 2:
        raise ConfigError(
            f"kwargs: {silent[0].env} needs {stickiness} beside ids of the other kind: by default it is 0.25 for "
            f"ALE/… and 0 for EnvPool's games"
        )


@cache
def has_fire(game: str) -> bool:
    """Whether FIRE is among the actions that the game, such as ``space_invaders``, makes use of."""
    from ale_py import Action, ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator, rom = ALEInterface(), roms.get_rom_path(game)
    assert rom, f"ale-py has no {game}"
    emulator.loadROM(rom)
    return Action.FIRE in emulator.getMinimalActionSet()


class Games(Protocol):
    """Emulators of one game that neither clip rewards nor know episodic lives."""

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    game: str

    def __init__(self, kwargs: Mapping[str, Any], task: Task, num_envs: int, seed: int, threads: int): ...

    def reset(self, ids: Array) -> tuple[Array, Array]:
        """New games in the emulators ``ids``: their first observations and lives."""

    def step(self, actions: Array, ids: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Step the emulators ``ids``: observations, rewards, terminated, truncated, lives."""

    def close(self) -> None: ...


class EnvPoolGames:
    """EnvPool's."""

    def __init__(self, kwargs: Mapping[str, Any], task: Task, num_envs: int, seed: int, threads: int):
        import envpool

        self._pool = envpool.make(
            task.env, env_type="gymnasium", num_envs=num_envs, seed=seed, num_threads=threads, **kwargs
        )
        self.observation_space, self.action_space = self._pool.observation_space, self._pool.action_space
        self.game = self._pool.spec.config.task
        self.close = self._pool.close

    def reset(self, ids: Array) -> tuple[Array, Array]:
        observations, info = self._pool.reset(ids)
        return observations, info["lives"]

    def step(self, actions: Array, ids: Array) -> tuple[Array, Array, Array, Array, Array]:
        observations, rewards, terminated, truncated, info = self._pool.step(actions, ids)
        return observations, rewards, terminated, truncated, info["lives"]


class AleGames:
    """ale-py's: one vector environment per game, since it cannot step some of its games and let the others wait."""

    def __init__(self, kwargs: Mapping[str, Any], task: Task, num_envs: int, seed: int, threads: int):
        from ale_py.vector_env import AtariVectorEnv

        mode = AutoresetMode.NEXT_STEP  # and never a next step: the caller resets
        self._envs = [AtariVectorEnv(num_envs=1, num_threads=1, autoreset_mode=mode, **kwargs) for _ in range(num_envs)]
        self._seeds: list[int | None] = [seed + i for i in range(num_envs)]
        self._threads = threads
        self.observation_space = self._envs[0].single_observation_space
        self.action_space = self._envs[0].single_action_space
        self.game = kwargs["game"]

    def reset(self, ids: Array) -> tuple[Array, Array]:
        results = []
        for i in ids:
            results.append(self._envs[i].reset(seed=self._seeds[i]))
            self._seeds[i] = None
        observations, infos = zip(*results, strict=True)
        return np.concatenate(observations), np.concatenate([info["lives"] for info in infos])

    def step(self, actions: Array, ids: Array) -> tuple[Array, Array, Array, Array, Array]:
        results = []
        for first in range(0, len(ids), self._threads):
            some = range(first, min(first + self._threads, len(ids)))
            for row in some:
                self._envs[ids[row]].send(actions[row : row + 1])
            results += [self._envs[ids[row]].recv() for row in some]
        *columns, infos = zip(*results, strict=True)
        observations, rewards, terminated, truncated = map(np.concatenate, columns)
        return observations, rewards, terminated, truncated, np.concatenate([info["lives"] for info in infos])

    def close(self) -> None:
        for env in self._envs:
            env.close()


class AtariBackend(Sealed):
    """Atari games, the same on EnvPool and on ale-py.

    With ``episodic_life``, a lost life ends the agent's episode and not the game, which goes on with a step of no-op
    and, where games begin with FIRE, one of FIRE: what ``EpisodicLifeEnv`` and ``FireResetEnv`` do in
    stable-baselines3's ``AtariWrapper``. The agent does not get the rewards of these steps; the game's score has them.
    """

    unchangeable = "Atari games have no parameters; their kwargs mode and difficulty differ by game"
    unseen = "Atari games are rendered with backend: gymnasium and an ALE/... id"

    def __init__(self, task: Task, num_envs: int, seed: int, threads: int):
        kwargs = settings(task)
        if kwargs.get("life_loss_info"):
            raise ConfigError("kwargs: episodic_life does what life_loss_info is for: the game goes on")
        ours = [names[is_ale(task.env)] for names in DEFAULTS if names[1] in OURS]
        for name in ours:
            if not isinstance(kwargs[name], bool):
                raise ConfigError(f"kwargs: {name} is true or false, got {kwargs[name]!r}")
        self._episodic_life, self._clip = (kwargs[name] for name in ours)
        kind = AleGames if is_ale(task.env) else EnvPoolGames
        self._games: Games = kind(kwargs | dict.fromkeys(ours, False), task, num_envs, seed, threads)
        self.observation_space, self.action_space = self._games.observation_space, self._games.action_space
        self._dtype = self.action_space.dtype
        every_action = kwargs["full_action_space"] or kwargs.get("continuous", False)
        fire = kwargs["use_fire_reset"] and (every_action or has_fire(self._games.game))
        self._going_on = _press(self.action_space, fire)
        self._everyone = np.arange(num_envs, dtype=np.int32)

    def reset(self) -> Array:
        observations, lives = self._games.reset(self._everyone)
        self._lives = lives.copy()
        self._over = np.zeros(len(lives), bool)
        self._unseen_rewards, self._unseen_ends = np.zeros(len(lives)), np.zeros(len(lives), bool)
        return observations

    def step(self, actions: Array) -> Step:
        actions = actions.astype(self._dtype, copy=False)
        observations, rewards, terminated, truncated, lives = self._games.step(actions, self._everyone)
        own = rewards + self._unseen_rewards
        self._over = terminated | truncated
        over = self._over | self._unseen_ends
        if self._episodic_life:
            terminated = terminated | ((lives < self._lives) & (lives > 0) & ~truncated)
        self._lives = lives.copy()
        self._unseen_rewards[:], self._unseen_ends[:] = 0, False
        rewards = np.sign(rewards) if self._clip else rewards
        return Step(observations, rewards, terminated, truncated, own, over)

    def reset_where(self, mask: Array, observations: Array) -> None:
        going_on = np.flatnonzero(mask & ~self._over).astype(np.int32)
        for action in self._going_on:
            if not going_on.size:
                break
            results = self._games.step(np.stack([action] * len(going_on)), going_on)
            observations[going_on], rewards, terminated, truncated, self._lives[going_on] = results
            self._unseen_rewards[going_on] += rewards
            self._unseen_ends[going_on] = self._over[going_on] = ended = terminated | truncated
            going_on = going_on[~ended]
        if (over := np.flatnonzero(mask & self._over).astype(np.int32)).size:
            observations[over], self._lives[over] = self._games.reset(over)

    def close(self) -> None:
        self._games.close()


def _press(space: spaces.Space[Any], fire: bool) -> list[Array]:
    """The actions no-op and, if it is to be pressed, FIRE."""
    if isinstance(space, spaces.Discrete):
        pressed = [np.array(0, space.dtype), np.array(1, space.dtype)]
    else:  # ale-py's continuous actions: radius, angle, fire
        pressed = [np.zeros(3, space.dtype), np.array([0, 0, 1], space.dtype)]
    return pressed if fire else pressed[:1]
