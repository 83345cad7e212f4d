"""A run that is made longer goes on in its folder, and equals one that was as long from the beginning."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from thinning import some

import neoteny
from neoteny.configs import read_yaml
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.runs.recorder import Recorder

CARTPOLE = """
tasks:
  - {env: CartPole-v1, steps: 256, shifts: [{shift: offset-observation, std: 1}]}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: dynamics, set: {length: {uniform: [0.5, 2]}}, ramp: 200}]}
order: shuffled
cycles: null
"""
PENDULUM = """
tasks: [{env: Pendulum-v1, steps: 256, shifts: [{shift: dynamics, set: {g: {uniform: [4, 9]}}}]}]
cycles: null
"""
HIDDEN = f"{CARTPOLE}switches: hidden\n"
SMALL = "--num-envs 4 --agent.network.hidden [16] --agent.batch_size 32 --segment-steps 160".split()
REPLAY = "--agent.buffer_size 400 --agent.learning_starts 40 --agent.gradient_steps 1 --agent.train_freq 1".split()
PPO = "--agent ppo --agent.n_steps 16 --reg spectral --agent.normalize.observation true".split()
DQN = ["--agent", "dqn", "--reg", "redo", "--reg.every", "20", *REPLAY]
CASES = {
    "ppo": (CARTPOLE, PPO),
    "dqn": (CARTPOLE, DQN),
    "sac": (PENDULUM, ["--agent", "sac", "--reg", "l2-init", *REPLAY]),
    "recurrent-ppo": (CARTPOLE, "--agent recurrent-ppo --agent.n_steps 16 --agent.network.lstm_hidden_size 8".split()),
    "ppo, hidden": (HIDDEN, PPO),
    "dqn, hidden, always as curious": (HIDDEN, [*DQN, "--agent.exploration_initial_eps", "0.05"]),
    "dqn, hidden, fresh": (HIDDEN, [*DQN, "--fresh"]),
}


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def command(tmp_path: Path, case: str, out: str, tasks: int, *more: str) -> tuple[list[str], Path]:
    sequence, options = CASES[case]
    (tmp_path / "tiny.yaml").write_text(sequence)
    argv = ["--env", str(tmp_path / "tiny.yaml"), *SMALL, *options, "--out", str(tmp_path / out)]
    argv += ["--num-tasks", str(tasks), *more]
    return argv, parse(argv, "")[0].folder


def rows(folder: Path, file: str) -> list[dict[str, str]]:
    with (folder / file).open(newline="") as lines:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(lines)]


def saved(folder: Path) -> tuple[dict[str, torch.Tensor], object]:
    """The tensors and the JSON of the last checkpoint's agent."""
    *_, path = sorted((folder / "checkpoints").glob("*.safetensors"))
    with safe_open(path, "pt") as file:
        ((_, text),) = file.metadata().items()
    return load_file(path), json.loads(text)


def assert_same(ours: Path, theirs: Path) -> None:
    for table in ("tasks.csv", "progress.csv"):
        for x, y in zip(rows(ours, table), rows(theirs, table), strict=True):
            assert {k: (x.get(k), y.get(k)) for k in {*x, *y} if x.get(k) != y.get(k)} == {}
    assert read_yaml(ours / "config.yaml") == read_yaml(theirs / "config.yaml") | {"out": str(ours.parents[2])}
    (tensors, settings), (wanted, other) = saved(ours), saved(theirs)
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[key], wanted[key]) for key in tensors)
    assert settings == other


