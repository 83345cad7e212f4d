"""The mixin: nothing at strength 0, one line for any algorithm, roles, and divergence that is named."""

from __future__ import annotations

import copy
import functools
import math

import agent_zoo as zoo
import numpy as np
import pytest
import torch
from agent_zoo import CASES, Recorder, difference, layer_names, learned_state, weights
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import configure
from thinning import some

from neoteny.agents import PPO, Continual, NonFiniteError
from neoteny.plasticity import L2, Compose, L2Init, Method, Spectral, spectral_norms

HIDDEN = {
    "ppo": ["mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"],
    "sac": ["actor.latent_pi.0", "actor.latent_pi.2"],
}
VALUES = {
    "ppo": ["mlp_extractor.value_net.0", "mlp_extractor.value_net.2"],
    "sac": ["critic.qf0.0", "critic.qf0.2", "critic.qf1.0", "critic.qf1.2"],
    "dqn": ["q_net.q_net.0", "q_net.q_net.2"],
    "qrdqn": ["quantile_net.quantile_net.0", "quantile_net.quantile_net.2"],
}
BOTH = {"actor": Spectral(), "critic": Spectral()}


@functools.cache
def stock(name: str) -> BaseAlgorithm:
    """The algorithm without us, trained."""
    agent = CASES[name].make_stock()
    before = weights(agent)
    agent.learn(CASES[name].steps)
    assert agent._n_updates == CASES[name].updates
    assert difference(before, weights(agent)) is not None
    return agent


@functools.cache
def regularized(name: str) -> Continual:
    """The same run with a method that acts."""
    return CASES[name].make(reg=Spectral(strength=0.1)).learn(CASES[name].steps)


# Training is stable-baselines3's own ------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "reg", [None, Spectral(strength=0), L2(strength=0), L2Init(strength=0)], ids=lambda r: r and r.name
)
@pytest.mark.parametrize("name", CASES)
def test_at_strength_0_an_agent_is_stable_baselines3s_bit_for_bit(name: str, reg: Method | None) -> None:
    ours = CASES[name].make(reg=reg, **CASES[name].to_the_bit).learn(CASES[name].steps)
    assert bool(ours.methods) == (reg is not None)
    ours.methods = {}  # which stable-baselines3 has none of
    assert difference(learned_state(ours), learned_state(stock(name))) is None
    assert ours._n_updates == CASES[name].updates


@pytest.mark.parametrize("name", some([*CASES], "ppo", "dqn", "sac"))
def test_a_seed_decides_every_bit(name: str) -> None:
    again = CASES[name].make(reg=Spectral(strength=0.1)).learn(CASES[name].steps)
    assert difference(learned_state(again), learned_state(regularized(name))) is None
    other = CASES[name].make(reg=Spectral(strength=0.1), seed=1).learn(CASES[name].steps)
    assert difference(weights(other), weights(again)) is not None


def test_the_seed_reaches_every_generator_and_no_two_share_one() -> None:
    def seeds(seed: int) -> list[int]:
        agent = CASES["sac"].make(seed=seed, reg={"actor": Spectral(), "critic": Spectral()})
        return [method.generator.initial_seed() for method in agent.methods.values()]

    assert seeds(7) == seeds(7)
    assert len({*seeds(7), *seeds(70)}) == 4


@pytest.mark.parametrize(
    "method", [Spectral(), L2(), L2Init(), Compose(methods=(Spectral(), L2Init()))], ids=lambda m: m.name
)
def test_attaching_leaves_global_random_state_alone(method: Method) -> None:
    agent = CASES["ppo"].make_stock()
    before = zoo.global_random_state()
    copy.deepcopy(method).attach(agent.policy, agent.policy.optimizer, seed=3)
    assert zoo.global_random_state() == before

    CASES["sac"].make(reg=None)
    without = zoo.global_random_state()
    CASES["sac"].make(reg=method).on_switch()
    assert zoo.global_random_state() == without


# One line, any algorithm ------------------------------------------------------------------------------------

#: Algorithm and the dotted names of the networks that have an optimizer.
ONE_LINE = {
    "ppo": ["policy"],
    "a2c": ["policy"],
    "dqn": ["policy"],
    "qrdqn": ["policy"],
    "sac": ["actor", "critic"],
}


