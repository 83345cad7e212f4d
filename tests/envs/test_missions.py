"""Missions: one vocabulary for all, the same words in both backends, and never dropped in silence."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.envs.babyai.core import verifier
from minigrid.minigrid_env import MiniGridEnv

from neoteny import configs
from neoteny.envs import ConfigError, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.backends import Backend, envpool_ids, make_backend
from neoteny.envs.backends.missions import CELLS, WITH_MISSION
from neoteny.envs.checker import CheckError, check_sequence
from neoteny.envs.checker import main as check
from neoteny.envs.suites import minigrid
from neoteny.envs.suites.missions import LENGTH, VOCABULARY, encode

GRIDS = sorted(i for i in gym.registry if i.startswith(("MiniGrid-", "BabyAI-")))
#: MiniGrid 3.1 comes without the pictures that these are made from: their missions can be asked for, not played.
WITHOUT_PICTURES = "MiniGrid-WFC-"
#: EnvPool 1.2.5 looks for a layout of these for ever.
ENDLESS = "BabyAI-SynthS5R2"
BOTH = ("envpool", "gymnasium")
PRESETS = ("babyai-seq", "minigrid-missions")


def make(env: str, backend: str = "auto", num_envs: int = 1, seed: int = 0, **settings: Any) -> Backend:
    task = Task(env, 1, **{"backend": backend, "mission": "shown", **settings})
    return make_backend(task, num_envs, seed)


def words(observations: np.ndarray) -> list[str]:
    """The words that the ids in observations stand for."""
    return [" ".join(VOCABULARY[i - 1] for i in row if i) for row in observations[:, CELLS:]]


class Says(MiniGridEnv):
    """An empty room, and a mission of one's choice."""

    def __init__(self, mission: str):
        self.said = mission
        super().__init__(MissionSpace(lambda: mission), grid_size=5, max_steps=9)

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.agent_pos, self.agent_dir = (1, 1), 0
        self.mission = self.said


gym.register("Says-v0", Says)


# The vocabulary ---------------------------------------------------------------------------------------------


def test_the_ids_of_words_never_change() -> None:
    """Trained agents know words by their ids: a new word goes to the end."""
    assert hashlib.sha256(" ".join(VOCABULARY[:57]).encode()).hexdigest()[:12] == "04d5e943e39a"
    assert len(set(VOCABULARY)) == len(VOCABULARY) < 256
    assert encode("go to the red ball, then avoid", "").tolist()[:8] == [18, 50, 48, 42, 7, 1, 49, 6]


def every_mission(env_id: str, episodes: int) -> set[str]:
    env = gym.make(env_id).unwrapped
    if env_id.startswith(WITHOUT_PICTURES):
        return {env.observation_space["mission"].sample()}  # type: ignore[index]
    return {env.reset(seed=seed)[0]["mission"] for seed in range(episodes)}


def test_the_vocabulary_has_every_word_of_every_registered_mission_and_no_other() -> None:
    assert len(GRIDS) > 170
    said = set()
    for env in GRIDS:
        for mission in every_mission(env, 8):
            said.update(VOCABULARY[i - 1] for i in encode(mission, env) if i)
    assert set(VOCABULARY) - said <= {"that", "pays", "left", "right", "behind", "front", "object"}


def test_every_mission_of_the_two_goals_too() -> None:
    encode(gym.make("neoteny/TwoGoals-v0").reset()[0]["mission"], "")


def test_the_longest_mission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made of MiniGrid's own sentences: two pairs of orders, each of which moves one object next to another."""
    monkeypatch.setattr(verifier.ObjDesc, "find_matching_objs", lambda self, env: self.obj_set.extend([1, 2]))
    for connect, times in ((verifier.BeforeInstr, "then"), (verifier.AfterInstr, "after")):
        a, b, c, d = (
            verifier.PutNextInstr(*(verifier.ObjDesc("ball", "red", "front") for _ in range(2))) for _ in range(4)
        )
        mission = connect(verifier.AndInstr(a, b), verifier.AndInstr(c, d)).surface(None)
        assert times in mission
        assert (encode(mission, "") != 0).all()
        with pytest.raises(ConfigError, match=rf"at most {LENGTH} words can be shown, Mine has one of {LENGTH + 1}"):
            encode(mission + " now", "Mine")


