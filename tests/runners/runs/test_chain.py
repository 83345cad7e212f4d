"""Runs as chains of segments: their files, resuming to the same numbers, and ending well when training diverges."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from thinning import some

from neoteny.agents import PPO
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.runs.recorder import Recorder

SEQUENCE = """
tasks:
  - {env: MiniGrid-Empty-5x5-v0, steps: 512}
  - {env: MiniGrid-LavaGapS5-v0, steps: 512, shifts: [permute-observation]}
cycles: 2
"""
SMALL = ["--num-envs", "8", "--agent.n_steps", "16", "--agent.batch_size", "64", "--agent.network.hidden", "[16]"]


@pytest.fixture
def command(tmp_path):
    """The command line of a run of four tasks in eight segments, and its folder."""
    env = tmp_path / "tiny.yaml"
    env.write_text(SEQUENCE)
    argv = ["--env", str(env), "--reg", "spectral", "--segment-steps", "384", *SMALL]

    def make(out: str, *more: str) -> tuple[list[str], Path]:
        arguments = [*argv, "--out", str(tmp_path / out), *more]
        return arguments, parse(arguments, "")[0].folder

    return make


def numbers(folder: Path, file: str) -> list[dict[str, str]]:
    """The rows of a table, without the columns that tell the time."""
    with (folder / file).open(newline="") as lines:
        return [
            {k: v for k, v in row.items() if "second" not in k and not k.startswith("time/")}
            for row in csv.DictReader(lines)
        ]


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def die_at(monkeypatch, step: int) -> None:
    """Die in the middle of the segment that ``step`` is in, as early as the next rollout."""
    original = Recorder._on_rollout_end

    def end(self):
        original(self)
        if self.num_timesteps >= step:
            raise Killed

    monkeypatch.setattr(Recorder, "_on_rollout_end", end)


@pytest.mark.parametrize("fresh", some({"live": [], "fresh": ["--fresh"]}, "live"))
def test_killed_and_resumed_gives_the_same_numbers(command, monkeypatch, fresh):
    argv, whole = command("whole", *fresh)
    assert continual_rl.main(argv) == 0
    argv, resumed = command("resumed", *fresh)
    for step in (768, 1408):
        with monkeypatch.context() as patch:
            die_at(patch, step)
            with pytest.raises(Killed):
                continual_rl.main(argv)
    assert continual_rl.main(argv) == 0
    for file in ("tasks.csv", "progress.csv"):
        assert numbers(resumed, file) == numbers(whole, file)
    ends = [folder / "checkpoints/segment-0007.safetensors" for folder in (whole, resumed)]
    first, second = map(load_file, ends)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_a_run_leaves(command, capsys):
    argv, folder = command("runs")
    assert continual_rl.main(argv) == 0
    assert "Trained agent" in capsys.readouterr().out
    tasks = numbers(folder, "tasks.csv")
    assert [row["name"] for row in tasks] == [
        "MiniGrid-Empty-5x5-v0",
        "MiniGrid-LavaGapS5-v0 permuted #1",
        "MiniGrid-Empty-5x5-v0",
        "MiniGrid-LavaGapS5-v0 permuted #2",
    ]
    assert [int(row["step"]) for row in tasks] == [512, 1024, 1536, 2048]
    progress = numbers(folder, "progress.csv")
    assert [int(row["step"]) for row in progress] == [384, 512, 896, 1024, 1408, 1536, 1920, 2048]  # ends of segments
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "segment-0006.json",
        "segment-0006.safetensors",
        "segment-0007.json",
        "segment-0007.safetensors",
    ]
    agent = PPO.load(folder / "checkpoints/segment-0007.safetensors")
    assert agent.num_timesteps == 2048
    events = EventAccumulator(str(folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"task/index", "rollout/return_of_ended", "rollout/reward_rate", "train/value_loss"} <= tags
    assert {"actor_layers/spectral_norm/mlp_extractor.policy_net.0", "reg/all/penalty", "time/steps_per_second"} <= tags
    assert [event.value for event in events.Scalars("task/index")][::2] == [0, 1, 2, 3]


def test_the_same_command_again_shows_the_result_and_trains_nothing(command, monkeypatch, capsys):
    argv, folder = command("runs")
    assert continual_rl.main(argv) == 0
    before = (folder / "progress.csv").read_bytes()
    monkeypatch.setattr(PPO, "learn", None)
    assert continual_rl.main(argv) == 0
    assert "MiniGrid-Empty-5x5-v0" in capsys.readouterr().out
    assert (folder / "progress.csv").read_bytes() == before


def test_a_folder_with_other_settings_is_refused(command, capsys):
    argv, folder = command("runs", "--num-tasks", "1")
    assert continual_rl.main(argv) == 0
    before = sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.name != "lock")
    assert continual_rl.main([*argv, "--threads", "2"]) == 2
    assert "threads is 1 there and 2 here" in capsys.readouterr().err
    assert before == sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.name != "lock")


def test_overrides_are_in_the_name(command):
    assert command("runs", "--reg.strength", "3e-4")[1].parts[-2] == (
        "ppo,batch_size=64,n_steps=16,network.hidden=[16],num_envs=8-spectral,strength=0.0003"
    )


def test_divergence_stops_the_run_and_keeps_the_last_good_state(command, monkeypatch, capsys):
    argv, folder = command("runs")
    original = PPO.train

    def train(self):
        original(self)
        if self.num_timesteps > 600:
            self.policy.action_net.weight.data[0, 0] = float("nan")

    monkeypatch.setattr(PPO, "train", train)
    assert continual_rl.main(argv) == 1
    message = capsys.readouterr().err
    assert "action_net.weight" in message
    assert "640 environment steps" in message
    last = folder / "checkpoints/segment-0001.json"
    assert json.loads(last.read_text())["step"] == 512
    assert str(last.with_suffix(".safetensors")) in message
    assert all(
        torch.isfinite(t).all() for t in load_file(last.with_suffix(".safetensors")).values() if t.is_floating_point()
    )


def test_interrupt_leaves_a_resumable_run(command, monkeypatch, capsys):
    argv, folder = command("runs")

    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_rollout_end", interrupt)
        assert continual_rl.main(argv) == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert continual_rl.main(argv) == 0
    assert len(numbers(folder, "tasks.csv")) == 4


def test_precision_and_denormals_are_those_of_the_run(command, capsys):
    argv, _ = command("runs", "--num-tasks", "1", "--precision", "medium")
    torch.set_flush_denormal(False)
    try:
        assert continual_rl.main(argv) == 0
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.full((8,), 1e-30).mul(1e-10).eq(0).all()
    finally:
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("highest")
    assert "Updates:       closed form" in capsys.readouterr().out


def test_a_run_says_that_its_updates_are_stable_baselines3s(command, capsys):
    argv, folder = command("runs", "--num-tasks", "1", "--reg", "redo")
    assert continual_rl.main(argv) == 0
    assert "stable-baselines3's, since a method or a hook watches the passes of" in capsys.readouterr().out
    assert numbers(folder, "tasks.csv")[0]["updates"].startswith("stable-baselines3's, since")
