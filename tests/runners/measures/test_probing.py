"""The probe of agents: each kind of network is found and cut right, and agent and generators stay as they are."""

from __future__ import annotations

import copy
import csv
import logging
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from safetensors.torch import load_file
from stable_baselines3.common.policies import ActorCriticPolicy
from thinning import some
from torch import nn

from neoteny import DQN, PPO, SAC, Continual
from neoteny.agents import RecurrentPPO
from neoteny.plasticity import PlasticityInjection, ReDo
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.measures import probing
from neoteny.runners.measures.probing import OBSERVATIONS, RUN, Prober, Unrolled, encoded, networks, probe_agent
from neoteny.runners.runs.recorder import Recorder


class Shown(gym.Env[Any, Any]):
    """Shows whatever its space has; the reward is 0, and episodes take 20 steps."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        self.observation_space, self.action_space, self.steps = observation_space, action_space, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), 0.0, self.steps == 20, False, {}

    def action_masks(self) -> Any:
        return np.ones(3, bool)


VECTOR = spaces.Box(-1, 1, (5,))
CELLS = spaces.Box(0, np.tile(np.array([10, 5, 2], np.uint8), (7, 7, 1)), dtype=np.uint8)
PICTURE = spaces.Box(0, 255, (40, 40, 3), np.uint8)
DICT = spaces.Dict(a=VECTOR, b=spaces.Box(-1, 1, (2,)))
CHOICE, MOVES = spaces.Discrete(3), spaces.Box(-1, 1, (2,))


def behind(algorithm: type) -> Any:
    return type(f"My{algorithm.__name__}", (Continual, algorithm), {})


#: Algorithm, policy, observations, actions, roles that have a number.
KINDS: dict[str, tuple[Any, str, Any, Any, set[str]]] = {
    "ppo": (PPO, "ActorCritic", VECTOR, CHOICE, {"actor", "critic"}),
    "ppo-mlp": (PPO, "MlpPolicy", VECTOR, MOVES, {"actor", "critic"}),
    "ppo-cells": (PPO, "ActorCritic", CELLS, CHOICE, {"actor", "critic"}),
    "ppo-cnn": (PPO, "CnnPolicy", PICTURE, CHOICE, {"actor", "critic"}),
    "ppo-dict": (PPO, "MultiInputPolicy", DICT, CHOICE, {"actor", "critic"}),
    "recurrent": (RecurrentPPO, "RecurrentActorCritic", VECTOR, CHOICE, {"actor", "critic"}),
    "recurrent-cells": (RecurrentPPO, "RecurrentActorCritic", CELLS, CHOICE, {"actor", "critic"}),
    "dqn": (DQN, "QPolicy", VECTOR, CHOICE, {"critic"}),
    "sac": (SAC, "SoftActorCritic", VECTOR, MOVES, {"actor", "critic"}),
    "a2c": (behind(sb3.A2C), "MlpPolicy", VECTOR, CHOICE, {"actor", "critic"}),
    "td3": (behind(sb3.TD3), "MlpPolicy", VECTOR, MOVES, {"actor", "critic"}),
    "ddpg": (behind(sb3.DDPG), "MlpPolicy", VECTOR, MOVES, {"actor", "critic"}),
    "qrdqn": (behind(sb3_contrib.QRDQN), "MlpPolicy", VECTOR, CHOICE, {"critic"}),
    "tqc": (behind(sb3_contrib.TQC), "MlpPolicy", VECTOR, MOVES, {"actor", "critic"}),
    "crossq": (behind(sb3_contrib.CrossQ), "MlpPolicy", VECTOR, MOVES, {"actor", "critic"}),
    "trpo": (behind(sb3_contrib.TRPO), "MlpPolicy", VECTOR, CHOICE, {"actor", "critic"}),
    "maskable": (behind(sb3_contrib.MaskablePPO), "MlpPolicy", VECTOR, CHOICE, {"actor", "critic"}),
}


def make(kind: str, **more: Any) -> Any:
    algorithm, policy, observation, action, _ = KINDS[kind]
    kwargs = {"net_arch": [32, 32]} | more.pop("policy_kwargs", {})
    if algorithm is RecurrentPPO:
        kwargs["lstm_hidden_size"] = 32
    return algorithm(policy, Shown(observation, action), policy_kwargs=kwargs, seed=0, device="cpu", **more)


def observations(agent: Any, n: int = OBSERVATIONS) -> Any:
    agent.observation_space.seed(5)
    samples = [agent.observation_space.sample() for _ in range(n)]
    if isinstance(samples[0], dict):
        return {key: np.stack([one[key] for one in samples]) for key in samples[0]}
    return np.stack(samples)


def everything(agent: Any) -> list[Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    optimizers = [copy.deepcopy(o.state_dict()) for o in agent.optimizers().values()]
    methods = [method.state_dict() for method in agent.methods.values()]
    return [
        {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}, optimizers, methods,
        torch.get_rng_state(), kind, keys, rest, random.getstate(), agent.policy.training, torch.is_grad_enabled(),
    ]  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor | np.ndarray):
        return bool((torch.as_tensor(one) == torch.as_tensor(other)).all())
    return bool(one == other)


@pytest.mark.parametrize(
    "kind",
    some([*KINDS], "ppo-dict", "recurrent", "dqn", "sac"),
)
def test_every_kind_is_probed_and_left_as_it_was(kind: str) -> None:
    agent = make(kind)
    state = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    before = everything(agent)
    found = probe_agent(agent, state, observations(agent), seed=1)
    assert same(before, everything(agent))
    expected = {f"{role}{end}" for role in KINDS[kind][-1] for end in ("", "_scale_free", "_own_head")}
    assert found.keys() == expected
    assert all(0.4 < value < 2.5 for value in found.values())  # it is fresh
    assert found == probe_agent(agent, state, observations(agent), seed=1)


@pytest.mark.parametrize(
    "kind", some(["ppo", "ppo-cells", "dqn", "sac", "qrdqn", "recurrent", "td3"], "ppo-cells", "sac", "qrdqn")
)
def test_killed_units_are_seen_in_the_network_they_are_in(kind: str) -> None:
    agent = make(kind)
    healthy = probe_agent(agent, agent.policy.state_dict(), observations(agent), seed=1)
    for damaged in KINDS[kind][-1]:
        state = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
        split = networks(agent.policy, torch.zeros(1, 2))[damaged]
        hurt = {id(p) for p in split.torso.parameters()}
        for name, parameter in agent.policy.named_parameters():
            if id(parameter) in hurt and len(parameter) == 32:
                state[name][:28] = 0
        found = probe_agent(agent, state, observations(agent), seed=1)
        for role in KINDS[kind][-1]:
            if role == damaged:
                assert found[role] > 1.2 * healthy[role]
            else:
                assert found[role] == healthy[role]


@torch.no_grad()
def test_the_parts_together_compute_what_the_agent_does() -> None:
    for kind in ("ppo", "ppo-cells", "ppo-cnn", "ppo-dict", "a2c", "trpo"):
        agent = make(kind)
        seen, _ = agent.policy.obs_to_tensor(observations(agent))
        inputs = probing.preprocess_obs(seen, agent.observation_space)
        parts = networks(agent.policy, torch.zeros(1))
        torch.testing.assert_close(
            parts["actor"](inputs).log_softmax(1), agent.policy.get_distribution(seen).distribution.logits
        )
        torch.testing.assert_close(parts["critic"](inputs), agent.policy.predict_values(seen))
    for kind, net in (("dqn", "q_net"), ("qrdqn", "quantile_net")):
        agent = make(kind)
        seen, _ = agent.policy.obs_to_tensor(observations(agent))
        theirs = getattr(agent.policy, net)(seen)
        torch.testing.assert_close(networks(agent.policy, torch.zeros(1))["critic"](seen).view_as(theirs), theirs)
    for kind in ("sac", "td3", "crossq"):
        agent, actions = make(kind), torch.rand(OBSERVATIONS, 2)
        agent.policy.set_training_mode(False)
        seen, _ = agent.policy.obs_to_tensor(observations(agent))
        parts = networks(agent.policy, actions)
        torch.testing.assert_close(parts["critic"](seen), agent.policy.critic(seen, actions)[0])
        torch.testing.assert_close(
            parts["actor"](seen).tanh(), agent.policy.actor(seen, **({"deterministic": True} if kind != "td3" else {}))
        )


@pytest.mark.parametrize("layers", [1, 2])
def test_an_unrolled_lstm_is_torchs(layers: int) -> None:
    lstm, features = nn.LSTM(5, 7, layers), torch.randn(3 * RUN, 5)
    theirs = torch.cat([lstm(run[:, None])[0][:, 0] for run in features.split(RUN)])
    torch.testing.assert_close(Unrolled(lstm)(features), theirs)


@pytest.mark.parametrize("lstm", [{"shared_lstm": True, "enable_critic_lstm": False}, {"enable_critic_lstm": False}])
def test_critics_without_an_lstm_of_their_own(lstm: dict[str, bool]) -> None:
    agent = make("recurrent", policy_kwargs=lstm)
    assert set(probe_agent(agent, agent.policy.state_dict(), observations(agent), 1)) >= {"actor", "critic"}


@torch.no_grad()
def test_encoders_without_weights_are_computed_once() -> None:
    for kind in ("ppo-cells", "recurrent-cells"):
        agent = make(kind)
        parts = [networks(agent.policy, torch.zeros(1)) for _ in range(2)]
        inputs = torch.as_tensor(observations(agent))
        expected = parts[0]["actor"](inputs)
        width = parts[1]["actor"].torso[0].features_dim
        features = encoded([parts[1]["actor"]], inputs)
        assert features.shape[1] < width
        torch.testing.assert_close(parts[1]["actor"](features), expected)


class Odd(ActorCriticPolicy):
    """Its hidden layers are not where stable-baselines3 has them."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        self.mlp_extractor.own = self.mlp_extractor.value_net
        del self.mlp_extractor.value_net
        self.mlp_extractor.forward_critic = self.mlp_extractor.own.forward  # type: ignore[method-assign]


