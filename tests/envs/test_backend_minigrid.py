"""EnvPool and Python MiniGrid are the same environments, and the backends keep their promises.

Fixed layouts are compared step by step. Where EnvPool draws the layout it has a generator of its own, so these are
compared in distribution, with fixed seeds: each comparison would fail by chance in one of a thousand.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from thinning import one_in

from neoteny.envs import Task
from neoteny.envs.backends import Backend, EnvPoolBackend, envpool_ids, make_backend
from neoteny.envs.suites import minigrid

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, WAIT = range(7)
EMPTY, DOOR, KEY, BOX, GOAL, LAVA = 1, 4, 5, 7, 8, 9
BACKENDS = ("envpool", "gymnasium")
each_backend = pytest.mark.parametrize("backend", BACKENDS)

envpool = pytest.importorskip("envpool")


def make(env: str, backend: str, num_envs: int = 1, seed: int = 0, **kwargs: Any) -> Backend:
    return make_backend(Task(env, 1, kwargs=kwargs, backend=backend), num_envs, seed)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ step by step


@pytest.mark.parametrize("env", one_in(3, ["Empty-5x5", "Empty-6x6", "Empty-8x8", "DistShift1", "DistShift2"]))
def test_fixed_layouts_agree_step_by_step(env: str) -> None:
    ours, theirs = (make(f"MiniGrid-{env}-v0", backend) for backend in BACKENDS)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    ends = 0
    for _ in range(2000):
        action = rng.choice(7, size=1, p=[0.14, 0.14, 0.4, 0.08, 0.08, 0.08, 0.08])
        out, expected = ours.step(action)[:4], theirs.step(action)[:4]
        np.testing.assert_array_equal(out[0], expected[0])
        np.testing.assert_allclose(out[1], expected[1], atol=1e-6)
        np.testing.assert_array_equal(out[2:], expected[2:])
        ended = out[2] | out[3]
        if ended.any():
            ends += 1
            ours.reset_where(ended, out[0])
            theirs.reset_where(ended, expected[0])
            np.testing.assert_array_equal(out[0], expected[0])
    assert ends >= 10


@each_backend
@pytest.mark.parametrize(
    ("env", "actions", "reward", "terminated", "truncated"),
    [
        ("Empty-5x5", [FORWARD, FORWARD, RIGHT, FORWARD, FORWARD], 1 - 0.9 * 5 / 100, True, False),
        ("Empty-5x5", [WAIT] * 100, 0.0, False, True),
        # the goal in the very last step is a goal: a learner must not bootstrap beyond it
        ("Empty-5x5", [WAIT] * 95 + [FORWARD, FORWARD, RIGHT, FORWARD, FORWARD], 0.1, True, True),
        ("DistShift1", [FORWARD, FORWARD], 0.0, True, False),  # lava
    ],
)
def test_endings(backend: str, env: str, actions: list[int], reward: float, terminated: bool, truncated: bool) -> None:
    pool = make(f"MiniGrid-{env}-v0", backend)
    pool.reset()
    for action in actions[:-1]:
        _, rewards, *ends = pool.step(np.array([action]))[:4]
        assert (rewards[0], ends[0][0], ends[1][0]) == (0, False, False)
    _, rewards, *ends = pool.step(np.array(actions[-1:]))[:4]
    assert rewards[0] == pytest.approx(reward)
    assert [end[0] for end in ends] == [terminated, truncated]


def test_envpool_cannot_tell_lava_in_the_very_last_step_from_running_out_of_time() -> None:
    """A known difference, too rare to matter: Python says terminated as well. Should this fail, EnvPool is better."""
    ends = {}
    for backend in BACKENDS:
        pool = make("MiniGrid-DistShift1-v0", backend)
        pool.reset()
        limit = gym.make("MiniGrid-DistShift1-v0").unwrapped.max_steps  # type: ignore[attr-defined]
        for action in [WAIT] * (limit - 2) + [FORWARD, FORWARD]:
            out = pool.step(np.array([action]))
        ends[backend] = (bool(out[2][0]), bool(out[3][0]))
    assert ends == {"envpool": (False, True), "gymnasium": (True, True)}


def test_envpool_alone_ignores_the_action_after_an_ending() -> None:
    """Why the backend resets by hand. Should this fail, EnvPool has changed and ``reset_where`` needs another look."""
    pool = envpool.make("MiniGrid-Empty-5x5-v0", env_type="gymnasium", num_envs=1, seed=0)
    first = pool.reset()[0]["image"].copy()
    for action in (FORWARD, FORWARD, RIGHT, FORWARD, FORWARD):
        observation, _, terminated, *_ = pool.step(np.array([action]))
    assert terminated[0]
    observation, reward, terminated, truncated, _ = pool.step(np.array([FORWARD]))
    np.testing.assert_array_equal(observation["image"], first)  # not a step forward
    assert (reward[0], terminated[0], truncated[0]) == (0, False, False)


# -------------------------------------------------------------------------------------------------- promises


@each_backend
def test_reset_where_touches_only_the_masked(backend: str) -> None:
    pool = make("MiniGrid-Empty-8x8-v0", backend, num_envs=3)
    first = pool.reset().copy()
    for _ in range(2):
        observations, *_ = pool.step(np.full(3, FORWARD))
    before = observations.copy()
    assert (before != first).any((1, 2, 3)).all()
    pool.reset_where(np.array([False, True, False]), observations)
    np.testing.assert_array_equal(observations, [before[0], first[1], before[2]])
    pool.step(np.full(3, WAIT))
    observations, *_ = pool.step(np.full(3, RIGHT))  # the others went on from where they were
    assert (observations[0] == observations[2]).all()
    assert (observations[0] != observations[1]).any()


@pytest.mark.parametrize("env", ["MiniGrid-DoorKey-5x5-v0", "MiniGrid-Empty-Random-6x6-v0"])
@each_backend
def test_copy_i_is_seeded_with_seed_plus_i(backend: str, env: str) -> None:
    together = make(env, backend, num_envs=4, seed=7).reset()
    alone = [make(env, backend, seed=7 + i).reset()[0] for i in range(4)]
    np.testing.assert_array_equal(together, alone)
    assert len({observation.tobytes() for observation in together}) > 1


@each_backend
def test_new_episodes_have_new_layouts(backend: str) -> None:
    pool = make("MiniGrid-Empty-Random-6x6-v0", backend)
    assert len({pool.reset().tobytes() for _ in range(20)}) > 10


def test_time_limits_and_spaces_agree_in_all_of_minigrid() -> None:
    shared = sorted(i for i in envpool_ids() if i.startswith("MiniGrid-") and i in gym.registry)
    assert len(shared) > 70
    for env in shared:
        ours = EnvPoolBackend(Task(env, 1), 1, 0, 1)
        theirs = gym.make(env).unwrapped
        assert ours.action_space == theirs.action_space, env
        assert ours._pool.config["max_episode_steps"] == theirs.max_steps, env  # type: ignore[attr-defined]
        assert ours.observation_space == minigrid.SPACE
        ours.close()


# -------------------------------------------------------------------------------------------- in distribution


def first_observations(env: str, backend: str, seed: int, rounds: int = 30, num_envs: int = 100) -> Counter[bytes]:
    pool = make(env, backend, num_envs, seed)
    return Counter(observation.tobytes() for _ in range(rounds) for observation in pool.reset())


def chi_square(ours: Counter[bytes], theirs: Counter[bytes]) -> float:
    """How far two samples of one size differ, as a standard normal deviate (Wilson and Hilferty, 1931)."""
    table = np.array([[ours[key], theirs[key]] for key in ours | theirs], float)
    common = table.sum(1) >= 10
    table = np.vstack([table[common], table[~common].sum(0)])
    table = table[table.sum(1) > 0]
    statistic = ((table[:, 0] - table[:, 1]) ** 2 / table.sum(1)).sum()
    degrees = len(table) - 1
    spread = 2 / (9 * degrees)
    return float(((statistic / degrees) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


@pytest.mark.parametrize(
    "env",
    one_in(3, ["Empty-Random-6x6", "LavaGapS7", "DoorKey-5x5", "SimpleCrossingS9N1", "Unlock", "RedBlueDoors-6x6"]),
)
def test_random_layouts_agree_as_first_seen(env: str) -> None:
    """3,000 first observations each: 3.09 deviates are exceeded by chance in one of a thousand comparisons."""
    ours, theirs = (first_observations(f"MiniGrid-{env}-v0", b, s) for b, s in zip(BACKENDS, (1, 2), strict=True))
    assert chi_square(ours, theirs) < 3.09


def test_chi_square_can_tell() -> None:
    five, six = (first_observations(f"MiniGrid-DoorKey-{n}-v0", "envpool", 1) for n in ("5x5", "6x6"))
    assert chi_square(five, six) > 10


def scripted(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Walks to the goal when it is seen, opens what is in the way, wanders otherwise; one in many steps into lava."""
    count = len(observations)
    chance, side = rng.random(count), np.where(rng.random(count) < 0.5, LEFT, RIGHT)
    ahead, state = observations[:, 3, 5, 0], observations[:, 3, 5, 2]
    free = (ahead == EMPTY) | (ahead == GOAL) | ((ahead == DOOR) & (state == 0))
    wander = np.where((free & (chance < 0.75)) | ((ahead == LAVA) & (chance < 0.05)), FORWARD, side)
    wander = np.where((ahead == KEY) & (chance < 0.9), PICKUP, wander)
    wander = np.where((ahead == DOOR) & (state > 0) & (chance < 0.9), TOGGLE, wander)
    goal = observations[..., 0] == GOAL
    across, ahead_by = np.divmod(goal.reshape(count, -1).argmax(1), 7)
    approach = np.where(free & (ahead_by < 6), FORWARD, np.where(across < 3, LEFT, RIGHT))
    return np.where(goal.any((1, 2)) & (chance < 0.8), approach, wander)