def test_an_unknown_word_is_named_with_its_environment() -> None:
    task = Task("Says-v0", 9, kwargs={"mission": "go to the balls"}, mission="shown")
    backend = make_backend(task, 2, 0)
    with pytest.raises(ConfigError, match=r"mission: Says-v0 uses the word 'balls'.*did you mean 'ball'"):
        backend.reset()
    env = ContinualVectorEnv(TaskSequence(tasks=(task,)))
    with pytest.raises(ConfigError, match="'balls'"):
        env.reset()


def test_what_has_no_mission_cannot_show_it() -> None:
    for env in ("CartPole-v1", "Acrobot-v1", "MinAtar/Breakout-v1"):
        with pytest.raises(ConfigError, match=f"mission: only MiniGrid's and BabyAI's environments have one, {env}"):
            make(env)


# Both backends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BOTH)
def test_the_picture_and_then_the_words(backend: str) -> None:
    task = {"env": "BabyAI-GoToLocal-v0", "backend": backend, "num_envs": 5, "seed": 3}
    ours, blank, plain = (make(**task, mission=m) for m in ("shown", "blank", "hidden"))  # type: ignore[arg-type]
    seen, blanked, cells = ours.reset(), blank.reset(), plain.reset()
    assert ours.observation_space == blank.observation_space == WITH_MISSION
    assert all(WITH_MISSION.contains(row) for row in seen)
    np.testing.assert_array_equal(seen[:, :CELLS], cells.reshape(5, -1))
    np.testing.assert_array_equal(blanked[:, :CELLS], cells.reshape(5, -1))
    assert not blanked[:, CELLS:].any()
    assert words(seen) == ours.missions() == plain.missions()
    assert len(set(words(seen))) > 1


@pytest.mark.parametrize("backend", BOTH)
def test_a_mission_lasts_for_its_episode(backend: str) -> None:
    """The last observation has the mission of the episode that ends, the next has that of the next."""
    pool = make("MiniGrid-Fetch-5x5-N2-v0", backend, num_envs=8)
    observations = pool.reset()
    said, changed = words(observations), 0
    for step in range(130):
        observations, _, terminated, truncated, *_ = pool.step(np.full(8, step % 3))
        assert words(observations) == said
        if (ended := terminated | truncated).any():
            before = observations.copy()
            pool.reset_where(ended, observations)
            np.testing.assert_array_equal(observations[~ended], before[~ended])
            changed += sum(a != b for a, b in zip(said, words(observations), strict=True))
            said = words(observations)
    assert changed > 3


@pytest.mark.parametrize("env", ["BabyAI-BossLevel-v0", "BabyAI-GoToSeq-v0", "MiniGrid-PutNear-6x6-N2-v0"])
def test_envpools_own_text_stays_as_it_is_read_when_an_episode_begins(env: str) -> None:
    envpool = pytest.importorskip("envpool")
    with closing(make(env, "envpool", num_envs=16)) as ours:
        theirs = envpool.make(env, env_type="gymnasium", num_envs=16, seed=0)
        ours.reset()
        theirs.reset()
        rng, missions, ends = np.random.default_rng(0), ours.missions(), 0
        assert missions is not None
        for _ in range(600):
            actions = rng.integers(7, size=16)
            observations, _, terminated, truncated, *_ = ours.step(actions)
            said = theirs.step(actions)[0]["mission"]
            assert [bytes(text).split(b"\0")[0].decode() for text in said] == missions
            if (ended := terminated | truncated).any():
                ends += ended.sum()
                ours.reset_where(ended, observations)
                theirs.reset(np.flatnonzero(ended).astype(np.int32))
        theirs.close()
        assert ends or "Boss" in env


@pytest.mark.full
@pytest.mark.slow
def test_envpool_uses_the_same_words_everywhere() -> None:
    """Every id; and where Python has few missions, EnvPool has the same."""
    pytest.importorskip("envpool")
    compared = 0
    for env in sorted(envpool_ids() & set(GRIDS)):
        if env.startswith((WITHOUT_PICTURES, ENDLESS)):
            continue
        with closing(make(env, "envpool", num_envs=100)) as pool:
            ours = set(words(pool.reset()))
        theirs = {" ".join(m.replace(",", " ,").split()) for m in every_mission(env, 100 if "Maze" not in env else 8)}
        if len(theirs) <= 6 and len(ours) <= 6:
            compared += 1
            assert ours == theirs, env
    assert compared > 80


