"""The Python, YAML and commands of the README and of docs/extending.md do what they say."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from neoteny import configs
from neoteny.plasticity import METHODS
from neoteny.plasticity.optimizers import OPTIMIZERS
from neoteny.runners import continual_rl

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


COMMANDS = re.findall(r"^python runners/continual_rl\.py (.*)$", README.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in COMMANDS if "my-seq" not in command])
def test_command_is_understood(command, capsys):
    assert continual_rl.main([*shlex.split(command), "--print-config"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings.keys() >= {"env", "agent", "reg", "seed"}


@pytest.mark.parametrize("name", sorted({*METHODS, *OPTIMIZERS, *configs.names("regs")} - {"none"}))
def test_every_method_is_documented(name):
    assert f"`{name}`" in (README.parent / "docs" / "methods.md").read_text()
    assert name not in configs.names("regs") or f"`{name}`" in README.read_text()


EXTENDING = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The files of docs/extending.md, each called what its first line says, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for _, code in re.findall(r"```(python|yaml)\n(.*?)```", EXTENDING.read_text(), re.DOTALL):
        first, _, rest = code.partition("\n")
        Path(first.removeprefix("# ")).write_text(rest)
    return tmp_path


def resolved() -> str:
    """The configuration that the only run in the working directory was made with."""
    (config,) = Path("runs").rglob("config.yaml")
    return config.read_text()


@pytest.mark.slow
def test_extending_by_an_environment(examples):
    checker = [sys.executable, "-m", "neoteny.envs.checker", "my-poles.yaml"]
    done = subprocess.run(checker, capture_output=True, text=True, check=True)
    assert "all promises kept" in done.stdout
    printed = program(*"--env my-poles.yaml --agent dqn --steps-per-task 2000 --num-tasks 2".split())
    assert "CartPole-v1+dynamics+noise-observation" in printed
    assert "ramp: 5000" in resolved()


def test_extending_by_a_shift(examples):
    Path("dark.yaml").write_text(
        "tasks: [{env: CartPole-v1, steps: 512, shifts: [{shift: 'my_shift:Blackout', probability: 0.2}]}]"
    )
    assert "CartPole-v1+blackout" in program("--env", "dark.yaml", "--num-envs", "4", "--agent.n_steps", "64")
    assert "probability: 0.2" in resolved()


def test_extending_by_an_agent(examples):
    tiny = "--num-tasks 2 --steps-per-task 512 --agent.n_steps 16 --reg spectral".split()
    program("--env", "cartpole-dynamics", "--agent", "a2c.yaml", *tiny)
    assert "algorithm: my_agent:A2C" in resolved()
    program("--env", "cartpole-dynamics", "--agent", "a2c.yaml", *tiny)  # finished, and read again


def test_extending_by_a_network(examples):
    tiny = "--num-tasks 1 --steps-per-task 1024 --agent.network.encoder my_network:Signs".split()
    program("--env", "cartpole-dynamics", *tiny)
    assert "encoder: my_network:Signs" in resolved()


def test_extending_by_a_method(examples):
    program("--reg", "l1.yaml", "--num-tasks", "1", "--steps-per-task", "512", "--num-envs", "8")
    assert "method: my_method:L1" in resolved()
