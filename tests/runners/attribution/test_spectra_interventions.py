"""Rescaled layers keep the form, fresh vectors the spectrum: against numpy and the networks themselves."""

import numpy as np
import pytest
import torch
from agent_zoo import CASES, PPO
from interventions_cases import MAKERS, trained
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from neoteny import agents
from neoteny.runners.attribution.interventions import INTERVENTIONS
from neoteny.runners.attribution.parts import tensors


def sigma(tensor):
    return np.linalg.svd(tensor.detach().double().numpy().reshape(len(tensor), -1), compute_uv=False)


def relu_ppo(seed=0, **policy):
    kwargs = {"net_arch": [16, 16], "activation_fn": nn.ReLU, **policy}
    case = CASES["ppo"]
    return case.ours("ActorCritic", case.env, **(PPO | {"policy_kwargs": kwargs, "device": "cpu", "seed": seed}))


def hidden(agent):
    """Names of hidden matrices, by stable-baselines3's names."""
    last = "2" if "cnn" in " ".join(tensors(agent)) else "4"  # with one hidden layer, or two
    heads = ("action_net", "value_net.", "actor.mu", "actor.log_std", f"q_net.q_net.{last}")
    heads += tuple(f"{net}.{last}" for net in ("quantile_net.quantile_net", "critic.qf0", "critic.qf1"))
    return [n for n, t in tensors(agent).items() if t.ndim > 1 and "_target" not in n and not n.startswith(heads)]


