"""A run's agent is told of every signalled switch once, whatever the segments, also when the run was stopped at one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from thinning import one_in

from neoteny.agents import PPO
from neoteny.runners import continual_rl
from neoteny.runners.runs import segment

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 256}
  - {env: CartPole-v1, steps: 384}
cycles: 2
"""
SMALL = ["--num-envs", "4", "--agent.n_steps", "32", "--agent.batch_size", "64", "--agent.network.hidden", "[8]"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps done at each call of ``on_switch``."""
    found: list[int] = []
    original = PPO.on_switch

    def on_switch(self: PPO) -> None:
        found.append(self.num_timesteps)
        original(self)

    monkeypatch.setattr(PPO, "on_switch", on_switch)
    return found


def command(folder: Path, switches: str, *more: str) -> list[str]:
    env = folder / "tiny.yaml"
    env.write_text(SEQUENCE + f"switches: {switches}\n")
    return ["--env", str(env), "--segment-steps", "128", "--out", str(folder / "runs"), *SMALL, *more]


@pytest.mark.parametrize(
    ("switches", "more", "expected"),
    [
        ("signalled", [], [256, 640, 896]),
        pytest.param("task-id", [], [256, 640, 896], marks=pytest.mark.full),
        ("hidden", [], []),
        ("signalled", ["--fresh"], []),
        ("hidden", ["--fresh"], []),
    ],
)
def test_once_per_switch(switches: str, more: list[str], expected: list[int], told: list[int], tmp_path: Path) -> None:
    assert continual_rl.main(command(tmp_path, switches, *more)) == 0
    assert told == expected


@pytest.mark.parametrize("first", one_in(5, range(1, 10)))
def test_stopped_after_any_segment(
    first: int, told: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for the process dying."""

    done = []
    original = segment.learn

    def learn(*args: Any) -> Any:
        if len(done) == first:
            raise Killed
        done.append(1)
        return original(*args)

    argv = command(tmp_path, "signalled")
    with monkeypatch.context() as patch:
        patch.setattr("neoteny.runners.runs.reinforcement.learn", learn)
        with pytest.raises(Killed):
            continual_rl.main(argv)
    assert continual_rl.main(argv) == 0
    assert told == [256, 640, 896]


@pytest.mark.parametrize(
    ("switches", "more", "budgets"),
    [
        ("signalled", [], [256, 384, 256, 384]),
        pytest.param("signalled", ["--fresh"], [256, 384, 256, 384], marks=pytest.mark.full),
        ("hidden", [], [1280]),
        ("hidden", ["--fresh"], [256, 384, 256, 384]),
    ],
)
def test_schedules_run_over(
    switches: str, more: list[str], budgets: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    original = PPO.begin_task

    def begin_task(self: PPO, steps: int) -> None:
        begun.append(steps)
        original(self, steps)

    monkeypatch.setattr(PPO, "begin_task", begin_task)
    assert continual_rl.main(command(tmp_path, switches, *more)) == 0
    assert begun == budgets