# What the words mean ----------------------------------------------------------------------------------------

LEFT, RIGHT, FORWARD, PICKUP, DONE = 0, 1, 2, 3, 6
FREE = (1, 3)  # nothing; floor


def named(picture: np.ndarray, mission: str) -> np.ndarray:
    """Where in the picture what the mission names is: (columns to the right, rows ahead) of each."""
    said = mission.split()
    things = [minigrid.OBJECT_TO_IDX[word] for word in said if word in ("door", "key", "ball", "box")]
    colours = [minigrid.COLOR_TO_IDX[word] for word in said if word in minigrid.COLOR_TO_IDX]
    here = np.isin(picture[..., 0], things) & np.isin(picture[..., 1], colours or range(6))
    return (np.argwhere(here) - (3, 6)) * (1, -1)


def choose(picture: np.ndarray, mission: str, rng: np.random.Generator) -> int:
    """Goes to what the mission names, and picks it up or says that it is there; wanders if it sees none."""
    free = picture[3, 5, 0] in FREE
    places = named(picture, mission)
    if not len(places):
        return FORWARD if free and rng.random() < 0.6 else int(rng.integers(2))
    right, ahead = places[np.abs(places).sum(1).argmin()]
    if (right, ahead) == (0, 1):
        return PICKUP if {"get", "fetch"} & set(mission.split()) else DONE
    if ahead > 0 and free:
        return FORWARD
    return (LEFT if right < 0 else RIGHT) if right else int(rng.integers(2))


def play(env: str, backend: str, blank: bool, episodes: int = 300, num_envs: int = 50) -> np.ndarray:
    """The returns of a script that reads; or, ``blank``, of one that is told another environment's mission."""
    pool = make(env, backend, num_envs, seed=int(blank))
    rng = np.random.default_rng(0)
    observations = pool.reset()
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    totals = np.zeros(num_envs)
    while min(map(len, returns)) < episodes // num_envs:
        told = words(np.roll(observations, 1, axis=0) if blank else observations)
        pictures = observations[:, :CELLS].reshape(-1, *minigrid.SPACE.shape)
        actions = [choose(picture, mission, rng) for picture, mission in zip(pictures, told, strict=True)]
        observations, rewards, terminated, truncated, *_ = pool.step(np.array(actions))
        totals += rewards
        if (ended := terminated | truncated).any():
            for i in np.flatnonzero(ended):
                returns[i].append(totals[i])
            totals[ended] = 0
            pool.reset_where(ended, observations)
    return np.array([mine[: episodes // num_envs] for mine in returns]).ravel()


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        "MiniGrid-GoToDoor-5x5-v0",
        "MiniGrid-Fetch-5x5-N2-v0",
        "MiniGrid-GoToObject-6x6-N2-v0",
        "BabyAI-GoToLocal-v0",
    ],
)
def test_the_words_say_what_pays_in_both_backends_alike(env: str) -> None:
    """By a script that was not trained: EnvPool's missions name what EnvPool pays for, as Python's do."""
    pytest.importorskip("envpool")
    ours, theirs = (play(env, backend, blank=False) for backend in BOTH)
    misled = play(env, "envpool", blank=True)
    assert misled.mean() < 0.75 * ours.mean()
    spread = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
    assert abs(ours.mean() - theirs.mean()) < 3.3 * spread  # by chance in one of a thousand


# Never dropped in silence -----------------------------------------------------------------------------------


def sequence(*envs: str, **settings: Any) -> TaskSequence:
    return TaskSequence(tasks=tuple(Task(env, 100, **settings) for env in envs))


VARYING = ("MiniGrid-GoToDoor-5x5-v0", "MiniGrid-Fetch-5x5-N2-v0", "BabyAI-GoToLocal-v0", "MiniGrid-PutNear-6x6-N2-v0")
CONSTANT = ("MiniGrid-Empty-5x5-v0", "MiniGrid-MemoryS7-v0", "MiniGrid-ObstructedMaze-1Dl-v0", "CartPole-v1")


@pytest.mark.parametrize("backend", ["auto", "gymnasium", "async"])
@pytest.mark.parametrize("env", VARYING)
def test_the_checker_complains_of_a_mission_that_is_dropped(env: str, backend: str) -> None:
    with pytest.raises(CheckError, match=rf"{env}: missions differ.*set the task's mission to shown, or to hidden"):
        check_sequence(sequence("MiniGrid-Empty-5x5-v0", env, backend=backend))
    for mission in ("shown", "hidden", "blank") if backend == "auto" else ():
        check_sequence(sequence("MiniGrid-Empty-5x5-v0", env, mission=mission), steps=3)


@pytest.mark.parametrize("env", [*CONSTANT, "fixed/MiniGrid-Fetch-5x5-N2-v0"])
def test_it_does_not_where_there_is_only_one(env: str) -> None:
    """MiniGrid says of ObstructedMaze's missions that the colour varies. It does not."""
    check_sequence(sequence(env), steps=3)


def test_the_checkers_program_fails(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "doors.yaml").write_text("tasks: [{env: MiniGrid-GoToDoor-5x5-v0, steps: 100}]")
    assert check([str(tmp_path / "doors.yaml")]) == 1
    assert "doors: MiniGrid-GoToDoor-5x5-v0: missions differ" in capsys.readouterr().err


def test_a_run_warns_when_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "neoteny.envs"):
        for mission in ("shown", "hidden", "blank"):
            ContinualVectorEnv(sequence(*VARYING, mission=mission)).close()
        ContinualVectorEnv(sequence("MiniGrid-Empty-5x5-v0", "MiniGrid-MemoryS7-v0")).close()
        assert not caplog.messages
        ContinualVectorEnv(sequence("MiniGrid-Empty-5x5-v0", *VARYING)).close()
    assert [message.split(":")[0] for message in caplog.messages] == list(VARYING)