@pytest.mark.parametrize("name", some([*ONE_LINE], "ppo", "sac"))
def test_one_line_regularizes_a_stock_model(name: str) -> None:
    def train(strength: float | None) -> tuple[BaseAlgorithm, list[Spectral]]:
        model = CASES[name].make_stock(learning_rate=0.01)
        methods = []
        for part in ONE_LINE[name] if strength is not None else ():
            network = getattr(model, part)
            method = Spectral(strength=strength)
            method.attach(network, network.optimizer)
            methods.append(method)
        return model.learn(2 * CASES[name].steps), methods

    plain, _ = train(None)
    model, methods = train(10.0)
    for part, method in zip(ONE_LINE[name], methods, strict=True):
        with_it, without = spectral_norms(getattr(model, part)), spectral_norms(getattr(plain, part))
        layers = [layer.name for layer in method.layers]
        assert len(layers) >= 2
        for layer in layers:
            assert abs(with_it[layer] - 1) < 0.5 * abs(without[layer] - 1), layer


@pytest.mark.parametrize("name", ["dqn", "qrdqn", "sac"])
@pytest.mark.parametrize("method", [Spectral(), L2(), L2Init()], ids=lambda m: m.name)
def test_target_networks_are_never_selected(name: str, method: Method) -> None:
    def check(model: BaseAlgorithm, methods: list[Method]) -> None:
        targets = {id(p) for n, p in model.policy.named_parameters() if "_target" in n}
        selected = {id(layer.weight) for attached in methods for layer in attached.layers}
        assert targets
        assert selected
        assert not targets & selected

    agent = CASES[name].make(reg=method)
    check(agent, list(agent.methods.values()))
    model = CASES[name].make_stock()
    by_hand = [copy.deepcopy(method) for _ in ONE_LINE[name]]
    for part, attached in zip(ONE_LINE[name], by_hand, strict=True):
        attached.attach(model.policy, getattr(model, part).optimizer)
    check(model, by_hand)


def test_the_penalty_joins_after_clipping() -> None:
    """With a task gradient clipped to nothing, SGD does w ← w − η·2λ·w and no more."""
    settings = {"n_epochs": 1, "batch_size": 32, "learning_rate": 0.01, "max_grad_norm": 1e-12}
    policy = {"net_arch": [16], "optimizer_class": torch.optim.SGD}
    agent = CASES["ppo"].make(reg=L2(strength=5.0), policy_kwargs=policy, **settings)
    before = weights(agent)
    agent.learn(32)
    for name, weight in weights(agent).items():
        torch.testing.assert_close(weight, before[name] * (1 - 0.01 * 2 * 5.0), msg=name)


@pytest.mark.parametrize(("name", "steps_per_update"), [("ppo", 2), ("dqn", 1), ("sac", 1)])
def test_a_method_acts_once_per_step_of_its_optimizer(name: str, steps_per_update: int) -> None:
    agent = CASES[name].make(reg=Recorder())
    old = list(agent.methods.values())
    agent._attach_methods()  # attaching anew replaces; it does not add
    agent.learn(CASES[name].steps)
    assert {(method.before, method.after) for method in old} == {(0, 0)}
    for method in agent.methods.values():
        assert isinstance(method, Recorder)
        assert method.before == method.after == CASES[name].updates * steps_per_update


def test_a_switch_is_announced_to_every_method() -> None:
    agent = CASES["sac"].make(reg={"actor": Recorder(), "critic": Compose(methods=(L2(), Recorder()))})
    agent.on_switch()
    agent.on_switch()
    actor, critic = agent.methods.values()
    assert (actor.switches, critic.methods[1].switches) == (2, 2)


