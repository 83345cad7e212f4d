"""Which agents get updates in closed form, what they say of it, and what happens when their networks change."""

import copy
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from test_same_updates import CELLS, collect, make, state, twins, update
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neoteny.agents import DQN, PPO, SAC, Continual, OneHot, SmallCNN
from neoteny.agents.networks import ActorCritic
from neoteny.plasticity import L2, Method, ReDo, Spectral

ONE_HOT = {"observations": CELLS, "network": {"features_extractor_class": OneHot}}
KINDS = ["ppo discrete", "ppo gaussian", "dqn", "double-dqn", "sac"]
CARTPOLE = {"env": "CartPole-v1", "device": "cpu", "seed": 0}
SMALL = {"n_steps": 32, "batch_size": 16, "policy_kwargs": {"net_arch": [8, 8]}}


class Watched(PPO):
    """A subclass with updates of its own."""

    trained = 0

    def train(self) -> None:
        self.trained += 1


class Shouting(ActorCritic):
    """A policy that evaluates actions in its own way."""

    def evaluate_actions(self, *args: Any, **kwargs: Any) -> Any:
        values, log_prob, entropy = super().evaluate_actions(*args, **kwargs)
        return values * 2, log_prob, entropy


def ppo(cls: type[PPO] = PPO, policy: Any = "ActorCritic", **given: Any) -> Any:
    return cls(policy, **CARTPOLE, **SMALL | given)


def test_a_train_of_ones_own_is_used() -> None:
    agent = ppo(Watched)
    agent.learn(64)
    assert agent.trained == 2


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"closed_form": False}, "closed_form is false"),
        ({"policy": Shouting}, "Shouting has its own evaluate_actions"),
        ({"reg": ReDo()}, "watches the passes"),
        ({"reg": L2(joins="in-loss")}, "acts in the backward pass"),
        ({"policy_kwargs": {"activation_fn": nn.SELU}}, "a layer SELU"),
        ({"env": "Pendulum-v1", "use_sde": True}, "StateDependentNoise"),
    ],
    ids=str,
)
def test_what_cannot_be_read_falls_back_and_says_so(given: dict[str, Any], why: str) -> None:
    agent = PPO(**{"policy": "ActorCritic"} | CARTPOLE | SMALL | given)
    assert why in agent.updates
    before = agent.policy.state_dict()["value_net.weight"].clone()
    agent.learn(64)
    assert not torch.equal(before, agent.policy.state_dict()["value_net.weight"])


@pytest.mark.parametrize("policy", ["ActorCritic", "MlpPolicy"])
def test_our_policies_and_those_of_stable_baselines3_can_be_read(policy: str) -> None:
    assert ppo(policy=policy).updates == "closed form"
    assert SAC("MlpPolicy", "Pendulum-v1", device="cpu").updates == "closed form"
    assert DQN("MlpPolicy", "CartPole-v1", device="cpu").updates == "closed form"


def test_an_agent_of_ones_own_has_its_algorithms_updates() -> None:
    class A2C(Continual, sb3.A2C):
        pass

    assert A2C("MlpPolicy", "CartPole-v1", device="cpu").updates == "the algorithm's own"


def test_encoders_with_weights_are_left_to_autograd() -> None:
    agent = make("dqn", True, observations=spaces.Box(0, 1, (1, 6, 6)), network={"features_extractor_class": SmallCNN})
    assert "SmallCNN has weights" in agent.updates
    collect(agent)


def test_hooks_are_noticed_and_so_is_their_removal() -> None:
    agent = ppo()
    assert agent.updates == "closed form"
    seen: list[Tensor] = []
    handle = agent.policy.action_net.register_forward_hook(lambda m, args, out: seen.append(out))
    assert "watches the passes of Linear" in agent.updates
    agent.learn(32)
    assert seen
    handle.remove()
    assert agent.updates == "closed form"


def test_what_is_replaced_is_read_anew() -> None:
    agent = ppo()
    agent.learn(32)
    policy = agent.policy
    policy.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    policy.action_net = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
    assert "trains other weights" in agent.updates
    policy.optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    assert agent.updates == "closed form"
    before = policy.action_net[0].weight.clone()
    agent.learn(32)
    assert not torch.equal(before, policy.action_net[0].weight)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_can_be_copied_moved_and_loaded_between_updates(kind: str) -> None:
    mine, _ = twins(kind, True)
    other, _ = twins(kind, True)
    state_dict = copy.deepcopy(mine.policy.state_dict())
    for each in (mine, other):
        update(each)
    twin = copy.deepcopy(mine.policy)
    for parameter in mine.policy.parameters():
        parameter.data = parameter.data.clone()  # as .to() does: moments have to go along to new buffers
    mine.policy.load_state_dict(copy.deepcopy(mine.policy.state_dict()))
    for each in (mine, other):
        update(each, 2)
    assert mine.updates == "closed form"
    for key, value in state(other).items():
        assert torch.equal(value, state(mine)[key]), key
    for key, value in twin.state_dict().items():  # the copy has neither moved on nor back
        assert not torch.equal(value, mine.policy.state_dict()[key]) or torch.equal(value, state_dict[key])


