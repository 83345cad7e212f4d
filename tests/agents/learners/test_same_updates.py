"""Updates in closed form are those of stable-baselines3, to rounding: on the same data, from the same state."""

import copy
import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import FlattenExtractor
from thinning import some
from torch import Tensor, nn

from neoteny import configs
from neoteny.agents import DQN, PPO, SAC, OneHot
from neoteny.agents.networks import LeakyReLU01
from neoteny.agents.optimizers import parse_optimizer
from neoteny.plasticity.resets.injection import PlasticityInjection
from neoteny.plasticity.resets.units import UnitMethod
from neoteny.runners.experiments import regs

ACTIONS = {"discrete": spaces.Discrete(4), "gaussian": spaces.Box(-1, 1, (3,))}
CELLS = spaces.Box(0, np.broadcast_to(np.array([4, 2], "uint8"), (3, 3, 2)), dtype=np.uint8)


class Noise(gym.Env[Any, Any]):
    """Random observations and rewards: what is learned does not matter here."""

    def __init__(self, actions: spaces.Space[Any], observations: spaces.Space[Any]):
        self.action_space, self.observation_space = actions, observations

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observe(), {}

    def observe(self) -> Any:
        """Of small integers only the even ones, so that half of their one-hot features are nowhere set."""
        seen = self.observation_space.sample()
        return seen // 2 * 2 if self.observation_space == CELLS else seen

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        end = bool(self.np_random.random() < 0.1)
        return self.observe(), float(self.np_random.normal()), end, False, {}


class Double(FlattenExtractor):
    """Observations in float64."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()

    def compact(self, observations: Tensor) -> tuple[Tensor, None]:
        return self(observations), None


NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "tanh": {"activation_fn": nn.Tanh},
    "leaky": {"activation_fn": LeakyReLU01},
    "elu": {"activation_fn": nn.ELU},
    "gelu": {"activation_fn": nn.GELU},
    "layer-norm": {"layer_norm": True},
    "crelu": {"crelu": True},
    "fourier": {"fourier": True},
    "crelu critic": {"crelu": "critic"},
    "all of it": {"layer_norm": True, "crelu": True, "net_arch": [12, 8, 6]},
    "no hidden layer": {"net_arch": []},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped values": {"clip_range_vf": 0.05},
    "not clipped": {"max_grad_norm": float("inf")},
    "raw advantages": {"normalize_advantage": False},
    "early stop": {"target_kl": 1e-4},
    "entropy": {"ent_coef": 0.1},
}


def make(kind: str, closed_form: bool, double: bool = False, reg: Any = None, **given: Any) -> Any:
    network = {"net_arch": [16, 16]} | given.pop("network", {})
    name, _, actions = kind.partition(" ")
    if double:
        network["features_extractor_class"] = Double
    observations = given.pop("observations", spaces.Box(-2, 2, (5,)))
    env = Noise(ACTIONS[actions or ("gaussian" if name == "sac" else "discrete")], observations)
    env.reset(seed=0)
    cls: Any = {"ppo": PPO, "dqn": DQN, "double-dqn": DQN, "sac": SAC}[name]
    policy = {"ppo": "ActorCritic", "sac": "SoftActorCritic"}.get(name, "QPolicy")
    general: dict[str, Any] = {"batch_size": 48, "seed": 0, "device": "cpu", "closed_form": closed_form, "reg": reg}
    if name == "ppo":
        general |= {"n_steps": 96, "n_epochs": 1, "batch_size": 96}
    else:
        general |= {"learning_starts": 80, "buffer_size": 400}
    if name == "double-dqn":
        general["double"] = True
    agent = cls(policy, env, policy_kwargs=network, **general | given)
    if double:
        agent.policy.double()
        agent._attach_methods()
        if name == "sac" and agent.log_ent_coef is not None:
            agent.log_ent_coef.data = agent.log_ent_coef.data.double()
        elif name == "sac":
            agent.ent_coef_tensor = agent.ent_coef_tensor.double()
    return agent


def collect(agent: Any) -> None:
    """Experience, and updates that give Adam its moments: a first step is as long for the smallest gradient."""
    agent.learn(192 if isinstance(agent, PPO) else 120)


def doubled(tensor: Any) -> Any:
    return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor


def doubled_sample(sample: Any, *args: Any, **kwargs: Any) -> Any:
    drawn = sample(*args, **kwargs)
    return type(drawn)(*map(doubled, drawn))


def update(agent: Any, updates: int = 1) -> None:
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    if isinstance(agent, PPO):
        agent.rollout_buffer.generator_ready = True
        agent.train()
    else:
        agent.train(updates, 48)


def twins(kind: str, double: bool, **given: Any) -> tuple[Any, Any]:
    """Two agents with the same weights, optimizers, methods and experience; the second is stable-baselines3's."""
    agents = [make(kind, closed_form, double, **copy.deepcopy(given)) for closed_form in (True, False)]
    mine, theirs = agents
    collect(theirs)
    mine._logger = Logger(None, [])
    mine.policy.load_state_dict(theirs.policy.state_dict())
    for own, other in zip(mine.optimizers().values(), theirs.optimizers().values(), strict=True):
        own.load_state_dict(copy.deepcopy(other.state_dict()))
    for name, method in mine.methods.items():
        method.load_state_dict(theirs.methods[name].state_dict())
    if kind == "sac" and mine.log_ent_coef is not None:
        mine.log_ent_coef.data.copy_(theirs.log_ent_coef.data)
        mine.ent_coef_optimizer.load_state_dict(copy.deepcopy(theirs.ent_coef_optimizer.state_dict()))
    for agent in agents:
        if isinstance(agent, PPO):
            agent.rollout_buffer = copy.deepcopy(theirs.rollout_buffer)
            agent.rollout_buffer._observations = None
        else:
            agent.replay_buffer = copy.copy(theirs.replay_buffer)
        if double and isinstance(agent, PPO):
            agent.rollout_buffer.to_torch = lambda array, copy=True: doubled(torch.as_tensor(array))
        elif double:
            agent.replay_buffer.sample = functools.partial(doubled_sample, agent.replay_buffer.sample)
    mine._current_progress_remaining, mine._n_updates = theirs._current_progress_remaining, theirs._n_updates
    return mine, theirs


