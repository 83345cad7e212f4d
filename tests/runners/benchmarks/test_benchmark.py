"""The benchmarks, run on very small budgets."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.progress import Progress

from neoteny.agents import AGENTS
from neoteny.runners import benchmark
from neoteny.runners.benchmarks import agents, backends, instruments, methods, timing

#: Settings of an agent with which a slice of 64 steps is short, and the updates (PPO: epochs) that belong to it.
SMALL = {
    "ppo": {"n_steps": 16, "batch_size": 32, "n_epochs": 3, "target_kl": 1e-9},
    "dqn": {"buffer_size": 256, "train_freq": 2, "gradient_steps": 3},
}
SMALL_UPDATES = {"ppo": 3, "dqn": 64 // 8 * 3}


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo"])
def test_benchmark_of_agents(tmp_path, agent):
    numbers = tmp_path / "numbers.json"
    arguments = ["--agent", agent, "--rounds", "1", "--num-envs", "8", "--json", str(numbers)]
    command = [sys.executable, benchmark.__file__, *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    contenders = json.loads(numbers.read_text())["contenders"]
    assert set(contenders) == {
        "neoteny",
        "sb3, Python MiniGrid",
        "sb3, our EnvPool backend",
        "neoteny + spectral",
        "neoteny + spectral by autograd",
    }
    assert all(name in shown for name in contenders)
    assert contenders["neoteny"]["ratio"] == 1


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_contenders_do_the_same_work(agent):
    """Stock and ours: the same settings, networks of the same shape, and as many updates in a slice."""
    config = replace(AGENTS[agent].Config(), num_envs=4, **SMALL[agent])
    makers = agents.contenders(agent, "MiniGrid-DoorKey-5x5-v0", 4, config)
    updates, shapes = {}, {}
    for name in ("neoteny", "sb3, Python MiniGrid", "sb3, our EnvPool backend"):
        made = makers[name]()
        train = agents.training(made, 64)
        assert train() == 64 + getattr(config, "buffer_size", 0)
        before = made._n_updates
        assert train() == 64
        updates[name] = made._n_updates - before
        shapes[name] = sorted(tuple(p.shape) for p in made.policy.parameters())
        assert getattr(made, "exploration_rate", 0.05) == 0.05
    assert set(updates.values()) == {SMALL_UPDATES[agent]}
    assert shapes["neoteny"] == shapes["sb3, Python MiniGrid"] == shapes["sb3, our EnvPool backend"]


def test_benchmark_of_backends(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(backends, "SLICE", 0.01)
    numbers = tmp_path / "numbers.json"
    argv = ["--backends", "CartPole-v1", "WalkerWalk-v1", "--rounds", "1", "--num-envs", "2", "--json", str(numbers)]
    assert benchmark.main(argv) == 0
    found = json.loads(numbers.read_text())["environments"]
    assert list(found["CartPole-v1"]) == ["SyncVectorEnv", "envpool", "vector", "gymnasium", "async"]
    assert found["CartPole-v1"]["SyncVectorEnv"]["ratio"] == 1
    assert all(contender["steps_per_second"] > 0 for contender in found["CartPole-v1"].values())
    assert list(found["WalkerWalk-v1"]) == ["envpool"]
    assert "ratio" not in found["WalkerWalk-v1"]["envpool"]
    assert "WalkerWalk-v1: no SyncVectorEnv" in capsys.readouterr().out


@pytest.mark.full
def test_benchmark_of_methods(tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    argv = ["--methods", "spectral", "redo", "--widths", "4", "8", "--rounds", "1", "--json", str(numbers)]
    assert benchmark.main(argv) == 0
    found = json.loads(numbers.read_text())["methods"]
    assert {name: list(by_width) for name, by_width in found.items()} == {"spectral": ["4", "8"], "redo": ["4", "8"]}
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("spectral", "redo", "width 4", "width 8", "%"))


@pytest.mark.full
def test_benchmark_of_instruments(tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    argv = ["--instruments", "--agent", "ppo-control", "--widths", "4", "8", "--rounds", "1", "--steps", "1024"]
    assert benchmark.main([*argv, "--json", str(numbers)]) == 0
    found = json.loads(numbers.read_text())["instruments"]
    assert {steps: list(widths) for steps, widths in found.items()} == {"1024": ["4", "8"]}
    inside = [each["inside"]["ratio"] for widths in found.values() for each in widths.values()]
    assert all(1.001 < ratio < 2 for ratio in inside)
    shown = capsys.readouterr().out
    assert all(
        text in shown for text in ("--instruments default", "ppo-control", "cartpole-dynamics", "1,024", "width 8")
    )
    assert shown.count("inside looks") == 2


def test_seconds_inside_looks_are_those_of_their_slice():
    now = 0.0

    def work(seconds: float, *steps: int) -> int:
        nonlocal now
        now += seconds
        return sum(steps)

    inside = instruments.Inside(lambda: now)
    look = inside.timed(work)
    first, second = (inside.noted(str(s), lambda s=s: work(8) + look(s, 4)) for s in (2, 6))
    assert [first(), second(), first()] == [4, 4, 4]
    assert inside.slices == {"2": [0.5, 0.5], "6": [1.5]}
    assert (inside.total, now) == (10, 34)
    before = instruments.Panel.begin
    with inside.watching():
        assert instruments.Panel.begin is not before
    assert instruments.Panel.begin is before


def test_runs_with_and_without_instruments_differ_in_these_only(tmp_path):
    slices = instruments.contenders("ppo-control", 4, 1024, 2, ("spectra",), str(tmp_path))
    assert [learn() for learn in slices.values() for _ in range(2)] == [1024] * 4
    settings = {name: next(iter((tmp_path / name).rglob("config.yaml"))).read_text().splitlines() for name in slices}
    odd = set(settings["on"]) ^ set(settings["off"])
    assert odd == {"- none", "- spectra", f"out: {tmp_path}/on", f"out: {tmp_path}/off"}


def test_methods_that_act_rarely_are_timed_at_rest_and_in_action():
    slices, shares = methods.contenders(["none", "l2", "redo", "continual-backprop"], 4)
    assert list(slices) == ["none", "l2", "redo, acting", "redo", "continual-backprop"]
    assert shares == {"redo": 32 / 1000}  # updates in a slice, updates between two recyclings


def test_costs_are_those_of_one_method_at_a_time(capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--methods", "spectral+redo"])
    assert stop.value.code == 2
    assert "one method at a time" in capsys.readouterr().err


def test_rare_events_count_as_often_as_they_happen():
    seconds = {"none": [1.0, 2.0], "redo": [1.1, 2.0], "redo, acting": [1.5, 4.0], "l2": [2.0, 3.0]}
    found = methods.ratios({k: np.array(v) for k, v in seconds.items()}, {"redo": 0.1})
    assert {name: values.tolist() for name, values in found.items()} == {
        "none": [1, 1],
        "redo": pytest.approx([1.1 + 0.04, 1 + 0.1]),
        "l2": [2, 1.5],
    }


def test_measure_takes_turns_and_counts_steps():
    order = []

    def taking(name: str, seconds: float, steps: int):
        def work() -> int:
            order.append(name)
            time.sleep(seconds)
            return steps

        return work

    with Progress(disable=True) as progress:
        seconds = timing.measure({"a": taking("a", 0.02, 10), "b": taking("b", 0.0, 1)}, 2, progress)
    assert order == ["b", "a", "a", "b", "b", "a"]  # the first round warms up
    assert seconds["a"].shape == seconds["b"].shape == (2,)
    assert seconds["a"].min() >= 0.002
    assert seconds["a"].max() < 0.02


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--agent", "dqm"], "--agent: 'dqm' is not known; choose from dqn, dqn-atari"),
        (["--env-id", "MiniGrid-DoorKey-5x5-v9"], "--env-id: no environment 'MiniGrid-DoorKey-5x5-v9' is registered"),
        (["--agent", "recurrent-ppo"], "'recurrent-ppo' is not known; choose from dqn, ppo, sac"),
        (["--backends", "CartPole-v2"], "did you mean 'CartPole-v1'?"),
        (["--instruments", "--agent", "ppo-atari"], "--agent: 'ppo-atari' is not known; choose from dqn, dqn-control"),
        (["--instruments", "spektra"], "did you mean 'spectra'?"),
        (["--steps", "0"], "--steps: at least 1 is needed, got 0"),
        (["--rounds", "0"], "--rounds: at least 1 is needed, got 0"),
        (["--num-envs", "-3"], "--num-envs: at least 1 is needed, got -3"),
    ],
    ids=["agent", "env-id", "algorithm", "backends", "no-sequence", "instruments", "steps", "rounds", "num-envs"],
)
def test_benchmark_refuses(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.slow
def test_agents_are_compared_on_other_environments_and_widths(tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    argv = ["--agent", "ppo-control", "--env-id", "CartPole-v1", "--widths", "4", "8", "--rounds", "1"]
    assert benchmark.main([*argv, "--json", str(numbers)]) == 0
    found = json.loads(numbers.read_text())["widths"]
    assert ["hidden layers [4, 4]" in each["title"] for each in found] == [True, False]
    assert "sb3, Python MiniGrid" not in found[0]["contenders"]
    assert benchmark.main(["--agent", "sac", "--env-id", "Pendulum-v1", "--widths", "8", "--rounds", "1"]) == 0
    assert "SAC on Pendulum-v1" in capsys.readouterr().out
