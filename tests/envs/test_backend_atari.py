"""Lives, whole games and unclipped scores of Atari, against emulators that ale-py runs without our code."""

from __future__ import annotations

from typing import Any

import ale_py
import numpy as np
import pytest

from neoteny.envs import ContinualVecEnv, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.backends import AtariBackend, make_backend

pytest.importorskip("envpool")

BOTH = ("", "ALE/")
#: Both emulators' names for the settings that the replay knows: no random no-ops, nothing sticky.
PLAIN = {"noop_max": 1, "repeat_action_probability": 0.0, "episodic_life": True}
CLIPPED = {"": {"reward_clip": True}, "ALE/": {"reward_clipping": True}}
ROMS = {"SpaceInvaders": "space_invaders", "BeamRider": "beam_rider", "MsPacman": "ms_pacman", "Breakout": "breakout"}
each_kind = pytest.mark.parametrize("kind", BOTH, ids=["envpool", "ale-py"])


def sequence(env: str, steps: int = 10**9, **kwargs: Any) -> TaskSequence:
    return TaskSequence(tasks=(Task(env, steps, kwargs=kwargs),))


class Replay:
    """One game on ale-py's plain interface, in which each lost life is followed by a no-op and by FIRE."""

    def __init__(self, rom: str, seed: int, noops: int, full: bool = False):
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(ale_py.roms.get_rom_path(rom))
        self.actions = self.ale.getLegalActionSet() if full else self.ale.getMinimalActionSet()
        self.fires = ale_py.Action.FIRE in self.actions
        self.noops = noops - self.fires
        self.start()

    def start(self) -> None:
        self.ale.reset_game()
        for action in [ale_py.Action.NOOP] * self.noops + [ale_py.Action.FIRE] * self.fires:
            self.ale.act(action)
        self.lives, self.score, self.late = self.ale.lives(), 0, 0

    def frames(self, action: ale_py.Action) -> int:
        reward = 0
        for _ in range(4):
            reward += self.ale.act(action)
            if self.ale.game_over():
                break
        self.score += reward
        return reward

    def step(self, action: int) -> tuple[int, bool, bool]:
        """The reward, whether a life or the game is lost, whether the game is."""
        reward = self.frames(self.actions[action])
        lost, self.lives = 0 < self.ale.lives() < self.lives, self.ale.lives()
        over = self.ale.game_over()
        if lost and not over:
            for then in [ale_py.Action.NOOP] + [ale_py.Action.FIRE] * self.fires:
                self.frames(then)
            assert not self.ale.game_over()
            self.lives = self.ale.lives()
        return reward, lost or over, over


def play_beside_replays(kind: str, game: str, steps: int) -> tuple[list[int], set[int]]:
    """Two games under random actions; every step has to be the replays'. The games' scores, and the lives seen."""
    full = game == "MsPacman"  # which has FIRE then, and makes no use of it
    options = PLAIN | CLIPPED[kind] | {"full_action_space": full}
    vector = ContinualVectorEnv(sequence(f"{kind}{game}-v5", **options), num_envs=2, seed=3)
    vector.reset()
    seed = vector.segment.seed(3)
    replays = [Replay(ROMS[game], seed + i, noops=0 if kind else 1, full=full) for i in range(2)]
    rng, scores, seen = np.random.default_rng(0), [], set()
    for _ in range(steps):
        actions = rng.integers(len(replays[0].actions), size=2)
        _, rewards, terminated, truncated, info = vector.step(actions)
        expected = [replay.step(action) for replay, action in zip(replays, actions, strict=True)]
        rewards_there, ends, overs = map(np.array, zip(*expected, strict=True))
        seen |= {replay.lives for replay in replays}
        np.testing.assert_array_equal(rewards, np.sign(rewards_there))
        np.testing.assert_array_equal(terminated, ends)
        assert not truncated.any()
        np.testing.assert_array_equal(info.get("_return", [False, False]), ends)
        np.testing.assert_array_equal(info.get("_score", [False, False]), overs)
        for i in np.flatnonzero(overs):
            assert info["score"][i] == replays[i].score
            scores.append(replays[i].score)
            replays[i].start()
    vector.close()
    return scores, seen


@each_kind
@pytest.mark.parametrize(("game", "steps", "lives"), [
    ("MsPacman", 800, 3), pytest.param("Breakout", 400, 5, marks=pytest.mark.full),
    pytest.param("SpaceInvaders", 700, 3, marks=pytest.mark.full),
    *(pytest.param(game, 10_000, 3, marks=pytest.mark.full) for game in ("SpaceInvaders", "BeamRider", "MsPacman")),
])  # fmt: skip
def test_whole_games_are_those_of_a_plain_emulator(kind: str, game: str, steps: int, lives: int) -> None:
    scores, seen = play_beside_replays(kind, game, steps)
    assert seen == set(range(lives + 1))
    assert max(scores) > 1  # and so not clipped
    assert len(scores) >= (2 if steps < 1000 else 10)


@each_kind
def test_a_lost_life_is_an_end_that_is_not_bootstrapped(kind: str) -> None:
    env = ContinualVecEnv(sequence(f"{kind}SpaceInvaders-v5", **PLAIN), num_envs=1, seed=0)
    env.reset()
    rng, lives, games = np.random.default_rng(0), 0, 0
    while not games:
        _, _, dones, infos = env.step(rng.integers(6, size=1))
        games += "game" in infos[0]
        if dones[0]:
            lives += 1
            assert infos[0]["TimeLimit.truncated"] is False
            assert infos[0]["terminal_observation"].shape == (4, 84, 84)
    assert lives == 3
    env.close()


