"""A broken environment ends a run with exit code 1, a message and no traceback, at the last good checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neoteny.runners import continual_rl

SEQUENCE = """
tasks:
  - {{env: "broken_env:Broken-v0", steps: 256, backend: {backend}, kwargs: {{real: {real}}}}}
  - {{env: "broken_env:Broken-v0", steps: 2048, backend: {backend}, kwargs: {{real: {real}, way: {way}, at: 45}}}}
"""
PLACE = "task 2 (broken_env:Broken-v0 way {way} at 45), environment 0, step 90, step 45 of its episode: "
SMALL = ["--reg", "none", "--agent.num_envs", "2", "--agent.network.hidden", "[8]"]
AGENTS = {
    "ppo": ["--agent", "ppo", "--agent.n_steps", "64", "--agent.batch_size", "64"],
    "dqn": ["--agent", "dqn", "--agent.learning_starts", "32", "--agent.batch_size", "16"],
    "sac": ["--agent", "sac", "--agent.learning_starts", "32", "--agent.batch_size", "16"],
}


def run(tmp_path: Path, agent: str, way: str, backend: str, *more: str) -> int:
    file = tmp_path / "broken.yaml"
    file.write_text(SEQUENCE.format(way=way, backend=backend, real=str(agent == "sac").lower()))
    return continual_rl.main(["--env", str(file), "--out", str(tmp_path / "runs"), *SMALL, *AGENTS[agent], *more])


@pytest.mark.parametrize(
    ("agent", "way", "backend", "said"),
    [
        ("ppo", "nan", "gymnasium", "the observation is NaN in entry 1"),
        pytest.param("dqn", "nan", "gymnasium", "the observation is NaN in entry 1", marks=pytest.mark.full),
        pytest.param("sac", "nan", "gymnasium", "the observation is NaN in entry 1", marks=pytest.mark.full),
        ("ppo", "reward", "gymnasium", "the reward is NaN"),
        ("dqn", "shape", "async", "the observation has the shape (2,), its space has (3,)"),
        ("ppo", "exit", "async", "its process has ended, with exit code 7"),
        pytest.param("dqn", "hang", "async", "no answer within 2 seconds", marks=[pytest.mark.slow, pytest.mark.full]),
    ],
)
def test_a_broken_environment_ends_the_run(
    tmp_path: Path, capfd: Any, agent: str, way: str, backend: str, said: str
) -> None:
    assert run(tmp_path, agent, way, backend, "--timeout", "2") == 1
    error = capfd.readouterr().err
    place = PLACE.format(way=way)
    assert f"continual_rl.py: an environment has broken: {place}{said}\nThe last good state is " in error
    assert "Traceback" not in error
    good = Path(error.split("The last good state is ")[1].split("\n")[0])
    assert good.exists()
    assert run(tmp_path, agent, way, backend, "--timeout", "3") == 1  # goes on from there, to the same end
    assert place + said.replace("2 seconds", "3 seconds") in capfd.readouterr().err


def test_normalized_observations_are_checked_before_they_are_normalized(tmp_path: Path, capfd: Any) -> None:
    more = ["--agent.normalize.observation", "true", "--agent.normalize.reward", "true"]
    assert run(tmp_path, "ppo", "infinite", "gymnasium", *more) == 1
    assert f"{PLACE.format(way='infinite')}the observation is -inf in entry 2" in capfd.readouterr().err