def play(env: str, backend: str, seed: int, longest: int, episodes: int = 2000) -> np.ndarray:
    """Return and length of each of ``episodes`` episodes, cut after ``longest`` steps."""
    count = 50
    pool = make(env, backend, count, seed)
    rng = np.random.default_rng(seed)
    observations = pool.reset()
    returns, lengths = np.zeros(count), np.zeros(count, int)
    played: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    while min(map(len, played)) < episodes // count:
        observations, rewards, terminated, truncated = pool.step(scripted(observations, rng))[:4]
        returns += rewards
        lengths += 1
        ended = terminated | truncated | (lengths >= longest)
        if ended.any():
            for i in np.flatnonzero(ended):
                played[i].append((returns[i].round(5), lengths[i]))
            returns[ended], lengths[ended] = 0, 0
            pool.reset_where(ended, observations)
    # As many of each copy: the first to end would be the short ones.
    return np.array([episode for mine in played for episode in mine[: episodes // count]]).T


def kolmogorov_smirnov(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest distance between two empirical distributions, in units of its critical value at 1/1000."""
    values = np.concatenate([ours, theirs])
    one, other = (np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (ours, theirs))
    critical = np.sqrt(-np.log(0.001 / 2) / 2 * (1 / len(ours) + 1 / len(theirs)))
    return float(np.abs(one - other).max() / critical)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "longest", "least", "most"),
    [
        ("Empty-Random-6x6", 50, 0.9, 1.0),
        pytest.param("LavaGapS5", 25, 0.3, 0.9, marks=pytest.mark.full),
        pytest.param("DoorKey-5x5", 25, 0.2, 0.9, marks=pytest.mark.full),
        pytest.param("SimpleCrossingS9N1", 25, 0.02, 0.5, marks=pytest.mark.full),
    ],
)
def test_random_layouts_agree_in_returns_and_lengths(env: str, longest: int, least: float, most: float) -> None:
    """2,000 episodes of one scripted policy, two-sample Kolmogorov-Smirnov at a significance of 1/1000."""
    ours, theirs = (
        play(f"MiniGrid-{env}-v0", backend, seed, longest) for backend, seed in zip(BACKENDS, (1, 2), strict=True)
    )
    assert least <= (ours[0] > 0).mean() <= most  # the policy reaches the goal sometimes
    assert kolmogorov_smirnov(ours[0], theirs[0]) < 1
    assert kolmogorov_smirnov(ours[1], theirs[1]) < 1


def test_envpool_builds_multiroom_otherwise() -> None:
    """Why ``auto`` runs it in Python. Should this fail, EnvPool has been mended, and ENVPOOL_DIFFERS can go."""
    ours, theirs = (play("MiniGrid-MultiRoom-N2-S4-v0", b, 1, 40, episodes=300) for b in BACKENDS)
    won = [(mine[0] > 0).mean() for mine in (ours, theirs)]
    assert won[0] < 0.8 * won[1]  # a third of the layouts have no way to the goal
    assert kolmogorov_smirnov(ours[0], theirs[0]) > 1
    assert kolmogorov_smirnov(ours[1], theirs[1]) > 1


def test_envpool_paints_obstructed_mazes_otherwise() -> None:
    """As above: should this fail, ENVPOOL_DIFFERS can shrink."""
    colours = []
    for backend in BACKENDS:
        first = make("MiniGrid-ObstructedMaze-1Dlh-v0", backend, num_envs=50).reset().reshape(-1, 3)
        colours.append({int(colour) for thing, colour, _ in first if thing == BOX})
    assert colours == [{2}, {5}]  # blue; grey


def test_kolmogorov_smirnov_passes_the_same() -> None:
    ours, again = (play("MiniGrid-LavaGapS5-v0", "envpool", seed, 25) for seed in (1, 2))
    assert kolmogorov_smirnov(ours[0], again[0]) < 1
    assert kolmogorov_smirnov(ours[1], again[1]) < 1