def test_what_is_not_found_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_said", set())
    agent = PPO(Odd, Shown(VECTOR, CHOICE), policy_kwargs={"net_arch": [8]}, device="cpu")
    with caplog.at_level(logging.WARNING, "neoteny"):
        for _ in range(2):
            found = probe_agent(agent, agent.policy.state_dict(), observations(agent), 1)
    assert {name.split("_")[0] for name in found} == {"actor"}
    assert [record.message for record in caplog.records] == [
        "the probe leaves out the critic: it is not found in a Odd"
    ]


def test_a_head_that_was_injected_into_is_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_said", set())
    agent = make("ppo", reg={"critic": PlasticityInjection(every=0)})
    agent.on_switch()
    found = probe_agent(agent, agent.policy.state_dict(), observations(agent), 1)
    assert found.keys() == {"actor", "actor_scale_free", "actor_own_head", "critic", "critic_scale_free"}
    assert "critic's own head" in caplog.text


def test_methods_that_watch_passes_see_none_of_the_probes() -> None:
    agent = make("ppo", reg=ReDo(every=10), n_steps=32, batch_size=32)
    agent.learn(64)
    before = everything(agent)
    probe_agent(agent, agent.policy.state_dict(), observations(agent), 1)
    assert same(before, everything(agent))


