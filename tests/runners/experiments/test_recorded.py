"""The way back from config.yaml: the same experiment, for everything that can be trained; and errors that help."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from neoteny import configs
from neoteny.configs import ConfigError, dump_yaml, parse_yaml
from neoteny.runners.experiments import from_plain, parse, read_experiment

#: What the code was not written for: files, classes and words of one's own.
OTHERS = {
    "draws": """
tasks:
  - env: CartPole-v1
    steps: 1e3
    shifts:
      - {shift: dynamics, set: {gravity: {uniform: [4, 9]}, masscart: {choice: [1, 2.5]}}, ramp: 300}
      - {shift: dynamics, set: {force_mag: {per-seed: [[1, 2], [3, 4e1]]}}}
num_tasks: 2
""",
    "words that look like numbers": """
tasks: [{env: MiniGrid-Empty-5x5-v0, steps: 1e3, kwargs: {size: 7, render_mode: null}}]
source: "1e5"
""",
    "own shift": 'tasks: [{env: CartPole-v1, steps: 512, shifts: [{shift: "my_shift_:Blackout", probability: 0.2}]}]',
}  # fmt: skip
CLASSES = {
    "own agent": ["--env", "cartpole-dynamics", "--agent", "my_agent_:A2C", "--agent.n_steps", "16", "--reg", "l2"],
    "own method": ["--reg", "spectral+my_method_:L1", "--reg.methods.L1.strength", "1e-4"],
    "own encoder": ["--env", "cartpole-dynamics", "--agent.network.encoder", "my_method_:Signs"],
    "own metric": ["--metrics", "my_method_:weight_norm"],
}
OPTIONS = {
    "roles": ["--reg", "spectral", "--reg.critic.strength", "0", "--fresh", "--seed", "7"],
    "no critic": ["--reg", "spectral+l2", "--reg.critic", "null"],
    "numbers": ["--agent.max_grad_norm", ".inf", "--agent.learning_rate", "1e-5", "--agent.target_kl", "null"],
    "optimizer": ["--agent.optimizer", "{name: muon}", "--reg", "l2", "--timeout", "3"],
    "budgets": ["--steps-per-task", "1e4", "--num-tasks", "3", "--out", "some/where"],
    "hidden": ["--env", "cartpole-dynamics", "--agent", "dqn", "--env.switches", "hidden"],
    "others' agent": ["--env", "cartpole-dynamics", "--agent", "my_agent_:Quantiles"],
    **CLASSES,
}
MODULES = {
    "my_shift_": """
from dataclasses import dataclass
from neoteny.envs import Shift, Transform

@dataclass(frozen=True)
class Blackout(Shift):
    name = "blackout"
    probability: float = 0.1

    def bind(self, site):
        return Transform()
""",
    "my_agent_": """
import sb3_contrib, stable_baselines3
from neoteny import Continual

class A2C(Continual, stable_baselines3.A2C):
    pass

class Quantiles(Continual, sb3_contrib.QRDQN):
    pass
""",
    "my_method_": """
from dataclasses import dataclass
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from neoteny.plasticity import Penalty

@dataclass(kw_only=True, eq=False)
class L1(Penalty):
    name = "l1"

    def value(self):
        return torch.stack([p.abs().sum() for p in self.trainable()]).sum()

class Signs(FlattenExtractor):
    pass

def weight_norm(agent):
    return {}
""",
}


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


def there_and_back(argv: list[str]) -> None:
    experiment, _ = parse(argv, "")
    data = parse_yaml(dump_yaml(experiment.plain))
    again = from_plain(data)
    assert data == experiment.plain == again.plain
    assert again.sequence == experiment.sequence
    assert again.sequence.fingerprint() == experiment.sequence.fingerprint()
    assert again.algorithm is experiment.algorithm
    assert (again.agent, again.run, again.labels) == (experiment.agent, experiment.run, experiment.labels)
    assert again.folder == experiment.folder
    assert again.segments == experiment.segments


@pytest.mark.parametrize("reg", configs.names("regs"))
def test_every_reg(reg: str) -> None:
    there_and_back(["--reg", reg])


@pytest.mark.parametrize("env", configs.names("envs"))
def test_every_sequence(env: str) -> None:
    there_and_back(["--env", env])


@pytest.mark.parametrize("agent", configs.names("agents"))
def test_every_agent(agent: str) -> None:
    there_and_back(["--env", "cartpole-dynamics", "--agent", agent])


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_sequences_of_ones_own(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    there_and_back(["--env", str(tmp_path / "mine.yaml"), "--seed", "1"])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_settings(options: list[str]) -> None:
    there_and_back(options)


def test_only_labels_and_the_run_say_where_it_is() -> None:
    """So that a folder can be moved, and its config.yaml still be read."""
    experiment, _ = parse(["--out", "here", "--reg", "l2"], "")
    moved = from_plain({**experiment.plain, "out": "there"})
    assert moved.folder == Path("there") / experiment.folder.relative_to("here")


def recorded(tmp_path: Path, options: list[str], **changes: Any) -> Path:
    """A folder with the config.yaml of these options, and of ``changes``."""
    experiment, _ = parse(options, "")
    folder = tmp_path / "runs" / "env" / "agent" / "seed-0"
    folder.mkdir(parents=True)
    data = {**experiment.plain, **changes}
    (folder / "config.yaml").write_text(dump_yaml({key: value for key, value in data.items() if value is not None}))
    return folder


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    folder = recorded(tmp_path, [])
    with pytest.raises(ConfigError, match=f"{tmp_path} is not the folder of a run.* there are runs in {folder}"):
        read_experiment(tmp_path)
    with pytest.raises(ConfigError, match="nowhere is not the folder of a run"):
        read_experiment(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, "labels: these settings are missing"),
        ({"env": None}, "env: these settings are missing"),
        ({"treads": 2}, "treads: there is no such setting; did you mean 'threads'"),
        ({"threads": "many"}, "run.threads: .*'many'"),
        ({"reg": {"method": "spectal"}}, "reg.method: .*did you mean 'spectral'"),
    ],
)
def test_a_run_of_another_version(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = recorded(tmp_path, [], **changes)
    with pytest.raises(ConfigError, match=rf"config.yaml: {said}.* another version of Neoteny"):
        read_experiment(folder)


def test_other_tasks_than_the_fingerprints(tmp_path: Path) -> None:
    experiment, _ = parse([], "")
    env = {**experiment.plain["env"], "seed": 5}
    with pytest.raises(ConfigError, match=f"fingerprint: {experiment.sequence.fingerprint()} is not that of"):
        read_experiment(recorded(tmp_path, [], env=env))


def test_settings_that_came_later_have_their_defaults(tmp_path: Path) -> None:
    found = read_experiment(recorded(tmp_path, ["--seed", "3"], metrics=None, timeout=None))
    assert found.run == dataclasses.replace(found.run, seed=3, metrics=(), timeout=300.0)


@pytest.mark.parametrize(
    ("options", "module"), [(CLASSES["own agent"], "my_agent_"), (CLASSES["own method"], "my_method_")]
)
def test_a_class_that_cannot_be_imported_is_named(
    options: list[str], module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded(tmp_path, options)
    (tmp_path / f"{module}.py").unlink()
    monkeypatch.delitem(__import__("sys").modules, module)
    with pytest.raises(ConfigError, match=f"{module}:.* cannot be imported .*PYTHONPATH"):
        read_experiment(folder)
