"""Runs from their folders: agents that act and learn on as those of the run, kept or of the last checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize
from thinning import some

import neoteny
from neoteny.agents import DQN, PPO
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.runs.recorder import Recorder

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 256}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: offset-observation, std: 1}]}
  - {env: CartPole-v1, steps: 256, shifts: [{shift: dynamics, set: {length: {uniform: [1, 2]}}}]}
"""
SMALL = "--num-envs 4 --agent.network.hidden [16] --agent.batch_size 32 --segment-steps 160".split()
AGENTS = {
    "ppo": "--agent.n_steps 16 --reg spectral --agent.normalize.observation true".split(),
    "dqn": "--agent dqn --agent.buffer_size 500 --agent.learning_starts 40 --reg redo --reg.every 20".split(),
    "recurrent-ppo": "--agent recurrent-ppo --agent.n_steps 16 --agent.network.lstm_hidden_size 8".split(),
}


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


def command(tmp_path: Path, out: str, *options: str) -> tuple[list[str], Path]:
    (tmp_path / "tiny.yaml").write_text(SEQUENCE)
    argv = ["--env", str(tmp_path / "tiny.yaml"), *SMALL, *options, "--out", str(tmp_path / out)]
    return argv, parse(argv, "")[0].folder


def kept(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted((folder / "agents").glob("*"))}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.full
@pytest.mark.parametrize("agent", some([*AGENTS], "dqn"))
def test_agents_are_kept_also_where_a_run_is_killed(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, whole = command(tmp_path, "whole", *AGENTS[agent], "--keep-agents")
    assert continual_rl.main(argv) == 0
    argv, resumed = command(tmp_path, "resumed", *AGENTS[agent], "--keep-agents")
    original = Recorder._on_rollout_end
    with monkeypatch.context() as patch:

        def end(self: Recorder) -> None:
            original(self)
            if self.num_timesteps >= 350:
                raise Killed

        patch.setattr(Recorder, "_on_rollout_end", end)
        with pytest.raises(Killed):
            continual_rl.main(argv)
    assert continual_rl.main(argv) == 0
    first, second = kept(whole), kept(resumed)
    assert list(first) == list(second) == [f"task-{task:04d}.safetensors" for task in (1, 2, 3)]
    assert all(same(first[name], second[name]) for name in first)
    assert not same(first["task-0001.safetensors"], first["task-0002.safetensors"])
    for task in (1, 2, 3):
        assert neoteny.load_run(whole, task=task).agent.num_timesteps == 256 * task


@pytest.mark.parametrize("agent", some([*AGENTS], "recurrent-ppo"))
def test_a_kept_agent_learns_on_as_the_run_did(agent: str, tmp_path: Path) -> None:
    """From the end of task 1, through what the run did in task 2: the same weights, replay buffer included."""
    argv, folder = command(tmp_path, "runs", *AGENTS[agent], "--keep-agents", "--segment-steps", "256")
    assert continual_rl.main(argv) == 0
    experiment, agent_, env = neoteny.load_run(folder, task=1)
    assert isinstance(env.unwrapped, ContinualVecEnv)
    segment = experiment.segments[1]
    agent_.on_switch()
    agent_.begin_task(experiment.budget(segment.visit))
    seed = segment.seed(experiment.run.seed)
    set_random_seed(seed)
    agent_.action_space.seed(seed)
    env.unwrapped.seek(segment.index)
    agent_.set_logger(Logger(None, []))
    agent_.learn(segment.steps, reset_num_timesteps=False)
    wanted = neoteny.load_run(folder, task=2).agent
    assert same(agent_.policy.state_dict(), wanted.policy.state_dict())


def test_what_is_loaded(tmp_path: Path) -> None:
    argv, folder = command(tmp_path, "runs", *AGENTS["ppo"])
    assert continual_rl.main(argv) == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    run = neoteny.load_run(folder)
    assert isinstance(run.agent, PPO)
    assert run.agent.num_timesteps == 768
    assert run.experiment.folder == folder
    assert isinstance(run.env, VecNormalize)
    assert run.env.obs_rms.count > 700
    observations = run.env.reset()
    actions, _ = run.agent.predict(observations)
    assert actions.shape == (4,)
    assert np.isfinite(run.env.step(actions)[0]).all()
    assert before == sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_keeping_is_begun_and_left_off_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, folder = command(tmp_path, "runs", *AGENTS["dqn"])
    original = Recorder._on_rollout_end
    with monkeypatch.context() as patch:

        def end(self: Recorder) -> None:
            original(self)
            if self.num_timesteps >= 350:
                raise KeyboardInterrupt

        patch.setattr(Recorder, "_on_rollout_end", end)
        assert continual_rl.main(argv) == 130
    assert isinstance(neoteny.load_run(folder).agent, DQN)  # of a run that is not done
    assert continual_rl.main([*argv, "--keep-agents"]) == 0
    assert sorted(kept(folder)) == ["task-0002.safetensors", "task-0003.safetensors"]
    with pytest.raises(ConfigError, match="the agent after task 1 is not kept; those after tasks 2, 3 are"):
        neoteny.load_run(folder, task=1)


def test_agents_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, folder = command(tmp_path, "runs", *AGENTS["ppo"])

    def stop(self: Recorder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_rollout_end", stop)
        assert continual_rl.main(argv) == 130
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        neoteny.load_run(folder)
    with pytest.raises(ConfigError, match=r"after task 2 is not kept; none is \(--keep-agents"):
        neoteny.load_run(folder, task=2)
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        neoteny.load_run(tmp_path)


def test_a_checkpoint_that_is_dropped_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the run that goes on: the next one is taken."""
    argv, folder = command(tmp_path, "runs", *AGENTS["ppo"])
    assert continual_rl.main(argv) == 0
    *_, last = sorted((folder / "checkpoints").glob("*.safetensors"))
    original, calls = PPO.load.__func__, []

    def load(cls: type[PPO], path: Path, *args: object, **kwargs: object) -> PPO:
        calls.append(path)
        if len(calls) == 1:
            for suffix in (".safetensors", ".json"):
                last.with_suffix(suffix).rename(last.with_name("segment-0099").with_suffix(suffix))
            state = json.loads((file := last.with_name("segment-0099.json")).read_text())
            file.write_text(json.dumps({"segment": 99, "step": state["step"], "visit": {}}))
        return original(cls, path, *args, **kwargs)

    monkeypatch.setattr(PPO, "load", classmethod(load))
    assert neoteny.load_run(folder).agent.num_timesteps == 768
    assert [path.name for path in calls] == ["segment-0005.safetensors", "segment-0099.safetensors"]


def test_a_damaged_agent_is_not_loaded(tmp_path: Path) -> None:
    """A bit of a weight is other: as an agent the file is as good as any."""
    argv, folder = command(tmp_path, "runs", *AGENTS["ppo"])
    assert continual_rl.main(argv) == 0
    file = max((folder / "checkpoints").glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ConfigError, match=r"segment-0005\.safetensors is damaged"):
        neoteny.load_run(folder)


def test_a_run_of_another_machine(tmp_path: Path) -> None:
    """Its GPU is not here: the agent is loaded all the same, but not onto a device that is asked for."""
    argv, folder = command(tmp_path, "runs", *AGENTS["ppo"])
    assert continual_rl.main(argv) == 0
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("device: auto", "device: cuda:7"))
    run = neoteny.load_run(folder)
    assert run.experiment.run.device == "auto"
    assert run.agent.device == run.experiment.device
    with pytest.raises(ConfigError, match="--device: 'cuda:7' is not there"):
        neoteny.load_run(folder, device="cuda:7")