# While a task begins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "stride"), [(1, 16), (8, 2), (64, 1)])
def test_observations_are_spread_over_the_beginning(count: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        probing, "probe_agent", lambda agent, state, observations, seed: seen.append(observations) or {}
    )
    agent = make("ppo")
    agent.n_envs = count
    prober = Prober(agent, 0)
    for step in range(100 * stride):
        agent._last_obs = np.array([[step, env] for env in range(count)])
        prober.step()
    assert [one.tolist() for one in seen] == [[[i * stride, i % count] for i in range(OBSERVATIONS)]]


def test_recurrent_networks_get_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        probing, "probe_agent", lambda agent, state, observations, seed: seen.append(observations) or {}
    )
    agent = make("recurrent")
    agent.n_envs = 4
    prober = Prober(agent, 0)
    for step in range(1000):
        agent._last_obs = np.array([[step, env] for env in range(4)])
        prober.step()
    runs = seen[0].reshape(-1, RUN, 2)
    assert (np.diff(runs[:, :, 0]) == 1).all()
    assert (np.diff(runs[:, :, 1]) == 0).all()
    assert runs[:, 0, 1].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_too_few_observations_are_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_said", set())
    agent = make("ppo")
    agent._last_obs = np.zeros((1, 5))
    prober = Prober(agent, 0)
    prober.step()
    prober.finish()
    assert prober.found == {}
    assert "the probe needs 16 observations of a task, there were 1" in caplog.text


SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 512}
  - {env: CartPole-v1, steps: 512, shifts: [{shift: offset-observation, std: 2}]}
cycles: 2
"""
SETTINGS = {
    "ppo": ["--num-envs", "4", "--agent.n_steps", "32", "--agent.batch_size", "64", "--agent.network.hidden", "[16]"],
    "dqn": ["--num-envs", "1", "--agent.learning_starts", "50", "--agent.network.hidden", "[16]"],
    "recurrent-ppo": ["--num-envs", "4", "--agent.n_steps", "32", "--agent.batch_size", "64"],
}


def run(folder: Path, agent: str, *more: str) -> tuple[list[str], Path]:
    env = folder / "tiny.yaml"
    env.write_text(SEQUENCE)
    argv = ["--env", str(env), "--agent", agent, *SETTINGS[agent], "--reg", "shrink-and-perturb"]
    argv += ["--segment-steps", "384", *more]
    return argv, parse(argv, "")[0].folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tasks.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((folder / "checkpoints").glob("*.safetensors"))[-1])


@pytest.mark.full
@pytest.mark.parametrize("agent", some([*SETTINGS], "dqn"))
def test_a_run_is_bit_for_bit_the_same_with_the_probe(agent: str, tmp_path: Path) -> None:
    folders = {}
    for probe in ("on", "off"):
        argv, folders[probe] = run(tmp_path, agent, "--probe", probe, "--out", str(tmp_path / probe))
        assert continual_rl.main(argv) == 0
    on, off = (weights(folder) for folder in folders.values())
    assert same(on, off)
    probed = [{k: v for k, v in row.items() if k.startswith("probe_")} for row in rows(folders["on"])]
    assert [{k: v for k, v in row.items() if not k.startswith("probe_")} for row in rows(folders["on"])] == rows(
        folders["off"]
    )
    assert all(float(row["probe_critic"]) > 0 for row in probed)
    assert len({row["probe_critic"] for row in probed}) == 4
    with (folders["on"] / "progress.csv").open(newline="") as file:
        logged = [row["probe/critic"] for row in csv.DictReader(file) if row["probe/critic"]]
    assert logged == [row["probe_critic"] for row in probed]


@pytest.mark.full
def test_a_run_that_was_stopped_has_the_same_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Stands for the process dying."""

    argv, whole = run(tmp_path, "ppo", "--probe", "on", "--out", str(tmp_path / "whole"))
    assert continual_rl.main(argv) == 0
    argv, stopped = run(tmp_path, "ppo", "--probe", "on", "--out", str(tmp_path / "stopped"))
    original = Recorder._on_rollout_end
    for step in (64, 448, 960):  # before the probe, after it in a later segment, and in another task

        def end(self: Any, step: int = step) -> None:
            original(self)
            if self.num_timesteps >= step:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "_on_rollout_end", end)
            with pytest.raises(Killed):
                continual_rl.main(argv)
    assert continual_rl.main(argv) == 0
    assert rows(stopped) == rows(whole)


@pytest.mark.parametrize(
    ("budget", "given", "probes"),
    [
        ("999_999", [], False),
        ("1_000_000", [], True),
        ("10", ["--probe", "on"], True),
        ("1e7", ["--probe", "off"], False),
    ],
)
def test_by_default_only_long_tasks_are_probed(budget: str, given: list[str], probes: bool) -> None:
    experiment, _ = parse(["--env", "stationary", "--steps-per-task", budget, *given], "")
    assert [experiment.probes(visit) for visit in experiment.sequence.visits[:2]] == [probes] * 2
