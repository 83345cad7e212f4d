"""Methods, metrics and environments of one's own that are not what they should be: said, and by name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from thinning import some

from neoteny.runners import continual_rl

MODULE = """
import dataclasses
from typing import ClassVar
import gymnasium as gym
import numpy as np
import torch
from pydantic.dataclasses import dataclass
from neoteny.plasticity import Method, Penalty

class Value:
    def value(self):
        return sum(p.value.square().sum() for layer in self.layers for p in layer.weights.parts())

class Undecorated(Penalty):
    name = "undecorated"
    strength: float = 0.5

class Untyped(Penalty):
    name = "untyped"
    strength = 0.5

class WithInit(Method):
    name = "with-init"
    def __init__(self, **settings):
        super().__init__(**settings)
        self.x = 1

class Nothing(Method):
    name = "nothing"

@dataclass(kw_only=True, eq=False)
class Fine(Nothing):
    name: ClassVar[str] = "fine"
    more: float = 2.0

class Mixin:
    shared: int = 3

@dataclass(kw_only=True, eq=False)
class Mixed(Mixin, Method):
    name: ClassVar[str] = "mixed"

def tensor(agent):
    return {"x": torch.tensor(2.0), "yes": True, "nan": float("nan")}

def text(agent):
    return {"x": "hello"}

def many(agent):
    return {"x": np.ones(3)}

def number(agent):
    return 3.0

def no_arguments():
    return {}

class Env(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    reward = 1.0
    def __init__(self, render_mode=None):
        self.steps = 0
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample() * 0, {}
    def step(self, action):
        self.steps += 1
        return self.observation_space.sample() * 0, self.reward, self.steps == 8, False, {}

class Large(Env):
    reward = 1e40

class NoFile(Env):
    def __init__(self, render_mode=None):
        open("level.bin")

class NoKey(Env):
    def __init__(self, render_mode=None):
        {}["level"]

class Unclosed(Env):
    def close(self):
        self.window.close()

class Point(Env):
    observation_space = gym.spaces.Box(-1, 1, (), np.float32)

for cls in (Env, Large, NoFile, NoKey, Unclosed, Point):
    gym.register(f"{cls.__name__}-v0", cls)
"""
TINY = "--num-envs 4 --agent.n_steps 16 --agent.batch_size 64 --agent.network.hidden [8]".split()


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_code", raising=False)
    Path("own_code.py").write_text(MODULE)


def run(capsys: pytest.CaptureFixture[str], *argv: str, env: str = "CartPole-v1") -> tuple[int | str | None, str]:
    Path("tiny.yaml").write_text(f"tasks: [{{env: '{env}', steps: 256}}]")
    try:
        code: int | str | None = continual_rl.main(["--env", "tiny.yaml", *TINY, *argv])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Undecorated", "has strength as if they were settings, which takes @dataclass above the class"),
        ("Untyped", "sets strength without a type, which makes no default of it: strength: ... = 0.5"),
        ("WithInit", "has an __init__, which is not called"),
    ],
)
def test_methods_whose_settings_would_not_be_heard(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run(capsys, "--reg", f"own_code:{name}")
    assert (code, f"reg.method: 'own_code:{name}' {said}" in error) == (2, True), error


@pytest.mark.parametrize("name", some(["Nothing", "Fine", "Mixed"], "Mixed"))
def test_methods_that_are_as_they_should_be(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--reg", f"own_code:{name}")[0] == 0


@pytest.mark.parametrize("name", ["text", "many", "number", "no_arguments"])
def test_metrics_that_give_no_numbers_by_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run(capsys, "--metrics", f"own_code:{name}")
    assert code == 2
    assert f"metrics: own_code:{name}: numbers by name are expected of it" in error


def test_what_counts_as_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--metrics", "own_code:tensor")[0] == 0
    (file,) = Path("runs").rglob("progress.csv")
    with file.open(newline="") as lines:
        row = [row for row in csv.DictReader(lines) if row["tensor/x"]][-1]
    assert (row["tensor/x"], row["tensor/yes"], row["tensor/nan"]) == ("2.0", "1.0", "nan")


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        ("Large", 1, "an environment has broken: task 1 (own_code:Large-v0), environment 0"),
        ("NoFile", 2, "env: own_code:NoFile-v0 cannot be made: FileNotFoundError: [Errno 2] No such file"),
        ("NoKey", 2, "env: own_code:NoKey-v0 cannot be made: KeyError: 'level' ("),
        ("Unclosed", 1, "close() raised AttributeError"),
        ("Point", 2, "env: own_code:Point-v0: observations need a dimension, such as (1,); theirs has none"),
    ],
)
def test_environments_that_break(env: str, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, error = run(capsys, env=f"own_code:{env}-v0")
    assert (found, said in error, "Traceback" in error) == (code, True, False), error
