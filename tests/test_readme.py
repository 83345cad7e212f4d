"""The Python, YAML and commands of the README do what they say."""

import re
import shlex
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
    assert "MiniGrid-FourRooms-v0 permuted, slip 0.1 #" in capsys.readouterr().out


COMMANDS = re.findall(r"^python runners/continual_rl\.py (.*)$", README.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in COMMANDS if "my" not in command])
def test_command_is_understood(command, capsys):
    assert continual_rl.main([*shlex.split(command), "--print-config"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings.keys() >= {"env", "agent", "reg", "seed"}


@pytest.mark.parametrize("name", sorted({*METHODS, *OPTIMIZERS, *configs.names("regs")} - {"none"}))
def test_every_method_is_documented(name):
    assert f"`{name}`" in (README.parent / "docs" / "methods.md").read_text()
    assert name not in configs.names("regs") or f"`{name}`" in README.read_text()