def test_the_mode_is_set_where_a_part_of_the_policy_has_another() -> None:
    policy = make("sac", True).policy
    policy.set_training_mode(False)
    policy.actor.train()
    policy.set_training_mode(False)
    assert not any(module.training for module in (policy.actor, *policy.actor.latent_pi, policy.critic))
    policy.set_training_mode(True)
    assert all(module.training for module in (policy, policy.actor, *policy.critic.q_networks))


def test_frozen_weights_stay_as_they_are() -> None:
    agent = ppo()
    agent.learn(32)
    agent.policy.mlp_extractor.policy_net[0].weight.requires_grad_(False)
    assert "frozen" in agent.updates
    before = agent.policy.mlp_extractor.policy_net[0].weight.clone()
    agent.learn(64)
    assert torch.equal(before, agent.policy.mlp_extractor.policy_net[0].weight)


class Freeze(Method):
    """Freezes a layer after some updates: in the middle of a rollout."""

    name = "freeze"
    count = 0

    def after_step(self) -> None:
        self.count += 1
        if self.count == 3:
            self.layers[0].owner.weight.requires_grad_(False)
            self.frozen = self.layers[0].owner.weight.clone()


@pytest.mark.parametrize("given", [{}, ONE_HOT], ids=["flat", "one-hot"])
@pytest.mark.parametrize("kind", ["ppo discrete", "ppo gaussian", "dqn"])
def test_a_change_between_two_updates_of_a_rollout_holds_at_once(kind: str, given: dict[str, Any]) -> None:
    double = not given
    agents = [
        make(kind, closed_form, double, reg=Freeze(), batch_size=24, **copy.deepcopy(given))
        for closed_form in (True, False)
    ]
    for agent in agents:
        agent.set_random_seed(0)
        agent.learn(96)
        if kind == "dqn":
            update(agent, 8)
    mine, theirs = agents
    (method,) = mine.methods.values()
    assert torch.equal(method.layers[0].weight, method.frozen)
    assert "frozen" in mine.updates
    assert method.count == next(iter(theirs.methods.values())).count
    for key, value in theirs.policy.state_dict().items():
        assert torch.allclose(value, mine.policy.state_dict()[key], rtol=1e-4, atol=1e-6), key


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reg", [None, Spectral(strength=1e-2)], ids=["none", "spectral"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(kind: str, reg: Method | None, tmp_path: Path) -> None:
    agent = make(kind, True, reg=reg)
    collect(agent)
    agent.save(tmp_path / "agent", replay=True)
    again: Any = type(agent).load(tmp_path / "agent", env=agent.get_env(), device="cpu")
    again._logger = agent._logger
    if isinstance(agent, PPO):
        again.rollout_buffer = agent.rollout_buffer
    for each in (agent, again):
        update(each, 3)
    for key, value in state(agent).items():
        assert torch.equal(value, state(again)[key]), key


def test_clearing_the_optimizer_and_resetting_one_weight_are_noticed() -> None:
    for reset in ("all", "one"):
        agents = [make("dqn", closed_form) for closed_form in (True, False)]
        for agent in agents:
            collect(agent)
            optimizer = agent.policy.optimizer
            if reset == "all":
                agent.reset_optimizer()
            else:
                for kept in optimizer.state[agent.policy.q_net.q_net[0].weight].values():
                    kept.zero_()
            update(agent, 3)
        mine, theirs = (agent.policy.optimizer.state_dict()["state"] for agent in agents)
        assert [float(of["step"]) for of in mine.values()] == [float(of["step"]) for of in theirs.values()]
        assert float(mine[0]["step"]) == 3


class NothingIsRead(TorchDispatchMode):
    """Fails when a tensor's value is brought to the host, for which a GPU would be waited."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value is read inside an update"
        assert func not in (torch.ops.aten.nonzero.default, torch.ops.aten.equal.default)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_is_read_inside_an_update(kind: str) -> None:
    agent = make(kind, True)
    collect(agent)
    closed, _ = agent._closed_form()
    if isinstance(agent, PPO):
        batch = next(agent.rollout_buffer.get(48))
        with NothingIsRead():
            closed.differentiate(batch, 0.2, None, True)
            closed.flat.clip_(0.5)
            closed.flat.step()
    else:
        batch = agent.replay_buffer.sample(48)
        with NothingIsRead():
            closed.update(batch, 0)


@pytest.mark.parametrize("kind", ["ppo discrete", "ppo gaussian"])
def test_acting_draws_what_stable_baselines3_draws(kind: str) -> None:
    policy = make(kind, True).policy
    observations = torch.randn(64, 5)
    torch.manual_seed(3)
    mine = policy(observations)
    torch.manual_seed(3)
    theirs = ActorCriticPolicy.forward(policy, observations)
    for one, other in zip(mine, theirs, strict=True):
        assert one.shape == other.shape
        assert torch.equal(one, other) if "gaussian" in kind else torch.allclose(one, other, rtol=1e-5, atol=1e-6)