# Roles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reg", "expected"),
    [
        ("ppo", Spectral(), {"all": HIDDEN["ppo"] + VALUES["ppo"]}),
        ("ppo", {"actor": Spectral()}, {"actor": HIDDEN["ppo"]}),
        ("ppo", {"critic": Spectral(), "actor": None}, {"critic": VALUES["ppo"]}),
        ("ppo", BOTH, {"actor": HIDDEN["ppo"], "critic": VALUES["ppo"]}),
        ("sac", Spectral(), {"all.actor": HIDDEN["sac"], "all.critic": VALUES["sac"]}),
        ("sac", BOTH, {"actor.actor": HIDDEN["sac"], "critic.critic": VALUES["sac"]}),
        ("sac", {"critic": Spectral()}, {"critic.critic": VALUES["sac"]}),
        ("dqn", {"critic": Spectral()}, {"critic": VALUES["dqn"]}),
        ("qrdqn", {"critic": Spectral()}, {"critic": VALUES["qrdqn"]}),
    ],
)  # fmt: skip
def test_a_role_gets_its_own_layers(name: str, reg: Method | dict[str, Method], expected: dict[str, list[str]]) -> None:
    assert layer_names(CASES[name].make(reg=reg)) == expected


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_each_role_has_its_own_method_and_heads_go_by_role(name: str) -> None:
    agent = CASES[name].make(reg={"actor": Spectral(strength=0.5), "critic": L2(strength=0.25)})
    actor, critic = agent.methods.values()
    assert (type(actor), actor.strength, type(critic), critic.strength) == (Spectral, 0.5, L2, 0.25)
    heads = {"ppo": ["value_net"], "sac": ["critic.qf0.4", "critic.qf1.4"]}[name]
    assert sorted(layer.name for layer in critic.layers) == sorted(VALUES[name] + heads)


def test_separate_image_encoders_go_to_their_roles() -> None:
    env = FakeImageEnv(screen_height=36, screen_width=36)
    policy = {"share_features_extractor": False, "net_arch": [8]}
    agent = PPO("CnnPolicy", env, policy_kwargs=policy, reg={"actor": L2(), "critic": L2()}, device="cpu")
    actor, critic = ({id(p) for p in method.trainable()} for method in agent.methods.values())
    assert {id(p) for p in agent.policy.vf_features_extractor.parameters()} < critic
    assert {id(p) for p in agent.policy.pi_features_extractor.parameters()} < actor
    assert not actor & critic
    assert len(actor | critic) == len(list(agent.policy.parameters()))


def test_what_is_given_is_a_template() -> None:
    template = Spectral(strength=0.5)
    one, two = (CASES["sac"].make(reg=template) for _ in range(2))
    copies = [*one.methods.values(), *two.methods.values()]
    assert template.layers == []
    assert len({id(m) for m in [template, *copies]}) == 5
    assert all(m.strength == 0.5 and m.layers for m in copies)


@pytest.mark.parametrize(
    ("name", "reg", "message"),
    [
        ("dqn", {"actor": Spectral()}, "no weights in the roles actor"),
        ("ppo", {"value": Spectral()}, "'value' is no role; the roles are actor and critic"),
        ("ppo", {"actor": L2(), "Critic": L2()}, "'Critic' is no role"),
    ],
)
def test_a_role_that_an_agent_has_not_is_refused(name: str, reg: dict[str, Method], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CASES[name].make(reg=reg)


# Divergence -------------------------------------------------------------------------------------------------


@pytest.fixture
def agent() -> PPO:
    agent = CASES["ppo"].make()
    agent.set_logger(configure(None, []))
    agent.num_timesteps = 64
    return agent


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["mlp_extractor.value_net.0.bias", "action_net.weight"])
def test_a_weight_that_is_not_finite_is_named(agent: PPO, name: str, value: float) -> None:
    with torch.no_grad():
        agent.policy.get_parameter(name).view(-1)[-1] = value
    with pytest.raises(NonFiniteError, match=rf"weights of {name} are not finite after 64 environment steps"):
        agent.check_finite()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("key", ["train/loss", "train/value_loss"])
def test_a_loss_that_is_not_finite_is_named(agent: PPO, key: str, value: float) -> None:
    agent.logger.record("train/entropy_loss", -1.0)
    agent.logger.record(key, value)
    with pytest.raises(NonFiniteError, match=f"{key} is {value} after 64 environment steps"):
        agent.check_finite()


def test_what_is_finite_passes(agent: PPO) -> None:
    agent.logger.record("train/explained_variance", math.nan)  # returns without variance, as in a new sparse task
    agent.logger.record("train/loss", 1e30)
    with torch.no_grad():
        agent.policy.get_parameter("action_net.weight").fill_(3e38)  # its norm overflows, it does not
    agent.check_finite()


@pytest.mark.parametrize("name", CASES)
def test_a_trained_agent_is_finite(name: str) -> None:
    assert any("loss" in key for key in regularized(name).logger.name_to_value)
    regularized(name).check_finite()


def test_divergence_in_training_is_found() -> None:
    agent = CASES["dqn"].make(learning_rate=1e30)
    agent.learn(CASES["dqn"].steps)
    with pytest.raises(NonFiniteError, match=r"loss is (inf|nan) after 60 environment steps"):
        agent.check_finite()