def breakout(kind: str, **kwargs: Any) -> set[int]:
    """The lives seen in 400 steps of Breakout in which the agent never presses FIRE."""
    pool: Any = make_backend(Task(f"{kind}Breakout-v5", 1, kwargs=PLAIN | kwargs), 1, 0)
    observations, seen = pool.reset(), set()
    for _ in range(400):
        observations, _, terminated, *_ = pool.step(np.zeros(1, int))
        seen.add(int(pool._lives[0]))
        pool.reset_where(terminated, observations)
    pool.close()
    return seen


@each_kind
def test_fire_is_pressed_after_each_lost_life(kind: str) -> None:
    assert breakout(kind) == {5, 4, 3, 2, 1, 0}
    assert breakout(kind, use_fire_reset=False) == {5}


@each_kind
def test_lives_do_not_end_episodes_unless_asked_for(kind: str) -> None:
    vector = ContinualVectorEnv(sequence(f"{kind}SpaceInvaders-v5", episodic_life=False), num_envs=2, seed=0)
    vector.reset()
    rng, ends = np.random.default_rng(0), 0
    while not ends:
        _, _, terminated, truncated, info = vector.step(rng.integers(6, size=2))
        ends += (terminated | truncated).sum()
    assert (info["_score"] == terminated).all()
    assert (info["score"] == info["return"])[terminated].all()
    assert (vector._backend._lives[~terminated] < 3).all()  # type: ignore[union-attr]
    vector.close()


# ------------------------------------------------------------------------- games that end while no agent acts


def first_loss(kind: str, **kwargs: Any) -> int:
    """The step of SpaceInvaders in which no-ops lose the first life."""
    pool = make_backend(Task(f"{kind}SpaceInvaders-v5", 1, kwargs=PLAIN | kwargs), 1, 0)
    pool.reset()
    return next(step for step in range(1, 2000) if pool.step(np.zeros(1, int)).terminated[0])


@each_kind
def test_a_game_that_ends_after_a_lost_life_before_the_agent_acts_is_counted(kind: str) -> None:
    step = first_loss(kind)
    limit: dict[str, Any] = {"max_num_frames_per_episode": 4 * (step + 1)} if kind else {"max_episode_steps": step + 1}
    pool: Any = make_backend(Task(f"{kind}SpaceInvaders-v5", 1, kwargs=PLAIN | limit), 1, 0)
    observations = pool.reset()
    for _ in range(step):
        observations, _, terminated, truncated, _, over, _ = pool.step(np.zeros(1, int))
    assert (terminated.tolist(), truncated.tolist(), over.tolist()) == ([True], [False], [False])
    pool.reset_where(terminated, observations)
    assert pool._lives.tolist() == [3]  # a new game
    seen = observations.copy()
    _, _, terminated, truncated, _, over, _ = pool.step(np.zeros(1, int))
    assert (terminated.tolist(), truncated.tolist(), over.tolist()) == ([False], [False], [True])
    np.testing.assert_array_equal(pool.step(np.zeros(1, int))[0][:, :2], seen[:, 2:])
    pool.close()


class Scripted:
    """Games of one emulator whose steps are written down: reward, terminated, lives."""

    def __init__(self, *steps: tuple[int, bool, int]):
        self.coming = list(steps)

    def reset(self, ids: Any) -> Any:
        return np.zeros((len(ids), 4, 84, 84), np.uint8), np.full(len(ids), 3)

    def step(self, actions: Any, ids: Any) -> Any:
        reward, terminated, lives = self.coming.pop(0)
        seen = np.ones((1, 4, 84, 84), np.uint8)
        return seen, np.array([reward]), np.array([terminated]), np.array([False]), np.array([lives])


def test_what_happens_while_no_agent_acts_counts_in_the_next_step() -> None:
    vector = ContinualVectorEnv(sequence("Breakout-v5", **PLAIN, reward_clip=True))
    vector.reset()
    backend: Any = vector._backend
    backend._games = Scripted((7, False, 2), (30, False, 2), (0, True, 0), (5, False, 3), (2, True, 0))
    backend.reset()
    _, rewards, terminated, _, info = vector.step(np.zeros(1, int))  # and a no-op that scores, a FIRE that loses
    assert (rewards[0], terminated[0], info["_score"][0], info["return"][0]) == (1, True, False, 1)
    _, rewards, terminated, _, info = vector.step(np.zeros(1, int))
    assert (rewards[0], terminated[0], info["_return"][0]) == (1, False, False)
    assert (info["_score"][0], info["score"][0]) == (True, 7 + 30 + 5)
    *_, info = vector.step(np.zeros(1, int))
    assert (info["score"][0], info["return"][0]) == (2, 2)


def test_continuous_actions_of_ale_py_go_on_after_a_lost_life() -> None:
    pool: Any = make_backend(Task("ALE/SpaceInvaders-v5", 1, kwargs={"continuous": True, "episodic_life": True}), 1, 0)
    observations, rng, losses = pool.reset(), np.random.default_rng(0), 0
    while losses < 3:
        observations, _, terminated, *_ = pool.step(rng.uniform(-1, 1, (1, 3)))
        losses += terminated[0]
        pool.reset_where(terminated, observations)
    assert isinstance(pool, AtariBackend)
    pool.close()