def state(agent: Any) -> dict[str, Tensor]:
    found = dict(agent.policy.state_dict())
    for name, optimizer in agent.optimizers().items():
        for i, of in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{i}.{key}": torch.as_tensor(value) for key, value in of.items()}
    return found


def farthest(mine: Any, theirs: Any) -> float:
    """The largest difference of any weight or moment, relative to the largest entry of its tensor."""
    mine, theirs = state(mine), state(theirs)
    assert mine.keys() == theirs.keys()
    pairs = [(t.double(), theirs[k].double()) for k, t in mine.items() if t.numel() and t.is_floating_point()]
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


def check(kind: str, double: bool, **given: Any) -> Any:
    mine, theirs = twins(kind, double, **given)
    assert mine.updates == "closed form"
    before = {k: v.clone() for k, v in mine.policy.state_dict().items()}
    update(mine)
    update(theirs)
    assert any(not torch.equal(v, before[k]) for k, v in mine.policy.state_dict().items())
    assert farthest(mine, theirs) < (1e-11 if double else 1e-5)
    logged, expected = mine.logger.name_to_value, theirs.logger.name_to_value
    train = {key: value for key, value in expected.items() if key.startswith("train/")}
    assert {key for key in logged if key.startswith("train/")} == train.keys()
    for key, value in train.items():
        assert logged[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    return mine


@pytest.mark.sampled(3)
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["ppo discrete", "ppo gaussian", "dqn", "double-dqn", "sac"])
def test_an_update_is_that_of_stable_baselines3(kind: str, network: str, double: bool) -> None:
    if "critic" in network and "dqn" in kind:
        pytest.skip("a DQN has critics only")
    check(kind, double, network=NETWORKS[network])


@pytest.mark.parametrize("actions", ["discrete", "gaussian"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_ppo(setting: str, actions: str) -> None:
    check(f"ppo {actions}", True, **SETTINGS[setting])


@pytest.mark.parametrize(
    "given", [{"ent_coef": 0.2}, {"ent_coef": "auto_0.1"}, {"target_update_interval": 3}, {"network": {"n_critics": 3}}]
)
def test_settings_of_sac(given: dict[str, Any]) -> None:
    check("sac", True, **given)


@pytest.mark.parametrize("arch", [{"pi": [8], "vf": [12, 12]}, {"pi": [], "vf": [8]}], ids=str)
def test_actor_and_critic_of_different_shape(arch: dict[str, list[int]]) -> None:
    check("ppo discrete", True, network={"net_arch": arch})


@pytest.mark.parametrize("hidden", [[16, 16], []], ids=["hidden", "none hidden"])
@pytest.mark.parametrize("kind", ["ppo discrete", "dqn", "double-dqn"])
def test_one_hot_features_that_are_nowhere_set_are_left_out(kind: str, hidden: list[int]) -> None:
    network = {"features_extractor_class": OneHot, "net_arch": hidden}
    agent = check(kind, False, observations=CELLS, network=network)
    update_, _ = agent._closed_form()
    columns = update_.encode(torch.as_tensor(CELLS.sample()[None] // 2 * 2))[1]
    takes_all = kind == "ppo discrete" and not hidden
    assert (columns is None) == takes_all


@pytest.mark.parametrize("kind", ["ppo discrete", "dqn", "sac"])
def test_several_updates(kind: str) -> None:
    mine, theirs = twins(kind, True)
    for agent in (mine, theirs):
        if kind == "ppo discrete":
            agent.n_epochs = 3
        update(agent, 12)
    assert mine._n_updates == theirs._n_updates
    assert farthest(mine, theirs) < 1e-9


def of_preset(name: str) -> dict[str, Any]:
    """What a preset of ``configs/regs`` asks of an agent."""
    methods, wanted = regs.split(regs.load(name)[1])
    network = dict(wanted.get("network", {}))
    if optimizer := wanted.get("optimizer"):
        network |= parse_optimizer(optimizer).policy_kwargs()
    return {"reg": regs.build(methods), "network": network}


@pytest.mark.parametrize("kind", some(["ppo discrete", "sac", "double-dqn"], "ppo discrete"))
@pytest.mark.parametrize("reg", [name for name in configs.names("regs") if name != "none"])
def test_every_method_acts_as_on_the_updates_of_stable_baselines3(reg: str, kind: str) -> None:
    mine, theirs = twins(kind, True, **of_preset(reg))
    for agent in (mine, theirs):
        update(agent)
    watches = any(isinstance(part, UnitMethod | PlasticityInjection) for part in regs.parts(mine.reg))
    assert (mine.updates == "closed form") != watches
    assert theirs.updates != "closed form"
    assert farthest(mine, theirs) < (0.05 if "muon" in reg else 1e-11)  # muon rounds to bfloat16
