"""What others put in the way of updates in closed form: hooks, networks changed by hand, classes of their own."""

import functools
import pickle
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.torch_layers import FlattenExtractor
from test_closed_form import Shouting, ppo
from test_same_updates import collect, farthest, make, twins, update
from torch import Tensor, nn

from neoteny.agents import PPO
from neoteny.agents.networks import ActorCritic


def sign_of_gradients(optimizer: Any, *_: Any) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = p.grad.sign() * 1e-3


def drop_one_gradient(optimizer: Any, *_: Any) -> None:
    optimizer.param_groups[0]["params"][2].grad = None


def clear_state(optimizer: Any, *_: Any) -> None:
    optimizer.state.clear()


def replace_a_moment(optimizer: Any, *_: Any) -> None:
    state = optimizer.state[optimizer.param_groups[0]["params"][2]]
    state["exp_avg"] = torch.ones_like(state["exp_avg"])


def weigh_down(optimizer: Any, *_: Any) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.3


@pytest.mark.sampled(3)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("hook", [sign_of_gradients, drop_one_gradient, clear_state, replace_a_moment, weigh_down])
@pytest.mark.parametrize("kind", ["ppo discrete", "dqn", "sac"])
def test_what_hooks_of_a_step_put_in_place_counts(kind: str, hook: Any, when: str) -> None:
    if hook is replace_a_moment and when == "before":
        pytest.skip("torch's Adam makes its state after these hooks")
    mine, theirs = twins(kind, True)
    for agent in (mine, theirs):
        for optimizer in agent.optimizers().values():
            register = optimizer.register_step_pre_hook if when == "before" else optimizer.register_step_post_hook
            register(hook)
        update(agent, 2)
        update(agent, 1)
    assert farthest(mine, theirs) < 1e-8


class Coldly(ActorCritic):
    """Acts from a sharper distribution."""

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
        return self.action_dist.proba_distribution(action_logits=50 * self.action_net(latent_pi))


class RandomFeatures(FlattenExtractor):
    """An encoder without weights that is not a function of the observation alone."""

    def __init__(self, space: Any):
        super().__init__(space)
        self.register_buffer("mix", torch.randn(4, 4))

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations) @ self.mix


class Elsewhere(sb3.PPO):
    """An algorithm with updates of its own, further up."""

    def train(self) -> None:
        self.trained = True


class Mixed(PPO, Elsewhere):
    pass


def tie(agent: Any) -> None:
    agent.policy.mlp_extractor.value_net = agent.policy.mlp_extractor.policy_net
    agent.policy.optimizer = torch.optim.Adam(agent.policy.parameters(), lr=3e-4)


def replace_a_parameter(agent: Any) -> None:
    layer = agent.policy.value_net
    layer.weight = nn.Parameter(layer.weight.detach() + 1)


def write_a_forward(agent: Any) -> None:
    layer = agent.policy.action_net
    layer.forward = lambda x: 2 * type(layer).forward(layer, x)


def write_an_evaluation(agent: Any) -> None:
    agent.policy.evaluate_actions = functools.partial(Shouting.evaluate_actions, agent.policy)


@pytest.mark.parametrize("change", [tie, replace_a_parameter, write_a_forward, write_an_evaluation])
def test_what_was_changed_by_hand_is_noticed(change: Any) -> None:
    agent = ppo()
    agent.learn(32)
    change(agent)
    assert agent.updates != "closed form"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"policy": Coldly}, "_get_action_dist_from_latent"),
        ({"policy_kwargs": {"features_extractor_class": RandomFeatures}}, "RandomFeatures"),
        ({"policy_kwargs": {"activation_fn": functools.partial(nn.ELU, inplace=True)}}, "ELU"),
    ],
    ids=["policy", "encoder", "activation"],
)
def test_more_that_cannot_be_read(given: dict[str, Any], why: str) -> None:
    agent = ppo(**given)
    assert why in agent.updates
    agent.learn(64)


def test_a_train_further_up_is_used() -> None:
    agent = ppo(Mixed)
    assert "train" in agent.updates
    agent.learn(32)
    assert agent.trained


def test_a_distribution_of_ones_own_is_not_taken_for_stable_baselines3s() -> None:
    class Odd(DiagGaussianDistribution):
        def log_prob(self, actions: Tensor) -> Tensor:
            return super().log_prob(actions) * 2

    agent = make("ppo gaussian", True)
    agent.policy.action_dist = Odd(3)
    assert "Odd has its own log_prob" in agent.updates


def test_dicts_fall_back_and_acting_asks_the_policy() -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Box(-1, 1, (2,))})
    agent = make("dqn", True, observations=space)
    assert "Dict" in agent.updates
    torch.manual_seed(0)
    policy = ppo(policy=Coldly).policy
    observations = torch.randn(16, 4)
    actions, _, log_prob = policy(observations)
    assert torch.allclose(log_prob, policy.evaluate_actions(observations, actions)[1])


def test_agents_can_be_pickled_and_used_under_autocast() -> None:
    agent = make("sac", True)
    collect(agent)
    again = pickle.loads(pickle.dumps(agent))
    assert again.updates == "closed form"
    for each in (agent, again):
        update(each)
    assert torch.equal(again.actor.mu.weight, agent.actor.mu.weight)
    assert agent.__getstate__()["_update"] is None
    with torch.autocast("cpu", torch.bfloat16):
        assert agent.updates.endswith("autocast is on")
