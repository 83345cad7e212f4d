"""Every registered sequence keeps its promises, and has what its name and source say."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from neoteny import configs
from neoteny.envs import ConfigError, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.checker import CheckError, check_sequence
from neoteny.envs.shifts import PermuteObservation

PRESETS = configs.names("envs")
#: Each of its environments compiles a large model, several times over. So cw20, the same twice, is not checked again.
SLOW, AGAIN = "cw10", "cw20"
#: Of each kind one or two. The others are left to `make full`.
CHECKED = {
    "atari-seq-small",
    "babyai-seq",
    "cartpole-offset",
    "dmc-walker-small",
    "minatar-seq-small",
    "minigrid-mg10",
    "minigrid-permute",
    "pendulum-rotate",
    "procgen-seq",
    "slippery-ant-small",
    "vizdoom-seq",
    SLOW,
}
LONG = pytest.mark.skipif("EXPERTS" not in os.environ, reason="takes a minute and a half; make experts runs it")
FAMILIES = {"minigrid", "control", "atari", "minatar", "mujoco", "procgen", "vizdoom"}


def load(name: str) -> TaskSequence:
    """The preset; the test is skipped where the extra or the system package that it needs is not installed."""
    sequence = TaskSequence.load(name)
    try:
        ContinualVectorEnv(sequence.resized(num_tasks=1)).close()
    except ConfigError as error:
        if "needs the extra" not in str(error) and "needs the system package" not in str(error):
            raise
        pytest.skip(str(error))
    return sequence


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(p, marks=[LONG] * (p == SLOW) + [pytest.mark.full] * (p not in CHECKED))
        for p in PRESETS
        if p != AGAIN
    ],
)
def test_preset_passes_the_checker(name: str) -> None:
    sequence = load(name)
    assert check_sequence(sequence, steps=5 if name == SLOW else 20) > 0  # fewer than by default, for time


@pytest.mark.parametrize("name", PRESETS)
def test_preset_names_its_source_and_a_family_of_agents(name: str) -> None:
    sequence = TaskSequence.load(name)
    assert len(sequence.source) > 20
    assert sequence.family in FAMILIES


@pytest.mark.parametrize("name", PRESETS)
def test_the_tasks_of_a_preset_differ(name: str) -> None:
    """Peers have shipped sequences whose tasks were one task: neighbours must differ, or draw anew at each visit."""
    sequence = TaskSequence.load(name)
    if name == "stationary":
        assert len(set(map(repr, sequence.tasks))) == 1
        assert not sequence.tasks[0].shifts
        return
    for one, two in zip(sequence.visits, sequence.visits[1:], strict=False):
        assert one.task != two.task or one.task.shifts


def test_cw20_is_cw10_twice_and_a_task_has_another_entry_when_it_comes_again() -> None:
    ten, twenty = (TaskSequence.load(name) for name in ("cw10", "cw20"))
    assert [visit.task for visit in twenty.visits] == [visit.task for visit in ten.visits] * 2
    told = dataclasses.replace(
        twenty, switches="task-id", tasks=tuple(Task("Pendulum-v1", task.steps) for task in twenty.tasks)
    )  # whose observations are quickly had
    env = ContinualVectorEnv(told, 1)
    entries = np.array([env.start(index)[0, 3:] for index in range(20)])
    np.testing.assert_array_equal(entries, np.eye(20))
    env.close()


def test_c_chain_forgets_its_normalization_where_its_environments_are_made_anew() -> None:
    for env, agent in (("dmc-walker", "ppo-c-chain-mujoco"), ("procgen-levels-chaser", "ppo-c-chain-procgen")):
        assert TaskSequence.load(env).family == agent.rpartition("-")[2]
        assert configs.load("agents", agent)[1]["at_switch"] == {"normalization": "reset"}


@pytest.mark.parametrize("name", ["minigrid-seq", "cartpole-offset", "dmc-walker-small", "slippery-ant-small"])
def test_another_seed_is_another_run(name: str) -> None:
    sequence = load(name)
    one, two = (ContinualVectorEnv(sequence, 4, seed=seed) for seed in (1, 2))
    observations = [[env.start(index) for index in range(2)] for env in (one, two)]
    assert any((a != b).any() for a, b in zip(*observations, strict=True))
    one.close()
    two.close()


# ---------------------------------------------------------------------------------------- the checker can fail


class Unsteady(PermuteObservation):
    """A shift whose draws come from nowhere."""

    def bind(self, site):  # type: ignore[no-untyped-def]
        return super().bind(type(site)(**{**vars(site), "rng": np.random.default_rng()}))


def test_checker_finds_a_draw_without_an_owner() -> None:
    sequence = TaskSequence.load("minigrid-permute")
    task = configs.build(
        type(sequence.tasks[0]), {"env": "MiniGrid-Unlock-v0", "steps": 10, "shifts": [Unsteady()]}, ""
    )
    with pytest.raises(CheckError, match=r"two copies of the same seed differ"):
        check_sequence(TaskSequence(tasks=(task,)))


def test_checker_finds_an_ending_that_is_called_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    step = ContinualVectorEnv.step

    def wrong(self, actions):  # type: ignore[no-untyped-def]
        observations, rewards, terminated, truncated, info = step(self, actions)
        return observations, rewards, terminated | truncated, truncated, info

    monkeypatch.setattr(ContinualVectorEnv, "step", wrong)
    with pytest.raises(CheckError, match="a switch must truncate"):
        check_sequence(TaskSequence.load("minigrid-seq"))


def test_checker_finds_a_switch_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ContinualVectorEnv, "_segment", lambda self, index: self.segments[0])
    with pytest.raises(CheckError):
        check_sequence(TaskSequence.load("minigrid-seq"))


def test_checker_finds_observations_outside_their_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neoteny.envs.interface.Interface.observe", lambda self, observations: observations + 200)
    with pytest.raises(CheckError, match="the observations are not in"):
        check_sequence(TaskSequence.load("minigrid-seq"))
