"""The README's Python and YAML do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runners import continual_rl

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=[code.split("\n")[0] for code in PYTHON])
def test_python(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.slow
def test_an_environment_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (text,) = [code for language, code in BLOCKS if language == "yaml"]
    Path("my-seq.yaml").write_text(text)
    argv = "--env my-seq.yaml --reg spectral --num-envs 8 --steps-per-task 512 --num-tasks 2".split()
    assert continual_rl.main(argv) == 0
    assert "MiniGrid-FourRooms-v0+permute-observation" in capsys.readouterr().out


def program(*argv: str) -> str:
    """What the program prints, run as a user would from the working directory."""
    command = [sys.executable, continual_rl.__file__, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_an_environment_in_a_module_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_module.py").write_text(
        "import gymnasium\n"
        "cart_pole = 'gymnasium.envs.classic_control:CartPoleEnv'\n"
        "gymnasium.register('MyEnv-v0', entry_point=cart_pole, max_episode_steps=50)\n"
    )
    Path("mine.yaml").write_text("tasks: [{env: 'my_module:MyEnv-v0', steps: 256}]")
    assert "my_module:MyEnv-v0" in program("--env", "mine.yaml", "--num-envs", "4", "--agent.n_steps", "64")


def test_a_method_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_module.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "import torch\n"
        "from plasticity import Penalty\n\n"
        "@dataclass(kw_only=True, eq=False)\n"
        "class L1(Penalty):\n"
        "    name: ClassVar[str] = 'l1'\n\n"
        "    def value(self):\n"
        "        return torch.stack([p.abs().sum() for p in self.trainable()]).sum()\n"
    )
    Path("l1.yaml").write_text("method: my_module:L1\nstrength: 1.0e-3")
    program("--reg", "l1.yaml", "--num-tasks", "1", "--steps-per-task", "512", "--num-envs", "8")
    assert "method: my_module:L1" in next(Path("runs").rglob("config.yaml")).read_text()