# Sequences --------------------------------------------------------------------------------------------------


def test_tasks_whose_mission_varies_share_the_space_with_others() -> None:
    env = ContinualVectorEnv(sequence("MiniGrid-Empty-5x5-v0", "MiniGrid-GoToDoor-5x5-v0", mission="shown"), 2)
    assert env.single_observation_space == WITH_MISSION
    seen = {mission for index in (0, 1) for mission in words(env.start(index))}
    assert "get to the green goal square" in seen
    assert len(seen) > 1
    tasks = (Task("MiniGrid-Empty-5x5-v0", 9), Task("MiniGrid-GoToDoor-5x5-v0", 9, mission="shown"))
    with pytest.raises(ConfigError, match="no observation space holds both"):
        ContinualVectorEnv(TaskSequence(tasks=tasks))


def test_the_mission_is_part_of_the_benchmark_and_hiding_it_is_what_was_before() -> None:
    plain = sequence(*VARYING)
    marks = {m: sequence(*VARYING, mission=m).fingerprint() for m in ("shown", "blank", "hidden")}
    assert len({plain.fingerprint(), *marks.values()}) == 3
    assert marks["hidden"] == plain.fingerprint()
    assert TaskSequence.load("minigrid-seq").fingerprint() == "a8c9fae25998"  # of before there were missions


def test_other_values_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"env.tasks.0.mission: .*'shown', 'hidden' or 'blank'"):
        configs.build(
            TaskSequence, {"tasks": [{"env": "MiniGrid-Fetch-5x5-N2-v0", "steps": 9, "mission": "yes"}]}, "env"
        )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_show_missions_that_vary(name: str) -> None:
    for task in TaskSequence.load(name).tasks:
        pool = make(task.env, num_envs=60)
        assert len(set(words(pool.reset()))) > 1 or task.env == "BabyAI-GoToRedBallGrey-v0"
        assert task.mission == "shown"


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_missions_are_as_frequent_in_both_backends(name: str) -> None:
    """Chi-square of two samples of 1,000 missions, more than 3.3 deviates: one in a thousand by chance."""
    pytest.importorskip("envpool")
    for task in TaskSequence.load(name).tasks:
        counts = []
        for backend, seed in zip(BOTH, (1, 2), strict=True):
            pool = make(task.env, backend, 100, seed)
            counts.append(Counter(mission for _ in range(10) for mission in words(pool.reset())))
        table = np.array([[count[m] for count in counts] for m in counts[0] | counts[1]], float)
        statistic = ((table[:, 0] - table[:, 1]) ** 2 / table.sum(1)).sum()
        degrees = len(table) - 1
        assert statistic <= degrees + 3.3 * np.sqrt(2 * degrees), task.env