@pytest.mark.parametrize("case", some([*CASES], "sac"))
def test_in_two_steps_or_in_one(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks; two more, killed on the way; and a task more while the one before is still running."""
    argv, whole = command(tmp_path, case, "whole", 5)
    assert continual_rl.main(argv) == 0
    argv, longer = command(tmp_path, case, "longer", 2)
    assert longer.relative_to(tmp_path / "longer") == whole.relative_to(tmp_path / "whole")
    assert continual_rl.main(argv) == 0
    before = rows(longer, "tasks.csv")
    argv, _ = command(tmp_path, case, "longer", 4)
    original = Recorder._on_rollout_end
    with monkeypatch.context() as patch:

        def end(self: Recorder) -> None:
            original(self)
            if self.num_timesteps >= 950:
                raise Killed

        patch.setattr(Recorder, "_on_rollout_end", end)
        with pytest.raises(Killed):
            continual_rl.main(argv)
    argv, _ = command(tmp_path, case, "longer", 5)
    assert continual_rl.main(argv) == 0
    kept = [{key: row[key] for key in before[0]} for row in rows(longer, "tasks.csv")]  # later rows may add columns
    assert kept[:2] == before
    assert_same(longer, whole)


@pytest.mark.full
def test_a_longer_run_of_the_sequences_own_setting(tmp_path: Path) -> None:
    """num_tasks in the file, or as --env.num_tasks, is the same setting."""
    argv, folder = command(tmp_path, "ppo", "runs", 1)
    assert continual_rl.main(argv) == 0
    argv = [*argv[:-2], "--env.num_tasks", "2"]
    assert parse(argv, "")[0].folder == folder
    assert continual_rl.main(argv) == 0
    assert len(rows(folder, "tasks.csv")) == 2


def files(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.name != "lock")


def test_fewer_tasks_than_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, folder = command(tmp_path, "ppo", "runs", 3)
    assert continual_rl.main(argv) == 0
    before = files(folder)
    argv, _ = command(tmp_path, "ppo", "runs", 2)
    assert continual_rl.main(argv) == 2
    assert "--num-tasks: 2 tasks are fewer than" in (said := capsys.readouterr().err)
    assert "(768 steps, 3 tasks to their end)" in said
    assert files(folder) == before


def test_a_run_is_cut_at_a_task_that_is_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, folder = command(tmp_path, "ppo", "runs", 9)
    with monkeypatch.context() as patch:

        def stop(self: Recorder) -> None:
            if self.num_timesteps > 300:
                raise KeyboardInterrupt

        patch.setattr(Recorder, "_on_rollout_end", stop)
        assert continual_rl.main(argv) == 130
    argv, _ = command(tmp_path, "ppo", "runs", 2)
    assert continual_rl.main(argv) == 0
    assert read_yaml(folder / "config.yaml")["env"]["num_tasks"] == len(rows(folder, "tasks.csv")) == 2


def test_exploration_over_all_hidden_tasks_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With more tasks it would have been another from the beginning."""
    CASES["curious"] = (HIDDEN, DQN)
    argv, folder = command(tmp_path, "curious", "runs", 1)
    assert continual_rl.main(argv) == 0
    before = files(folder)
    argv, _ = command(tmp_path, "curious", "runs", 2)
    assert continual_rl.main(argv) == 2
    said = capsys.readouterr().err
    assert "exploration_schedule runs over all 256 steps" in said
    assert "train anew" in said
    assert files(folder) == before


def test_other_settings_are_refused_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, _ = command(tmp_path, "ppo", "runs", 1)
    assert continual_rl.main(argv) == 0
    (tmp_path / "tiny.yaml").write_text(CARTPOLE.replace("std: 1", "std: 2"))
    argv[-1] = "2"
    assert continual_rl.main(argv) == 2
    assert "env.tasks is" in capsys.readouterr().err


def test_other_tasks_of_the_same_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As those that another version draws: they have another fingerprint."""
    argv, folder = command(tmp_path, "ppo", "runs", 1)
    assert continual_rl.main(argv) == 0
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("fingerprint: ", "fingerprint: 0"))
    assert continual_rl.main(argv) == 2
    assert "env.fingerprint is" in capsys.readouterr().err


def test_without_the_last_replay_buffer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As earlier versions left a finished run."""
    argv, folder = command(tmp_path, "dqn", "runs", 1)
    assert continual_rl.main(argv) == 0
    *_, path = sorted((folder / "checkpoints").glob("*.safetensors"))
    neoteny.load_run(folder).agent.save(path)
    state = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({key: state[key] for key in ("segment", "step", "visit")}))
    argv, _ = command(tmp_path, "dqn", "runs", 2)
    assert continual_rl.main(argv) == 2
    assert "has no replay buffer" in capsys.readouterr().err


@pytest.mark.full
def test_a_folder_is_claimed_while_its_settings_are_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, _ = command(tmp_path, "ppo", "runs", 1)
    assert continual_rl.main(argv) == 0
    argv, _ = command(tmp_path, "ppo", "runs", 2)
    codes = []

    def again(self: Recorder) -> None:
        if not codes:
            codes.append(continual_rl.main(argv))

    monkeypatch.setattr(Recorder, "_on_rollout_end", again)
    assert continual_rl.main(argv) == 0
    assert codes == [2]
