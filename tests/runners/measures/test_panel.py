"""Instruments on every algorithm: they change nothing, say what they leave out, and read what others read too."""

from __future__ import annotations

import copy
import logging
import math

import numpy as np
import pytest
import torch
from measured_agents import EVERY, OTHERS, Reader, global_state, learn
from stable_baselines3.common.utils import obs_as_tensor
from thinning import one_in
from torch import Tensor

from neoteny.configs import ConfigError
from neoteny.runners.measures import DEFAULT, GROUPS, chosen, summary
from neoteny.runners.measures.reading import evaluating


def weights(agent) -> dict[str, Tensor]:
    """All that is trained, and what optimizers know of it."""
    found = dict(agent.policy.state_dict())
    for name, optimizer in agent.optimizers().items():
        for i, state in enumerate(optimizer.state_dict()["state"].values()):
            found |= {f"{name}{i}{k}": torch.as_tensor(v) for k, v in state.items() if isinstance(v, (Tensor, float))}
    return found


def can_be_copied(agent) -> bool:
    """Whether nothing is left in the policy that keeps a graph; stable-baselines3's own updates leave such things."""
    try:
        copy.deepcopy(agent.policy)
    except RuntimeError:
        return False
    return True


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", one_in(3, [*EVERY]))
def test_agents_learn_the_same_with_and_without(name):
    plain, _ = learn(EVERY[name], ("none",))
    state = global_state()
    measured, reader = learn(EVERY[name])
    assert global_state() == state
    one, other = weights(plain), weights(measured)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert len(reader.found) >= 3
    assert can_be_copied(measured) is can_be_copied(plain)
    assert not any(m._forward_hooks for m in measured.policy.modules())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", EVERY)
def test_what_is_read(name, caplog):
    with caplog.at_level(logging.WARNING, "neoteny"):
        _, reader = learn(EVERY[name])
    last = reader.found[-1]
    groups = {key.partition("/")[0] for key in last}
    assert groups <= GROUPS.keys()
    assert all(isinstance(value, float) for value in last.values())
    assert all(math.isfinite(value) for key, value in last.items() if not key.startswith("condition"))
    assert {"spectral_norm", "condition_number", "stable_rank", "effective_rank", "frobenius_norm"} <= groups
    messages = caplog.text
    assert len(caplog.records) == len({record.message for record in caplog.records}), "said once"
    if name == "blind":
        assert "Blind not read: this policy is asked for actions only" in messages
        assert groups == {
            g for g in GROUPS if g.endswith(("_norm", "_number", "stable_rank", "effective_rank", "_ratio"))
        }
        assert reader.switch.keys() == {"switch/value_error", "switch/explained_variance"}
        return
    assert {"value/churn", "gradient_diversity/critic"} <= last.keys()
    assert last["value/churn"] > 0
    assert {"feature_rank", "feature_srank", "update_ratio"} <= groups
    deterministic = any(word in name for word in ("TD3", "DDPG"))
    assert ("policy/entropy" in last) is not deterministic
    assert ("policy/entropy" in messages) is deterministic
    assert ("policy/action_churn" in last) is deterministic
    assert ("gradient_diversity/actor" in last) is ("DQN" not in name)
    assert ("policy/churn" in last) is not (deterministic or "DQN" in name)
    assert reader.switch.keys() >= {"switch/value_error", "switch/explained_variance"}
    assert ("switch/entropy" in reader.switch) is not deterministic
    assert ("dormant" in groups) is ("no hidden" not in name)
    if not any(word in name for word in ("odd", "ecurrent", "TD3", "DDPG")):
        assert messages == ""
    if "odd" in name:
        assert "units of features_extractor.linear (what follows is no module of torch's kinds)" in messages
        assert "saturated units of features_extractor.cell" in messages
        assert "dormant/features_extractor.cell" in last


@pytest.mark.parametrize("name", ["our PPO, LayerNorm", "our recurrent PPO", "sb3 CrossQ"])
def test_modes_are_as_before(name):
    agent = EVERY[name]()
    modules = list(agent.policy.modules())
    for i, module in enumerate(modules):
        module.training = i % 3 == 0
    with evaluating(agent.policy):
        assert not any(module.training for module in modules)
    assert [module.training for module in modules] == [i % 3 == 0 for i in range(len(modules))]


def test_reading_is_the_same_twice_and_depends_on_the_seed():
    one, other = (learn(OTHERS["our SAC"])[1] for _ in range(2))
    assert one.found == other.found
    assert one.switch == other.switch


@pytest.mark.parametrize("name", ["our PPO, discrete", "our DQN", "our recurrent PPO"])
def test_no_instruments_read_nothing(name):
    _, reader = learn(OTHERS[name], ("none",))
    assert reader.found == []
    assert reader.switch == {}
    _, reader = learn(OTHERS[name], ("updates",))
    assert {key.partition("/")[0] for key in reader.found[-1]} <= {"update_ratio", "policy", "value"}
    assert reader.switch == {}


