"""MaskablePPO behind Continual: actions that a task lacks or an environment forbids are never taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
from counting_env import sequence
from masked_env import FEW, RULED
from stable_baselines3.common.vec_env import VecNormalize
from thinning import some

from neoteny.agents import Continual
from neoteny.envs import ContinualVecEnv, Task
from neoteny.envs.shifts import PermuteAction
from neoteny.plasticity import Spectral
from neoteny.runners import continual_rl


class MaskablePPO(Continual, sb3_contrib.MaskablePPO):
    pass


@pytest.mark.parametrize("normalize", some({"plain": False, "normalized": True}, "normalized"))
def test_it_takes_allowed_actions_only_and_learns_what_is_allowed(normalize: bool) -> None:
    """An environment with rules ends with an error at a forbidden action. Few actions, rules, rules and permuted."""
    tasks = (Task(FEW, 256), Task(RULED, 256), Task(RULED, 2048, shifts=(PermuteAction(),)))
    env: Any = ContinualVecEnv(sequence(*tasks), num_envs=4)
    seen: Any = VecNormalize(env, norm_obs=False) if normalize else env
    agent: Any = MaskablePPO("MlpPolicy", seen, n_steps=32, batch_size=32, learning_rate=3e-3, ent_coef=0.01,
                             reg=Spectral(), seed=0, device="cpu")  # fmt: skip
    taken: list[set[int]] = [set(), set(), set()]
    rewards: list[float] = []

    def look(given: dict[str, Any], _: Any) -> bool:
        taken[env.segment.index] |= set(np.ravel(given["actions"]).tolist())
        rewards.append(float(np.mean(given["rewards"])))
        return True

    agent.learn(2560, callback=look)
    assert taken[0] <= {0, 1, 2, 3, 4}  # the switch comes within a step
    assert taken[2] == {0, 1, 2, 3, 4}
    if not normalize:
        assert np.mean(rewards[-64:]) > 0.9 > 0.6 > np.mean(rewards[128:160])


AGENT = """
import sb3_contrib
from neoteny import Continual


class MaskablePPO(Continual, sb3_contrib.MaskablePPO):
    pass
"""
TASKS = """
tasks:
  - {env: "masked_env:Few-v0", steps: 128}
  - {env: "masked_env:Ruled-v0", steps: 128, shifts: [permute-action]}
"""


@pytest.mark.full
def test_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(AGENT)
    (tmp_path / "masked_env.py").write_text((Path(__file__).parents[1] / "envs" / "masked_env.py").read_text())
    (tmp_path / "rules.yaml").write_text(TASKS)
    options = "--env rules.yaml --agent my_agent:MaskablePPO --agent.n_steps 32 --num-envs 2 --reg spectral".split()
    done = subprocess.run(
        [sys.executable, continual_rl.__file__, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Trained agent" in done.stdout