def push(agent):
    """Weights and biases like those of an agent that has learned for long: large, and biased."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for i, (_, p) in enumerate(agent.policy.named_parameters()):
            p.add_(torch.randn(p.shape, generator=generator) * (0.3 if p.ndim > 1 else 0.5)).mul_(1 + i % 3)


@torch.no_grad()
def outputs(agent, observations):
    """What the heads get and what the network gives, of actor and critic."""
    policy = agent.policy
    if isinstance(agent, agents.SAC):
        actions = torch.zeros(len(observations), 1)
        found = [network[:-1](torch.cat([observations, actions], 1)) for network in policy.critic.q_networks]
        return [policy.actor.latent_pi(observations), *found]
    if isinstance(agent, agents.DQN):
        return [policy.q_net.q_net[:-1](policy.q_net.extract_features(observations, policy.q_net.features_extractor))]
    features = policy.extract_features(observations)
    both = features if isinstance(features, tuple) else (features, features)
    return [policy.mlp_extractor.policy_net(both[0]), policy.mlp_extractor.value_net(both[1])]


RELU = {"ppo": relu_ppo, **{name: MAKERS[name] for name in ("dqn", "sac")}}
#: With an activation after the encoder for which f(cx) = cf(x).
CNN = {"activation_fn": nn.LeakyReLU}


@pytest.mark.parametrize("name", [*RELU, "leaky", "crelu", "no hidden layer"])
def test_a_rescaled_network_of_relus_keeps_its_form(name):
    more = {"leaky": CNN, "crelu": {"crelu": True}, "no hidden layer": {"net_arch": [16]}}.get(name, {})
    agent, fresh = (RELU[name](seed=s) if name in RELU else relu_ppo(s, **more) for s in (0, 1))
    push(agent)
    observations = torch.randn(64, *agent.observation_space.shape, generator=torch.Generator().manual_seed(1))
    before = outputs(agent, observations)
    heads = {n: t.clone() for n, t in tensors(agent).items() if n not in hidden(agent) and "head" in n}
    INTERVENTIONS["rescale"].act(agent, fresh)
    for name_ in hidden(agent):
        assert sigma(tensors(agent)[name_])[0] == pytest.approx(sigma(tensors(fresh)[name_])[0], rel=1e-5)
    for old, new in zip(before, outputs(agent, observations), strict=True):
        factor = (new * old).sum() / (old * old).sum()
        assert not 0.99 < factor < 1.01  # else it would be no test
        assert torch.allclose(new, factor * old, rtol=1e-4, atol=1e-5 * float(new.abs().max()))
    assert all(torch.equal(tensors(agent)[n], t) for n, t in heads.items())


@pytest.mark.parametrize("name", ["ppo-shared-cnn", "ppo-two-cnns", "dqn-cnn"])
def test_so_does_one_behind_convolutions(name):
    agent, fresh = (MAKERS[name](seed=seed) for seed in (0, 1))
    for each in (agent, fresh):  # stable-baselines3 gives them tanh here
        for module in each.policy.modules():
            for child, layer in module.named_children():
                if isinstance(layer, nn.Tanh):
                    setattr(module, child, nn.ReLU())
    push(agent)
    pictures = torch.rand(16, 1, 36, 36, generator=torch.Generator().manual_seed(1)) * 255
    before = outputs(agent, pictures)
    INTERVENTIONS["rescale"].act(agent, fresh)
    for old, new in zip(before, outputs(agent, pictures), strict=True):
        factor = (new * old).sum() / (old * old).sum()
        assert torch.allclose(new, factor * old, rtol=1e-3, atol=1e-4 * float(new.abs().max()))


def test_tanh_begins_the_product_anew():
    agent, fresh = (relu_ppo(seed, activation_fn=nn.Tanh) for seed in (0, 1))
    push(agent)
    old = {n: t.detach().clone() for n, t in tensors(agent).items()}
    INTERVENTIONS["rescale"].act(agent, fresh)
    for net in ("policy_net", "value_net"):
        for i in (0, 2):
            name = f"mlp_extractor.{net}.{i}"
            ratio = sigma(tensors(fresh)[f"{name}.weight"])[0] / sigma(old[f"{name}.weight"])[0]
            for kind in ("weight", "bias"):
                assert torch.allclose(tensors(agent)[f"{name}.{kind}"], old[f"{name}.{kind}"] * ratio, rtol=1e-4)


def test_a_norm_begins_the_product_anew():
    agent, fresh = (relu_ppo(seed, layer_norm=True) for seed in (0, 1))
    push(agent)
    observations = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    before = outputs(agent, observations)
    INTERVENTIONS["rescale"].act(agent, fresh)
    for old, new in zip(before, outputs(agent, observations), strict=True):
        assert torch.allclose(new, old, rtol=1e-3, atol=1e-3 * float(old.abs().max()))  # but for the norm's epsilon


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac", "qrdqn", "recurrent-ppo", "ppo-shared-cnn", "sac-cnn"])
def test_fresh_vectors_and_old_values(name):
    agent, fresh = trained(name), MAKERS[name](seed=1)
    old = {n: t.detach().clone() for n, t in tensors(agent).items()}
    INTERVENTIONS["spectrum"].act(agent, fresh)
    new, theirs = tensors(agent), tensors(fresh)
    for n in new:
        if n in hidden(agent) and not n.startswith("lstm"):
            assert sigma(new[n]) == pytest.approx(sigma(old[n]), rel=1e-4, abs=1e-5), n
            mine, other = (np.linalg.svd(t[n].detach().flatten(1).double())[0][:, 0] for t in (new, theirs))
            assert abs(mine @ other) > 0.99 or np.ptp(sigma(theirs[n])) < 1e-4  # orthogonal ones have no first vector
            assert not torch.allclose(new[n], old[n], rtol=0.1)
        elif n.startswith("lstm") and new[n].ndim > 1:
            for gate in range(4):
                rows = slice(gate * 8, gate * 8 + 8)
                assert sigma(new[n][rows]) == pytest.approx(sigma(old[n][rows]), rel=1e-4, abs=1e-5)
            assert not torch.allclose(new[n], old[n], rtol=0.1)
        elif "_target" not in n:
            assert torch.equal(new[n], old[n]), n  # biases and heads
    for n in new:
        if "_target" in n and n.replace("_target", "", 1) in hidden(agent):
            assert torch.equal(new[n], new[n.replace("_target", "", 1)])


@pytest.mark.parametrize("intervention", ["rescale", "spectrum"])
def test_a_layer_of_zeros_stays_one(intervention):
    agent, fresh = relu_ppo(0), relu_ppo(1)
    with torch.no_grad():
        agent.policy.mlp_extractor.policy_net[2].weight.zero_()
    INTERVENTIONS[intervention].act(agent, fresh)
    assert not agent.policy.mlp_extractor.policy_net[2].weight.any()
    assert torch.isfinite(torch.cat([p.flatten() for p in agent.policy.parameters()])).all()


def test_recurrent_layers_are_not_rescaled():
    agent, fresh = trained("recurrent-ppo"), MAKERS["recurrent-ppo"](seed=1)
    push(agent)
    old = {n: t.detach().clone() for n, t in tensors(agent).items()}
    INTERVENTIONS["rescale"].act(agent, fresh)
    for n, t in tensors(agent).items():
        assert torch.equal(t, old[n]) == (not n.startswith("mlp_extractor")), n


class Odd(BaseFeaturesExtractor):
    """An encoder that no chain can be read off."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.one, self.other = nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, observations):
        return self.one(observations).relu() + self.other(observations).sin()


def test_a_layer_that_stands_alone_is_scaled_with_its_bias():
    agent, fresh = (relu_ppo(seed, features_extractor_class=Odd) for seed in (0, 1))
    push(agent)
    old = {n: t.detach().clone() for n, t in tensors(agent).items()}
    INTERVENTIONS["rescale"].act(agent, fresh)
    new = tensors(agent)
    first = "mlp_extractor.policy_net.0"
    for name in ("features_extractor.one", "features_extractor.other", first):
        ratio = sigma(tensors(fresh)[f"{name}.weight"])[0] / sigma(old[f"{name}.weight"])[0]
        for kind in ("weight", "bias"):
            assert torch.allclose(new[f"{name}.{kind}"], old[f"{name}.{kind}"] * ratio, rtol=1e-4)
