"""Settings that no machine can run end in one line that names them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from neoteny import configs
from neoteny.configs import ConfigError, dump_yaml, parse_yaml
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.base import LONGEST, short

REFUSED = {
    "--num-tasks: at most 10,000": "--num-tasks 1000000000",
    "threads: input should be less": "--threads 1000000",
    "learning_rate: input should be a finite": "--agent.learning_rate .inf",
    "agent: cannot be made": "--num-tasks 1 --agent.n_steps 1000000000000",
    "agent: cannot be made with": "--num-tasks 1 --agent.network.hidden [100000,100000,100000]",
    "agent.network.hidden.0: input should be less": "--agent.network.hidden [1000000]",
    "num_envs": "--num-tasks 1 --num-envs 100000000000000",
    "segment-steps: input should be a valid integer": "--segment-steps 1:30",
    "segment-steps: a number is expected, got True": "--segment-steps true",
    "segment-steps: a run has at most 1,000,000": "--steps-per-task 1000000000000000000",
    "agent: cannot be made with these settings: int too big": f"--num-tasks 1 --reg spectral --reg.k {10**30}",
    "network.fourier": "--agent.network.fourier 2",
    "environments need more memory": f"--num-tasks 1 --num-envs {10**30}",
    "reg: method none has no settings, got 3": "--num-tasks 1 --reg.3 4",
}


@pytest.mark.parametrize(("said", "options"), REFUSED.items(), ids=REFUSED)
def test_refused(said: str, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--env", "cartpole-offset", *options.split(), "--out", str(tmp_path / "runs")]
    try:
        code = continual_rl.main(argv)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


BOMB = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '1'] * 9)}]" for i in range(9))


@pytest.mark.parametrize("text", [BOMB, "tasks: &a [*a]", "a: &a {b: *a}", "[" * 100_000])
def test_yaml_that_is_endless(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=r"holds more than|nested too deeply"):
        parse_yaml(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["a: !!bool x", "!!int ''", "a: !!timestamp x", "a: !!binary x", "a: !!set {b}"])
def test_tags_that_do_not_fit(text: str) -> None:
    with pytest.raises((ValueError, yaml.YAMLError)):
        parse_yaml(text)


def test_a_date_is_a_text() -> None:
    assert parse_yaml("source: 2024-02-30") == {"source": "2024-02-30"}


def test_anchors_are_read() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


@pytest.mark.parametrize("text", ["1:30", "1:30:00", "190:20:30.15"])
def test_a_time_is_no_number(text: str) -> None:
    assert parse_yaml(text) == text
    assert parse_yaml(dump_yaml({"a": text})) == {"a": text}


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """(container, path) of every number in nested data, without what an environment's constructor gets."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if type(part) in (int, float):
            yield value, (*path, key)
        elif key != "kwargs":
            yield from numbers(part, (*path, key))


@pytest.mark.parametrize("kind", ["env", "agent", "reg"])
def test_true_is_no_number(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the place of any number of any preset; of places that are alike in one."""
    file = tmp_path / "mine.yaml"
    seen = set()
    for name in configs.names(f"{kind}s"):
        data = configs.load(f"{kind}s", name)[1]
        for container, path in [*numbers(data)]:
            place = (*(key for key in path if isinstance(key, str)), data.get("method"), data.get("algorithm"))
            if place in seen:
                continue
            seen.add(place)
            number = container[path[-1]]
            container[path[-1]] = True
            file.write_text(dump_yaml(data))
            container[path[-1]] = number
            with pytest.raises(SystemExit, match="2"):
                parse([f"--{kind}", str(file), "--out", str(tmp_path)], "")
            assert str(path[-1] if isinstance(path[-1], str) else path[-2]) in capsys.readouterr().err
    assert len(seen) >= 10


@pytest.mark.parametrize("setting", ["network.hidden [true,64]", "optimizer {name:adam,betas:[true,0.9]}"])
def test_true_is_no_number_inside(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    option, value = setting.replace(":", ": ").split(" ", 1)
    with pytest.raises(SystemExit):
        parse(["--env", "cartpole-offset", f"--agent.{option}", value], "")
    assert ".0: a number is expected, got True" in capsys.readouterr().err


def test_a_null_byte_in_a_path() -> None:
    with pytest.raises((ConfigError, SystemExit)):
        parse(["--env", "cartpole-offset", "--out", "a\0b"], "")[0].check()


def test_many_overrides_make_a_name_that_can_be_written(tmp_path: Path) -> None:
    many = " ".join(f"--agent.{key} {value}" for key, value in {
        "n_steps": 64, "batch_size": 64, "n_epochs": 3, "gamma": 0.98, "gae_lambda": 0.93, "clip_range": 0.21,
        "ent_coef": 0.013, "vf_coef": 0.51, "max_grad_norm": 0.52, "learning_rate": 0.00031,
        "network.hidden": "[32,32]", "network.activation": "tanh", "normalize.observation": "true",
        "normalize.reward": "true",
        "at_switch.optimizer": "reset",
    }.items())  # fmt: skip
    argv = ["--env", "cartpole-offset", *many.split(), "--reg", "spectral", "--out", str(tmp_path)]
    one, other = (parse([*argv, "--agent.target_kl", kl], "")[0].folder for kl in ("0.5", "0.6"))
    assert one != other
    one.mkdir(parents=True)
    assert one.parent.name.endswith("-spectral")


def test_short_names_stay_as_they_are() -> None:
    assert short("ppo,n_steps=3") == "ppo,n_steps=3"
    long = "é" * 200
    assert len(short(long).encode()) <= LONGEST
    assert short(long) != short(long + "x")
