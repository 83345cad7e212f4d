"""Which backend runs a task, and which tasks none can run."""

from __future__ import annotations

import logging
import sys

import gymnasium as gym
import numpy as np
import pytest
from counting_env import ID

from neoteny.envs import ConfigError, ContinualVectorEnv, Task, TaskSequence, backends
from neoteny.envs.backends import (
    AsyncBackend,
    AtariBackend,
    EnvPoolBackend,
    GymnasiumBackend,
    VectorBackend,
    make_backend,
)
from neoteny.envs.shifts import parse_shift

envpool = pytest.importorskip("envpool")

GRAVITY = parse_shift({"shift": "dynamics", "set": {"gravity": 5}})


@pytest.mark.parametrize(
    ("task", "expected", "said"),
    [
        (Task("MiniGrid-Unlock-v0", 1), EnvPoolBackend, ""),
        (Task("MiniGrid-Unlock-v0", 1, backend="gymnasium"), GymnasiumBackend, ""),
        (Task(ID, 1), GymnasiumBackend, f"{ID}: EnvPool does not have it; running it in Python"),
        (
            Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"size": 6}),
            GymnasiumBackend,
            "MiniGrid-Empty-5x5-v0: EnvPool reads kwargs otherwise than Gymnasium; running it in Python",
        ),
        (Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"size": 6}, backend="envpool"), EnvPoolBackend, ""),
        (
            Task("MiniGrid-MultiRoom-N6-v0", 1),
            GymnasiumBackend,
            "MiniGrid-MultiRoom-N6-v0: EnvPool builds other layouts than Gymnasium; running it in Python",
        ),
        (Task("CartPole-v1", 1), EnvPoolBackend, ""),
        (
            Task("CartPole-v1", 1, shifts=(GRAVITY,)),
            VectorBackend,
            "CartPole-v1: EnvPool cannot change its dynamics; running it in its own vector environment",
        ),
        (
            Task("Acrobot-v1", 1, shifts=(parse_shift({"shift": "dynamics", "set": {"LINK_MASS_1": 2}}),)),
            GymnasiumBackend,
            "Acrobot-v1: EnvPool cannot change its dynamics; running it in Python",
        ),
        (
            Task("ALE/Pong-v5", 1),
            AtariBackend,
            "ALE/Pong-v5: EnvPool does not have it; running it in its own vector environment",
        ),
        (Task("Pong-v5", 1, kwargs={"full_action_space": True}), AtariBackend, ""),  # nobody else's id
        (Task("CartPole-v1", 1, backend="vector"), VectorBackend, ""),
        (Task("CartPole-v1", 1, backend="async"), AsyncBackend, ""),
        (Task("counting_env:Counting-v0", 1), GymnasiumBackend, "counting_env:Counting-v0: EnvPool does not have it; "
         "running it in Python"),
    ],
    ids=lambda value: f"{value.env}-{value.backend}" if isinstance(value, Task) else "",
)  # fmt: skip
def test_choice(task: Task, expected: type, said: str, caplog: pytest.LogCaptureFixture) -> None:
    backends._say.cache_clear()  # each line is said once in a process
    with caplog.at_level(logging.INFO, "neoteny.envs"):
        for _ in range(2):
            pool = make_backend(task, 1, 0)
            pool.close()
            assert type(pool) is expected
    assert [record.getMessage() for record in caplog.records] == ([said] if said else [])


