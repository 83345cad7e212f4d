"""RecurrentPPO: its networks, its memory, its settings, and the methods on its gates."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import torch
from agent_zoo import difference, learned_state, reseed
from gymnasium import spaces
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from thinning import some
from torch import nn

from neoteny import configs
from neoteny.agents import OneHot, RecurrentActorCritic, RecurrentPPO, RecurrentPPOConfig
from neoteny.agents.buffers import BEGINS
from neoteny.agents.recurrent_ppo import packing
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Task, TaskSequence
from neoteny.plasticity import Method, Spectral
from neoteny.runners.experiments import parse, regs
from neoteny.runners.runs import Chain

SETTINGS = {
    "num_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "learning_rate": 3e-3,
    "network": {"hidden": [8], "lstm_hidden_size": 12},
}  # fmt: skip
CRITICS = {
    "own": {"shared_lstm": False, "enable_critic_lstm": True},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "none": {"shared_lstm": False, "enable_critic_lstm": False},
}


class Recall(gym.Env[Any, Any]):
    """A sign is shown in the first step and is to be said in the third; the other two show nothing."""

    observation_space = spaces.Box(0, 2, (1,), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.sign = 0, int(self.np_random.integers(2))
        return np.array([1 + self.sign], np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        right = self.steps == 3 and int(action) == self.sign
        return np.zeros(1, np.uint8), float(right), self.steps == 3, False, {}


class Wordy(Recall):
    """The same, in a dict."""

    observation_space = spaces.Dict({"sign": Recall.observation_space, "nothing": spaces.Box(-1, 1, (2,))})

    @staticmethod
    def _told(sign: Any) -> dict[str, Any]:
        return {"sign": sign, "nothing": np.zeros(2, np.float32)}

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        return self._told(super().reset(**kwargs)[0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        sign, *rest = super().step(action)
        return self._told(sign), *rest


def config_of(**more: Any) -> RecurrentPPOConfig:
    return configs.build(RecurrentPPOConfig, SETTINGS | more, "agent")


def agent_of(env: Any = None, reg: Any = None, **more: Any) -> RecurrentPPO:
    config = config_of(**more)
    env = env or DummyVecEnv([Recall] * config.num_envs)
    return RecurrentPPO(env=env, **config.arguments(), reg=reg, seed=0, device="cpu")


def two_tasks(**settings: Any) -> ContinualVecEnv:
    tasks = tuple(Task(f"MiniGrid-{name}-v0", 256) for name in ("MemoryS7", "Empty-5x5"))
    return ContinualVecEnv(TaskSequence(tasks=tasks), num_envs=4, seed=0, **settings)


# Networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic", CRITICS)
def test_encoder_lstm_hidden_layers_head(critic: str) -> None:
    network = {"hidden": [8, 6], "lstm_hidden_size": 12, "n_lstm_layers": 2, "layer_norm": "critic", **CRITICS[critic]}
    policy = agent_of(two_tasks(), network=network).policy
    assert isinstance(policy.features_extractor, OneHot)
    assert policy.features_extractor.features_dim == 980
    assert (policy.lstm_actor.input_size, policy.lstm_actor.hidden_size, policy.lstm_actor.num_layers) == (980, 12, 2)
    assert (policy.lstm_critic is not None) == (critic == "own")
    assert isinstance(policy.critic, nn.Linear) == (critic == "none")
    for role, kinds in (("policy", [nn.Linear, nn.ReLU]), ("value", [nn.Linear, nn.LayerNorm, nn.ReLU])):
        torso = policy.get_submodule(f"mlp_extractor.{role}_net")
        assert [type(layer) for layer in torso] == kinds * 2
        assert [(m.in_features, m.out_features) for m in torso if isinstance(m, nn.Linear)] == [(12, 8), (8, 6)]
    assert policy.action_net.in_features == policy.value_net.in_features == 6


@pytest.mark.parametrize("critic", CRITICS)
def test_roles_heads_and_coverage_name_the_lstms(critic: str) -> None:
    agent = agent_of(reg={"actor": Spectral(), "critic": Spectral()}, network=SETTINGS["network"] | CRITICS[critic])
    assert agent.heads() == {"action_net", "value_net"}
    mine = {key: {layer.name for layer in method.layers} for key, method in agent.methods.items()}
    gates = itertools.product(("ih", "hh"), "ifgo")
    names = {f".weight_{side}_l0.{gate}" for side, gate in gates}
    actor = {f"lstm_actor{name}" for name in names} | {"mlp_extractor.policy_net.0"}
    before = {"own": {f"lstm_critic{name}" for name in names}, "shared": set(), "none": {"critic"}}[critic]
    assert mine == {"actor": actor, "critic": before | {"mlp_extractor.value_net.0"}}
    assert set(agent.coverage().values()) == {"acted on", "output head"}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("env", [Recall, Wordy], ids=["array", "dict"])
def test_batches_without_padding_teach_what_sb3_contribs_padded_ones_do(env: Any, critic: str, layers: int) -> None:
    """Episodes of three steps in rollouts of eight: sequences of one to three steps, some of them begun before.

    Compared are the gradients of two rollouts, five minibatches each, the last one smaller: all but the first are of
    weights that have moved.
    """
    network = {"hidden": [8], "lstm_hidden_size": 12, "n_lstm_layers": layers, **CRITICS[critic]}
    config = config_of(n_steps=8, batch_size=7, n_epochs=1, network=network)
    gradients = []
    for algorithm in (RecurrentPPO, sb3_contrib.RecurrentPPO):
        settings = config.arguments()
        if algorithm is not RecurrentPPO:
            settings |= {"policy": RecurrentActorCritic}
            del settings["at_switch"]
        agent: Any = algorithm(env=DummyVecEnv([env] * 4), **settings, seed=0, device="cpu")
        found: list[float] = []
        step = agent.policy.optimizer.step

        def watched(step: Any = step, agent: Any = agent, found: list[float] = found) -> None:
            found.extend(float(p.grad.norm()) for p in agent.policy.parameters() if p.grad is not None)
            step()

        agent.policy.optimizer.step = watched
        reseed(0)
        agent.learn(64)
        gradients.append(found)
    assert len(gradients[0]) > 60
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-6)


def test_packing_by_hand() -> None:
    order, sizes, by_length = packing(torch.tensor([1, 3, 2]))  # a; b c d; e f
    assert order.tolist() == [1, 4, 0, 2, 5, 3]
    assert sizes.tolist() == [3, 2, 1]
    assert by_length.tolist() == [1, 2, 0]


def test_batches_hold_no_padding_and_clear_what_an_episode_begins_without() -> None:
    agent = agent_of(n_steps=7, batch_size=10)
    agent.learn(56)
    sizes = []
    for batch in agent.rollout_buffer.get(10):
        begins = (batch.episode_starts == BEGINS).nonzero().flatten()
        sizes.append(len(batch.observations))
        hidden = batch.lstm_states.pi[0]
        assert hidden.shape == (1, len(begins), 12)
        assert set(batch.episode_starts.tolist()) == {0, BEGINS}
        assert begins.diff().max() <= 3
        shown = batch.observations[begins].flatten() > 0  # the first step of an episode shows a sign
        assert (hidden[0][shown] == 0).all()
        assert (hidden[0][~shown].abs().sum(1) > 0).all()
    assert sizes == [10, 10, 8]


# Memory -----------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("reg", some({"plain": None, "spectral": Spectral(strength=1e-3)}, "spectral"))
@pytest.mark.parametrize("critic", CRITICS)
def test_it_recalls_what_it_saw(critic: str, reg: Method | None) -> None:
    """Without memory half the episodes are won."""
    network = {"hidden": [], "lstm_hidden_size": 16, **CRITICS[critic]}
    agent = agent_of(reg=reg, num_envs=16, batch_size=128, n_epochs=8, learning_rate=1e-2, target_kl=None,
                     network=network)  # fmt: skip
    agent.learn(12_000)
    score, _ = evaluate_policy(agent, DummyVecEnv([Recall]), n_eval_episodes=50, warn=False)
    assert score > 0.95


@pytest.mark.parametrize("critic", CRITICS)
def test_nothing_of_an_episode_or_a_task_is_left_in_the_next(critic: str) -> None:
    """The same observation at the start of an episode gives the same outputs, whatever the LSTM held."""
    agent = agent_of(two_tasks(), network=SETTINGS["network"] | CRITICS[critic])
    agent.learn(256)  # up to the switch
    held = agent._last_lstm_states
    assert all(state.abs().sum() > 0 for part in held for state in part)
    first = torch.as_tensor(agent.env.reset())
    start, zeros = torch.ones(4), RNNStates(*(tuple(torch.zeros_like(s) for s in part) for part in held))
    found = [agent.policy.evaluate_actions(first, torch.zeros(4), states, start)[1] for states in (held, zeros)]
    assert torch.equal(*found)
    assert not torch.equal(found[0], agent.policy.evaluate_actions(first, torch.zeros(4), held, 0 * start)[1])


@pytest.mark.parametrize("segments", [False, True], ids=["within learn", "by segments"])
def test_a_switch_starts_an_episode(segments: bool) -> None:
    """The steps after a switch are marked as first ones, in a rollout and between two calls of learn."""
    agent = agent_of(two_tasks(advance=not segments), n_steps=48)
    if segments:
        agent.learn(192)
        agent.env.seek(1)
        agent._last_obs = None
        agent.learn(192, reset_num_timesteps=False)
        first = 0
    else:
        agent.learn(384)
        first = 64 - 48
    starts = agent.rollout_buffer.episode_starts.reshape(4, 48)  # flattened to (environments · steps) when learned from
    assert (starts[:, first] == 1).all()
    assert starts.sum() < starts.size


def test_what_it_held_before_a_segment_does_not_bear_on_it() -> None:
    """A loaded agent has zeros there, one that goes on has not: both learn the same, bit for bit."""
    agents = [agent_of() for _ in range(2)]
    for agent in agents:
        reseed(0)
        agent.learn(64)
    states = agents[1]._last_lstm_states
    agents[1]._last_lstm_states = RNNStates(*(tuple(torch.full_like(s, 7.0) for s in part) for part in states))
    for agent in agents:
        agent._last_obs = None
        reseed(1)
        agent.env.seed(1)
        agent.learn(128, reset_num_timesteps=False)
    assert difference(*map(learned_state, agents)) is None


# Methods ----------------------------------------------------------------------------------------------------


UNITS = ("continual-backprop", "layer-reset", "redo", "self-normalized-resets")
PLASTIC = [name for name in configs.names("regs") if "method" in configs.load("regs", name)[1]]


@pytest.mark.parametrize("name", some(configs.names("regs"), "redo", "layer-norm"))
def test_every_preset_trains_with_it(name: str, tmp_path: Path) -> None:
    """In a run, with a switch."""
    (tmp_path / "tiny.yaml").write_text("tasks: [{env: CartPole-v1, steps: 128}]\ncycles: 2")
    argv = f"--agent recurrent-ppo --env {tmp_path}/tiny.yaml --reg {name} --num-envs 4 --agent.n_steps 16 "
    argv += f"--agent.batch_size 32 --agent.network.lstm_hidden_size 8 --out {tmp_path}"
    experiment, _ = parse(argv.split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        chain = Chain(experiment)
        chain.run()
    assert len(chain.folder.tasks) == 2


@pytest.mark.filterwarnings("ignore:.*does not support:UserWarning")
@pytest.mark.parametrize("name", [name for name in PLASTIC if name not in ("none", "plasticity-injection")])
def test_it_acts_on_every_gate_or_says_why_not(name: str) -> None:
    """Methods that act on units leave the LSTM alone, and act on the hidden layers behind it."""
    agent = agent_of(reg=regs.build(regs.split(configs.load("regs", name)[1])[0]))
    said = agent.coverage()
    expected = "units of LSTM" if name in UNITS else "acted on"
    assert {what for layer, what in said.items() if "lstm" in layer} == {expected}
    assert {what for layer, what in said.items() if "extractor" in layer} == {"acted on"}


@pytest.mark.full
@pytest.mark.slow
def test_a_large_strength_brings_every_gate_to_one() -> None:
    """By singular value decomposition; two layers, of actor and critic."""
    network = {"hidden": [16], "lstm_hidden_size": 16, "n_lstm_layers": 2}
    agent = agent_of(reg=Spectral(strength=30.0), network=network, target_kl=None)
    agent.lr_schedule = lambda left: 3e-3 * left  # at a constant one Adam jitters by a few percent
    before, _ = gates(agent), agent.learn(6400)
    after = gates(agent)
    assert len(after) == 32
    assert any(abs(sigma - 1) > 0.2 for sigma in before.values())
    assert {name: sigma for name, sigma in after.items() if abs(sigma - 1) > 0.03} == {}


def gates(agent: RecurrentPPO) -> dict[str, float]:
    weights = {name: p for name, p in agent.policy.named_parameters() if "lstm" in name and "weight" in name}
    return {
        f"{name}.{gate}": torch.linalg.svdvals(part)[0].item()
        for name, weight in weights.items()
        for gate, part in zip("ifgo", weight.detach().chunk(4), strict=True)
    }


# Settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": {"shared_lstm": True}}, r"agent\.network: shared_lstm: the critic cannot share"),
        ({"network": {"lstm_size": 3}}, r"agent\.network\.lstm_size: there is no such setting.*'lstm_hidden_size'"),
        ({"network": {"n_lstm_layers": 0}}, r"agent\.network\.n_lstm_layers: .*greater than 0, got 0"),
        ({"batch_size": 9}, r"agent\.batch_size: of a rollout of 64 steps, batches of 9 leave one step alone"),
        ({"clip_range_vf": 0}, r"agent\.clip_range_vf: .*greater than 0, got 0"),
    ],
)
def test_settings_that_cannot_be_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**given)


def test_settings_reach_the_algorithm() -> None:
    agent = agent_of(clip_range_vf=0.3, target_kl=0.1)
    assert isinstance(agent, sb3_contrib.RecurrentPPO)
    assert agent.clip_range_vf(1.0) == 0.3
    agent.learn(64)
    assert agent.logger.name_to_value["train/clip_range_vf"] == 0.3
    strict = agent_of(target_kl=1e-9).learn(128)
    assert strict._n_updates == 2  # one epoch of each rollout, and stop