def test_names_of_instruments():
    assert chosen(["default"]) == set(DEFAULT) == chosen(DEFAULT)
    assert chosen(["none"]) == chosen([]) == set()
    assert chosen(["default", "switch"]) == set(DEFAULT)
    with pytest.raises(ConfigError, match=r"instruments: 'spektra' is not known; .*did you mean 'spectra'\?"):
        chosen(["spektra"])
    with pytest.raises(ConfigError, match="none: it cannot stand beside others, got none units"):
        chosen(["none", "units"])


def test_units_are_those_that_are_dead():
    """Units of a ReLU network with a large negative bias: dormant and saturated, and no others."""

    def damaged():
        agent = OTHERS["our PPO, discrete"]()
        hidden = agent.policy.mlp_extractor.policy_net[0]
        with torch.no_grad():
            hidden.bias[:3] = -100
        return agent

    agent, reader = learn(damaged)
    passed = agent.policy.mlp_extractor.policy_net[1]
    assert isinstance(passed, torch.nn.Tanh), "a unit at −1 is saturated, not dormant"
    assert reader.found[0]["saturated/mlp_extractor.policy_net.0"] == 3 / 8
    assert reader.found[0]["dormant/mlp_extractor.policy_net.0"] == 0


def test_update_ratio_and_churn_are_those_of_the_updates():
    """By hand: weights and outputs before and after, on observations of the rollout."""

    class ByHand(Reader):
        def _on_rollout_end(self):
            super()._on_rollout_end()
            self.batch = self.panel._look.batch
            policy = self.model.policy
            self.held = {n: p.detach().double().numpy().copy() for n, p in policy.named_parameters() if p.ndim > 1}
            with torch.no_grad():
                self.old = (
                    policy.predict_values(self.batch.observations)[:, 0],
                    policy.get_distribution(self.batch.observations).distribution.probs,
                )

        def _on_rollout_start(self):
            if not self.panel.begun:
                return
            super()._on_rollout_start()
            policy, found = self.model.policy, self.found[-1]
            for name, old in self.held.items():
                new = policy.get_parameter(name).detach().double().numpy()
                ratio = np.linalg.norm(new - old) / np.linalg.norm(old)
                assert found[f"update_ratio/{name.removesuffix('.weight')}"] == pytest.approx(ratio)
            with torch.no_grad():
                value = policy.predict_values(self.batch.observations)[:, 0]
                probs = policy.get_distribution(self.batch.observations).distribution.probs
            assert found["value/churn"] == pytest.approx(float((value - self.old[0]).abs().mean()), rel=1e-5)
            divergence = (self.old[1] * (self.old[1] / probs).log()).sum(1).mean()
            assert found["policy/churn"] == pytest.approx(float(divergence), rel=1e-3, abs=1e-7)
            moved = (self.old[1].argmax(1) != probs.argmax(1)).float().mean()
            assert found["policy/greedy_churn"] == pytest.approx(float(moved))
            assert found["policy/entropy"] == pytest.approx(float(-(probs * probs.log()).sum(1).mean()), rel=1e-5)

        _on_training_end = _on_rollout_start

    agent, reader = OTHERS["our PPO, discrete"](), ByHand()
    agent.learn(96, callback=reader)
    assert len(reader.found) == 3


def test_entropy_of_a_squashed_gaussian_is_that_of_its_samples():
    """Against −log π of many samples by stable-baselines3's distribution."""
    agent, reader = learn(OTHERS["our SAC"], steps=64)
    observations = obs_as_tensor(agent.replay_buffer.observations[:32].reshape(64, 3), "cpu")
    with torch.no_grad():
        mean = np.mean([-float(agent.actor.action_log_prob(observations)[1].mean()) for _ in range(200)])
    assert reader.found[-1]["policy/entropy"] == pytest.approx(mean, abs=0.15)


def test_summary_is_the_worst_of_layers():
    found = {"spectral_norm/a": 2.0, "spectral_norm/b": 3.0, "dormant/a": 0.1, "dormant/b": math.nan}
    row = summary(found | {"feature_rank/a": 4.0, "feature_rank/b": 1.5, "policy/entropy": 0.7, "value/churn": 9.0})
    assert math.isnan(row.pop("dormant_max"))
    assert row == {"spectral_norm_max": 3.0, "feature_rank_min": 1.5, "policy_entropy": 0.7}
    assert summary({}) == {}


def test_an_agent_that_has_diverged_is_read_as_nan():
    class Diverges(Reader):
        def _on_rollout_start(self):
            if self.panel.begun:
                self.model.policy.mlp_extractor.value_net[0].weight.data[0, 0] = torch.nan
                self.found.append(self.panel.end(self.model))

        _on_training_end = _on_rollout_start

    agent, reader = OTHERS["our PPO"](), Diverges()
    agent.learn(32, callback=reader)
    (last,) = reader.found
    for key in ("spectral_norm", "condition_number", "effective_rank", "dormant", "saturated", "update_ratio"):
        assert math.isnan(last[f"{key}/mlp_extractor.value_net.0"])
    assert math.isnan(last["gradient_diversity/critic"])
    assert not math.isnan(last["gradient_diversity/actor"])