def test_kwargs_mean_what_gymnasium_says() -> None:
    """A larger room comes with its longer time limit, which EnvPool would not give it."""
    pool = make_backend(Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"size": 6}), 1, 0)
    pool.reset()
    lengths = next(n for n in range(1, 1000) if pool.step(np.array([6]))[3][0])
    assert lengths == 4 * 6**2


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            Task("MiniGrid-Unlok-v0", 1, backend="envpool"),
            "backend: EnvPool has no 'MiniGrid-Unlok-v0'; did you mean 'MiniGrid-Unlock-v0'?",
        ),
        (
            Task("MiniGrid-Unlok-v0", 1, backend="gymnasium"),
            "env: no environment 'MiniGrid-Unlok-v0' is registered; did you mean 'MiniGrid-Unlock-v0'?",
        ),
        (
            Task("MyMaze-v0", 1),  # a near name may be another's, so both are said
            "env: no environment 'MyMaze-v0' is registered; did you mean 'Maze-v0'? (one of your own is named with its "
            "module, my_env:MyMaze-v0)",
        ),
        (
            Task("Echo-v0", 1),  # the nearest of a thousand names is none that was meant
            "env: no environment 'Echo-v0' is registered (one of your own is named with its module, my_env:Echo-v0)",
        ),
        (
            Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"sise": 6}),
            "kwargs: MiniGrid-Empty-5x5-v0 cannot be made with {'sise': 6}: ",
        ),
        (
            Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"max_steps": 6}, backend="envpool"),
            "kwargs: MiniGrid-Empty-5x5-v0 cannot be made with {'max_steps': 6}: ",
        ),
        (
            Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"agent_view_size": 5}),
            "kwargs: an agent sees (7, 7, 3) cells, here it would be (5, 5, 3)",
        ),
        (
            Task("MiniGrid-Empty-5x5-v0", 1, kwargs={"agent_view_size": 5}, backend="envpool"),
            "kwargs: an agent sees (7, 7, 3) cells, here it would be (5, 5, 3)",
        ),
    ],
)
def test_refused(task: Task, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backend(task, 1, 0)
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------------------------------------------ missing extras


def without(monkeypatch: pytest.MonkeyPatch, *packages: str, users: tuple[str, ...] = ()) -> None:
    """Let ``packages`` be missing, also for the modules ``users``, which are to be imported anew."""
    for name in list(sys.modules):
        if name.startswith(users):
            monkeypatch.delitem(sys.modules, name)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)  # what makes its import fail


@pytest.mark.parametrize(
    ("env", "package", "user", "message"),
    [
        (
            "MinAtar/Breakout-v1", "minatar", "neoteny.envs.suites.minatar",
            "env: 'MinAtar/Breakout-v1' needs the extra 'minatar': pip install 'neoteny[minatar]'",
        ),
        (
            "Meta-World/hammer-v3", "metaworld", "neoteny.envs.suites.metaworld",
            "env: 'Meta-World/hammer-v3' needs the extra 'metaworld': pip install 'neoteny[metaworld]'",
        ),
        (
            "Vizdoom/Basic-v1", "vizdoom", "neoteny.envs.suites.vizdoom",
            "env: 'Vizdoom/Basic-v1' needs the extra 'vizdoom': pip install 'neoteny[vizdoom]'",
        ),
        (
            "Ant-v5", "mujoco", "gymnasium.envs.mujoco",
            "env: 'Ant-v5' needs the extra 'mujoco': pip install 'neoteny[mujoco]'",
        ),
        (
            "ALE/Pong-v5", "ale_py", "ale_py",
            "env: 'ALE/Pong-v5' needs the package 'ale_py', which is not installed",
        ),
    ],
    ids=["minatar", "metaworld", "vizdoom", "mujoco", "ale_py"],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["auto", "async"])
def test_missing_extra(
    env: str, package: str, user: str, message: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, package, users=(user,))
    shifts = (GRAVITY,) if env == "Ant-v5" else ()  # which EnvPool would run
    with pytest.raises(ConfigError) as caught:
        make_backend(Task(env, 1, backend=backend, shifts=shifts), 1, 0)  # type: ignore[arg-type]
    assert str(caught.value) == message


def without_qt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let EnvPool find no Qt, as on a system that lacks it."""
    import envpool.procgen as module

    for name in module._PROCGEN_EXPORTS & set(vars(module)):
        monkeypatch.delattr(module, name)
    missing = ImportError("libQt5Gui.so.5: cannot open shared object file: No such file or directory")
    monkeypatch.setattr(module, "_PROCGEN_IMPORT_ERROR", missing)


def test_missing_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    without_qt(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        make_backend(Task("StarpilotEasy-v0", 1), 1, 0)
    assert str(caught.value) == (
        "env: 'StarpilotEasy-v0' needs the system package 'libqt5gui5': apt-get install libqt5gui5"
    )


def test_another_library_that_is_missing_is_named() -> None:
    """Whatever cannot be imported when an environment is made, the error says so in one line."""

    def make() -> None:
        raise ImportError("libwhatever.so.1: cannot open shared object file")

    gym.register("Unlinked-v0", make)
    with pytest.raises(ConfigError, match=r"^env: Unlinked-v0 cannot be made: libwhatever\.so\.1: cannot open"):
        make_backend(Task("Unlinked-v0", 1), 1, 0)
    del gym.registry["Unlinked-v0"]


class Wrapped(gym.Wrapper):  # type: ignore[type-arg]
    """An environment whose class is a wrapper, as Meta-World's are."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))


def test_a_wrapper_may_be_registered() -> None:
    gym.register("Wrapped-v0", Wrapped)
    ContinualVectorEnv(TaskSequence((Task("Wrapped-v0", 2),)), 2).close()
    del gym.registry["Wrapped-v0"]
