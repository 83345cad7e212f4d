"""Which layers are output heads: read off the network's own pass where there is one, else guessed; doubt is said."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
import torch.nn.functional as F
from gymnasium import Env, spaces
from layers_by_hand import Parts, mlp
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from neoteny.plasticity import L2, Compose, Method, ReDo, Spectral, select_layers
from neoteny.plasticity.optimizers import Muon


def found(module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> tuple[set[str], str]:
    """The heads, and the warning, if any."""
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=1.0)
    every = {layer.name for layer in select_layers(module, optimizer, "include")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = {layer.name for layer in select_layers(module, optimizer)}
    assert len(caught) <= 1
    return every - chosen, "".join(str(each.message) for each in caught)


class Wired(Parts):
    """Parts with a forward."""

    def __init__(self, wire: Callable[[Any, Tensor], Any], **parts: nn.Module):
        super().__init__(**parts)
        self.wire = wire

    def forward(self, x: Tensor) -> Any:
        return self.wire(self, x)


Wire = Callable[[Any, Tensor], Any]
Make = Callable[[], dict[str, nn.Module]]


def both(n: Any, x: Tensor) -> Any:
    return n.actor(x), n.critic(x)


def encoded(n: Any, x: Tensor) -> Any:
    h = n.encoder(x)
    return n.actor(h), n.critic(h)


def two_towers(n: Any, x: Tensor) -> Any:
    return n.action_net(n.pi(x)), n.value_net(n.vf(x))


def functional(n: Any, x: Tensor) -> Any:
    h = F.relu(n.fc2(torch.relu(n.fc1(x))))
    return n.mean(h), n.log_std(h).clamp(-20, 2)


def pooled(n: Any, x: Tensor) -> Any:
    h = n.trunk(x)
    return n.policy(h).flatten(1), n.value(h.mean((2, 3)))


def followed_by(*last: Callable[[int], nn.Module]) -> Make:
    def head(width: int) -> nn.Module:
        return mlp(8, 16, width, last=tuple(make(width) for make in last))

    return lambda: {"encoder": mlp(4, 8, 8), "actor": head(2), "critic": head(1)}


#: The parts, how they are wired, the heads, and the layers in doubt where only the parts are known.
CASES: dict[str, tuple[Make, Wire, set[str], set[str]]] = {
    "actor and critic": (
        lambda: {"actor": mlp(4, 64, 64, 2), "critic": mlp(4, 64, 64, 1)}, both, {"actor.4", "critic.4"}, set()
    ),
    "encoder, actor and critic": (
        lambda: {"encoder": mlp(4, 64, 64), "actor": mlp(64, 32, 2), "critic": mlp(64, 32, 1)},
        encoded, {"actor.2", "critic.2"}, set(),
    ),
    "encoder and single heads": (
        lambda: {"encoder": mlp(4, 64, 64), "actor": nn.Linear(64, 2), "critic": nn.Linear(64, 1)},
        encoded, {"actor", "critic"}, set(),
    ),
    "two towers": (
        lambda: {"pi": mlp(4, 64, 64), "vf": mlp(4, 64, 64), "action_net": nn.Linear(64, 2),
                 "value_net": nn.Linear(64, 1)},
        two_towers, {"action_net", "value_net"}, set(),
    ),
    "layers on their own": (
        lambda: {"fc1": nn.Linear(4, 64), "fc2": nn.Linear(64, 64), "mean": nn.Linear(64, 2),
                 "log_std": nn.Linear(64, 2)},
        functional, {"mean", "log_std"}, set(),
    ),
    "as many actions as observations": (
        lambda: {"actor": mlp(6, 64, 64, 6), "critic": mlp(6, 64, 64, 1)},
        both, {"actor.4", "critic.4"}, {"actor.4"},
    ),
    "as many actions as observations, with an encoder": (
        lambda: {"encoder": mlp(6, 64, 64), "actor": mlp(64, 64, 6), "critic": mlp(64, 64, 1)},
        encoded, {"actor.2", "critic.2"}, {"actor.2"},
    ),
    "as many actions as observations, single layers": (
        lambda: {"encoder": nn.Linear(6, 64), "actor": nn.Linear(64, 6), "critic": nn.Linear(64, 1)},
        encoded, {"actor", "critic"}, {"actor"},
    ),
    "as many actions as observations, two towers": (
        lambda: {"pi": mlp(6, 64, 64), "vf": mlp(6, 64, 64), "action_net": nn.Linear(64, 6),
                 "value_net": nn.Linear(64, 1)},
        two_towers, {"action_net", "value_net"}, {"action_net"},
    ),
    "one observation": (
        lambda: {"critic": mlp(1, 64, 64, 1), "actor": mlp(1, 64, 64, 2)}, both, {"actor.4", "critic.4"}, {"critic.4"}
    ),
    "heads with Identity": (followed_by(nn.Identity), encoded, {"actor.2", "critic.2"}, set()),
    "heads with Softplus": (followed_by(lambda width: nn.Softplus()), encoded, {"actor.2", "critic.2"}, set()),
    "heads with Flatten": (followed_by(lambda width: nn.Flatten()), encoded, {"actor.2", "critic.2"}, set()),
    "heads with LayerNorm": (followed_by(nn.LayerNorm), encoded, {"actor.2", "critic.2"}, set()),
    "heads with Tanh and Unflatten": (
        followed_by(lambda width: nn.Tanh(), lambda width: nn.Unflatten(1, (1, width))), encoded,
        {"actor.2", "critic.2"}, set(),
    ),
    "as many actions as units": (
        lambda: {"pi": mlp(4, 64, 64, last=(nn.Tanh(),)), "vf": mlp(4, 64, 64, last=(nn.Tanh(),)),
                 "action_net": nn.Linear(64, 64), "value_net": nn.Linear(64, 1)},
        two_towers, {"action_net", "value_net"}, {"action_net"},
    ),
    "as many actions as units, after ReLU": (
        lambda: {"pi": mlp(4, 64, 64, last=(nn.ReLU(),)), "vf": mlp(4, 64, 64, last=(nn.ReLU(),)),
                 "action_net": nn.Linear(64, 64), "value_net": nn.Linear(64, 1)},
        two_towers, {"action_net", "value_net"}, set(),
    ),
    "convolutional policy": (
        lambda: {"trunk": nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU()), "policy": nn.Conv2d(64, 2, 1),
                 "value": nn.Linear(64, 1)},
        pooled, {"policy", "value"}, {"policy"},
    ),
    "as many observations as units": (
        lambda: {"pi": mlp(64, 64, 64), "vf": mlp(64, 64, 64), "action_net": nn.Linear(64, 2),
                 "value_net": nn.Linear(64, 1)},
        two_towers, {"action_net", "value_net"}, {"pi.2", "vf.2"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_pass_shows_the_heads_in_any_order_of_registration(case: str) -> None:
    make, wire, heads, _ = CASES[case]
    for order in permutations(make()):
        parts = make()
        assert found(Wired(wire, **{name: parts[name] for name in order})) == (heads, ""), order


@pytest.mark.parametrize("case", CASES)
def test_the_heads_of_loose_parts_are_guessed_in_any_order_and_doubt_is_said(case: str) -> None:
    make, _, heads, doubtful = CASES[case]
    for order in permutations(make()):
        parts = make()
        names, warning = found(Parts(**{name: parts[name] for name in order}))
        assert names == heads, order
        assert {name for name in heads | doubtful if f"{name!r} was taken" in warning} == doubtful, (order, warning)
        assert bool(warning) == bool(doubtful)


#: Plain networks, most of them without a forward.
NETWORKS = {
    "MLP": (lambda: mlp(4, 8, 8, 2), ["4"]),
    "one layer": (lambda: nn.Linear(4, 2), [""]),
    "MLP with norms": (lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)), ["3"]),
    "MLP with squashed output": (lambda: mlp(4, 8, 2, last=(nn.Tanh(),)), ["2"]),
    "MLP as wide as it is deep": (lambda: mlp(4, 4, 4, 4), ["4"]),
    "torso whose output something else takes": (
        lambda: Parts(torso=mlp(4, 8, 16, last=(nn.ReLU(),)), memory=nn.GRU(16, 5), head=nn.Linear(5, 2)), ["head"]
    ),
    "CleanRL's PPO": (lambda: Parts(critic=mlp(4, 64, 64, 1), actor=mlp(4, 64, 64, 2)), ["critic.4", "actor.4"]),
    "CleanRL's SAC actor": (
        lambda: Parts(fc1=nn.Linear(3, 256), fc2=nn.Linear(256, 256), fc_mean=nn.Linear(256, 2),
                      fc_logstd=nn.Linear(256, 2)),
        ["fc_mean", "fc_logstd"],
    ),
    "twin critics": (lambda: Parts(qf0=mlp(6, 8, 8, 1), qf1=mlp(6, 8, 8, 1)), ["qf0.4", "qf1.4"]),
    "list of critics": (lambda: nn.ModuleList([mlp(6, 8, 1), mlp(6, 8, 1)]), ["0.2", "1.2"]),
    "shared torso": (
        lambda: Parts(torso=mlp(4, 8, 8), actor=mlp(8, 16, 2), critic=nn.Linear(8, 1)), ["actor.2", "critic"]
    ),
    "nested torso": (lambda: nn.Sequential(mlp(4, 8, 16, last=(nn.ReLU(),)), mlp(16, 8, 2)), ["1.2"]),
    "reshaped on the way": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 16)), nn.Unflatten(1, (2, 8)), nn.Linear(8, 2)), ["2"]
    ),
    "dueling": (
        lambda: Parts(features=mlp(4, 8, 8), value=mlp(8, 8, 1), advantage=mlp(8, 8, 3)), ["value.2", "advantage.2"]
    ),
    "NatureCNN": (
        lambda: Parts(
            cnn=nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Flatten()),
            linear=nn.Sequential(nn.Linear(64 * 81, 512), nn.ReLU()), q=nn.Linear(512, 6),
        ),
        ["q"],
    ),
    "bare convolutions": (
        lambda: Parts(conv1=nn.Conv2d(1, 6, 5), conv2=nn.Conv2d(6, 10, 5), fc=nn.Linear(10 * 16, 20),
                      head=nn.Linear(20, 3)),
        ["head"],
    ),
    "concatenated activations": (
        lambda: Parts(a=nn.Linear(3, 8), b=nn.Linear(16, 8), c=nn.Linear(16, 5)), ["c"]
    ),
    "concatenated activations, two outputs": (
        lambda: Parts(torso=mlp(3, 12, 8), actor=nn.Linear(16, 2), critic=nn.Linear(16, 1)), ["actor", "critic"]
    ),
    "concatenated activations after convolutions": (
        lambda: Parts(a=nn.Conv2d(1, 6, 3), b=nn.Conv2d(12, 5, 3), c=nn.Linear(90, 7), d=nn.Linear(14, 3)), ["d"]
    ),
    "two outputs, half as many as the next network's inputs": (
        lambda: Parts(actor=mlp(4, 64, 64, 2), critic=mlp(4, 64, 64, 1)), ["actor.4", "critic.4"]
    ),
    "four outputs, half as many as the next head's inputs": (
        lambda: Parts(features=mlp(6, 8, 8), advantage=mlp(8, 8, 4), value=mlp(8, 8, 1)), ["advantage.2", "value.2"]
    ),
    "a convolution is not half of a Linear layer": (
        lambda: Parts(a=nn.Linear(3, 6), b=nn.Conv2d(12, 5, 3)), ["a", "b"]
    ),
    "fully convolutional": (lambda: Parts(a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 8, 3), out=nn.Conv2d(8, 5, 1)), ["out"]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "heads"), NETWORKS.values(), ids=NETWORKS)
def test_output_heads(make: Callable[[], nn.Module], heads: list[str]) -> None:
    names, warning = found(make())
    assert names == set(heads)
    assert not warning or "concatenated" in warning or "may be" in warning


# What a pass shows ------------------------------------------------------------------------------------------


def predicting(n: Any, x: Tensor) -> Any:
    state = n.dynamics(x)
    return state, n.reward(state)


def predicting_change(n: Any, x: Tensor) -> Any:
    state = x + n.dynamics(x) * 0.1
    return torch.cat([state, n.reward(state)], -1)


def latent(n: Any, x: Tensor) -> Any:
    z = torch.tanh(n.encoder(x))
    return n.q(z), z


def stream(n: Any, x: Tensor) -> Any:
    x = n.stem(x)
    x = x + n.a(F.relu(x))
    return x + n.b(F.relu(x))


def recurrent(n: Any, x: Tensor) -> Any:
    out, _ = n.memory(n.torso(x))
    return n.head(out[:, -1])


def tied(n: Any, x: Tensor) -> Any:
    return F.linear(n.head(F.linear(x, n.fc.weight).relu()), n.words.weight)


def distributional(n: Any, x: Tensor) -> Any:
    return n.head(n.torso(x)).softmax(-1) @ n.torso[0].support


def shaped(n: Any, x: Tensor) -> Any:
    h = n.a(x)
    return n.b(x.reshape(h.shape[0], h.size(1))), h


def kept(n: Any, x: Tensor) -> Any:
    h = n.torso(x)
    n.last_value = n.value(h)
    return n.actor(h)


def own_matrix(n: Any, x: Tensor) -> Any:
    return n.b(n.a(x)) @ n.w.weight.T


def unrolled(n: Any, x: Tensor) -> Any:
    states = [x := n.dynamics(x) for _ in range(3)]
    return torch.stack(states), n.reward(x)


def with_support() -> nn.Module:
    layer = nn.Linear(4, 8)
    layer.register_buffer("support", torch.arange(5.0))
    return nn.Sequential(layer, nn.ReLU())


class Odd(nn.Module):
    """Its forward needs data."""

    def __init__(self, *widths: int):
        super().__init__()
        self.net = mlp(*widths, last=(nn.ReLU(),))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > 0 else -self.net(x)


PASSES: dict[str, tuple[Make, Wire, set[str]]] = {
    "a prediction that a reward net takes": (
        lambda: {"dynamics": mlp(6, 32, 6), "reward": mlp(6, 32, 1)}, predicting, {"dynamics.2", "reward.2"}
    ),
    "a change that a reward net takes, outputs joined": (
        lambda: {"dynamics": mlp(6, 32, 6), "reward": mlp(6, 32, 1)}, predicting_change, {"dynamics.2", "reward.2"}
    ),
    "a prediction over several steps": (
        lambda: {"dynamics": mlp(6, 32, 6), "reward": mlp(6, 32, 1)}, unrolled, {"dynamics.2", "reward.2"}
    ),
    "features returned after their activation": (
        lambda: {"encoder": mlp(6, 32, 8), "q": mlp(8, 32, 2)}, latent, {"q.2"}
    ),
    "a residual stream": (
        lambda: {"stem": nn.Linear(4, 8), "a": nn.Linear(8, 8), "b": nn.Linear(8, 8)}, stream, {"b"}
    ),
    "GRU": (
        lambda: {"torso": mlp(4, 8, 8), "memory": nn.GRU(8, 8), "head": nn.Linear(8, 8)}, recurrent, {"head"}
    ),
    "weights used as functions": (
        lambda: {"fc": nn.Linear(4, 8), "head": nn.Linear(8, 8), "words": nn.Linear(8, 5)}, tied, {"words"}
    ),
    "outputs times a constant": (
        lambda: {"torso": with_support(), "head": nn.Linear(8, 5)}, distributional, {"head"}
    ),
    "only the shape goes on": (lambda: {"a": nn.Linear(4, 4), "b": nn.Linear(4, 2)}, shaped, {"a", "b"}),
    "an output kept, not returned": (
        lambda: {"torso": mlp(4, 8), "value": nn.Linear(8, 1), "actor": nn.Linear(8, 2)}, kept, {"value", "actor"}
    ),
    "a frozen layer last": (
        lambda: {"a": nn.Linear(4, 8), "b": nn.Linear(8, 8), "w": nn.Linear(8, 3).requires_grad_(False)},
        own_matrix, set(),
    ),
    "weight norm": (
        lambda: {"encoder": weight_norm(nn.Linear(6, 64)), "actor": nn.Linear(64, 6), "critic": nn.Linear(64, 1)},
        encoded, {"actor", "critic"},
    ),
    "a part that needs data, before the heads": (
        lambda: {"encoder": Odd(6, 64, 64), "actor": nn.Linear(64, 6), "critic": nn.Linear(64, 1)},
        encoded, {"actor", "critic"},
    ),
    "a Transformer": (
        lambda: {"encoder": nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)), "actor": nn.Linear(8, 4),
            "critic": nn.Linear(8, 1)},
        encoded, {"actor", "critic"},
    ),
    "no torch.nn activation anywhere": (
        lambda: {"fc1": nn.Linear(4, 4), "fc2": nn.Linear(4, 4), "mean": nn.Linear(4, 4), "log_std": nn.Linear(4, 4)},
        functional, {"mean", "log_std"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSES)
def test_a_pass_shows_what_widths_do_not(case: str) -> None:
    make, wire, heads = PASSES[case]
    module = Wired(wire, **make())
    trained = [p for p in module.parameters() if p.requires_grad]
    assert found(module, torch.optim.SGD(trained, lr=1.0)) == (heads, "")


def test_what_needs_data_at_the_end_is_looked_into() -> None:
    module = nn.Sequential(mlp(4, 8, 8), Odd(8, 8, 2))
    assert found(module) == (set(), "")  # its last layer has an activation behind it
    module[1].net = mlp(8, 8, 2)
    assert found(module) == ({"1.net.2"}, "")


class Flagged(Parts):
    """An agent of the usual kind: optional arguments, samples actions."""

    def forward(self, x: Tensor, state: Tensor | None = None, deterministic: bool = False) -> Any:
        if state is None:
            state = torch.zeros(1)
        h = self.encoder(x) + state
        return self.actor(h).tanh() if deterministic else self.actor(h), self.critic(h)


def test_optional_arguments_take_their_defaults() -> None:
    parts = {"encoder": mlp(6, 8, 8), "actor": nn.Linear(8, 6), "critic": nn.Linear(8, 1)}
    assert found(Flagged(**parts)) == ({"actor", "critic"}, "")


class Meddling(Parts):
    """Its forward changes whatever it can reach, and draws random numbers."""

    def __init__(self, **parts: nn.Module):
        super().__init__(**parts)
        self.calls, self.outputs = 0, []
        self.register_buffer("count", torch.zeros(1))
        self.optimizer = torch.optim.Adam(self.parameters())
        self.features = self.actor(torch.ones(1, 4))  # with a graph behind it

    def forward(self, x: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        self.calls += 1
        self.count += 1
        x = x + torch.randn(4) + float(np.random.rand()) + random.random()  # noqa: NPY002
        self.outputs.append(self.actor(x))
        self.train(False)
        warnings.warn("a pass", stacklevel=1)
        return self.outputs[-1]


@pytest.mark.parametrize("needs_data", [False, True])
def test_nothing_of_the_network_is_touched(needs_data: bool) -> None:
    module = Meddling(actor=nn.Sequential(nn.Linear(4, 4), Odd(4, 4) if needs_data else nn.ReLU(), nn.Linear(4, 4)))
    fired: list[object] = []
    handles = [part.register_forward_hook(lambda *args: fired.append(args)) for part in module.modules()]
    handles += [part.register_forward_pre_hook(lambda *args: fired.append(args)) for part in module.modules()]
    handles.append(nn.modules.module.register_module_forward_hook(lambda *args: fired.append(args)))
    weights = {name: (p, p.detach().clone(), p._version) for name, p in module.named_parameters()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    kept = dict(vars(module)), dict(vars(module.actor[0]))
    with torch.enable_grad():
        assert found(module, module.optimizer) == ({"actor.2"}, "")
        assert torch.is_grad_enabled()
    for handle in handles:
        handle.remove()
    assert (module.calls, module.outputs, module.count.item(), module.training, fired) == (0, [], 0, True, [])
    assert (dict(vars(module)), dict(vars(module.actor[0]))) == kept
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    for name, p in module.named_parameters():
        same, before, version = weights[name]
        assert p is same
        assert p.grad is None
        assert p._version == version
        assert torch.equal(p, before)
    assert not module.optimizer.state


def test_a_method_that_is_attached_does_not_change_the_choice() -> None:
    module = Wired(encoded, encoder=mlp(6, 8, 8), actor=nn.Linear(8, 6), critic=nn.Linear(8, 1))
    optimizer = torch.optim.Adam(module.parameters())
    module.optimizer = optimizer
    ReDo(every=1).attach(module, optimizer)
    sum(out.sum() for out in module(torch.ones(2, 6))).backward()
    optimizer.step()
    assert found(module, optimizer) == ({"actor", "critic"}, "")


# Doubt is said ----------------------------------------------------------------------------------------------


def doubtful() -> nn.Module:
    return Parts(critic=mlp(6, 8, 1), actor=mlp(6, 8, 6))


@pytest.mark.parametrize("make", [Spectral, lambda: Compose(methods=(Spectral(), L2()))])
def test_a_doubtful_guess_warns_once_with_the_layer_and_how_to_say_it(make: Callable[[], Method]) -> None:
    module = doubtful()
    with pytest.warns(UserWarning, match="^heads: ") as caught:
        make().attach(module, torch.optim.Adam(module.parameters()))
    (warning,) = caught
    assert warning.filename == __file__ or isinstance(make(), Compose)
    message = str(warning.message)
    assert "'actor.2' was taken as an output head, but may be hidden, if 'critic.0' takes its output" in message
    assert 'heads=["actor.2", "critic.2"]' in message


@pytest.mark.parametrize(
    ("settings", "attaching"),
    [
        ({"heads": "include"}, {}),
        ({"heads": ["actor.2", "critic.2"]}, {}),
        ({}, {"output_layers": ["actor.2", "critic.2", "actor"]}),
        ({}, {"only": lambda name: name.startswith("critic")}),
    ],
)
def test_who_says_the_heads_is_not_warned(settings: dict[str, Any], attaching: dict[str, Any]) -> None:
    module, method = doubtful(), Spectral(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.attach(module, torch.optim.Adam(module.parameters()), **attaching)
    acted_on = {"critic.0"} if "only" in attaching else {"actor.0", "critic.0"}
    every = {"actor.0", "actor.2", "critic.0", "critic.2"}
    assert {layer.name for layer in method.layers} == (every if settings.get("heads") == "include" else acted_on)


def test_output_layers_hold_for_exempt_only_and_must_exist() -> None:
    module = doubtful()
    optimizer = torch.optim.Adam(module.parameters())
    method = Spectral(heads=["critic.2"])
    method.attach(module, optimizer, output_layers=["actor.2"])
    assert {layer.name for layer in method.layers} == {"critic.0", "actor.0", "actor.2"}
    with pytest.raises(ValueError, match=r"^output_layers: there is no layer 'actor\.3'; the layers are critic\.0, "):
        Spectral().attach(module, optimizer, output_layers=["actor.3"])


def test_muon_takes_the_heads_too() -> None:
    module = doubtful()
    with pytest.warns(UserWarning, match="^heads: "):
        assert Muon(module.parameters()).choose_hidden(module) == ["critic.0", "actor.0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Muon(module.parameters()).choose_hidden(module, heads=["critic.0"]) == ["critic.2", "actor.0", "actor.2"]
        optimizer = Muon(module.parameters())
        optimizer.prepare(module, seed=0, output_layers=["actor.0", "actor.2"])
        hidden = [group for group in optimizer.param_groups if "ns_steps" in group]
        assert [len(group["params"]) for group in hidden] == [2]


# Policies of stable-baselines3 and sb3-contrib --------------------------------------------------------------


class Spaces(Env[Any, Any]):
    """An environment that is never stepped."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]):
        self.observation_space, self.action_space = observations, actions


VECTOR, IMAGE = spaces.Box(-1, 1, (8,)), spaces.Box(0, 255, (3, 64, 64), np.uint8)
OBSERVATIONS = {"Mlp": VECTOR, "Cnn": IMAGE, "MultiInput": spaces.Dict(image=IMAGE, vector=VECTOR)}
DISCRETE, CONTINUOUS = spaces.Discrete(4), spaces.Box(-1, 1, (3,))
ACTOR_CRITIC = {"action_net", "value_net"}
ACTOR = {"actor.mu", "actor.log_std"}
ALGORITHMS: list[tuple[type[BaseAlgorithm], spaces.Space[Any], set[str]]] = [
    (sb3.PPO, DISCRETE, ACTOR_CRITIC),
    (sb3.PPO, CONTINUOUS, ACTOR_CRITIC),
    (sb3.A2C, DISCRETE, ACTOR_CRITIC),
    (sb3.DQN, DISCRETE, {"q_net.q_net.{last}"}),
    (sb3.SAC, CONTINUOUS, {*ACTOR, "critic.qf0.4", "critic.qf1.4"}),
    (sb3.TD3, CONTINUOUS, {"actor.mu.4", "critic.qf0.4", "critic.qf1.4"}),
    (sb3.DDPG, CONTINUOUS, {"actor.mu.4", "critic.qf0.4"}),
    (sb3_contrib.TRPO, CONTINUOUS, ACTOR_CRITIC),
    (sb3_contrib.MaskablePPO, DISCRETE, ACTOR_CRITIC),
    (sb3_contrib.RecurrentPPO, DISCRETE, ACTOR_CRITIC),
    (sb3_contrib.QRDQN, DISCRETE, {"quantile_net.quantile_net.{last}"}),
    (sb3_contrib.TQC, CONTINUOUS, {*ACTOR, "critic.qf0.4", "critic.qf1.4"}),
    (sb3_contrib.CrossQ, CONTINUOUS, {*ACTOR, "critic.qf0.7", "critic.qf1.7"}),
]


@pytest.mark.parametrize("observations", OBSERVATIONS)
@pytest.mark.parametrize(
    ("algorithm", "actions", "heads"), ALGORITHMS, ids=lambda x: getattr(x, "__name__", type(x).__name__)
)
def test_stock_policies_are_clear(
    algorithm: type[BaseAlgorithm], actions: spaces.Space[Any], heads: set[str], observations: str
) -> None:
    name = f"{observations}{'LstmPolicy' if algorithm is sb3_contrib.RecurrentPPO else 'Policy'}"
    if name not in algorithm.policy_aliases:
        pytest.skip(f"{algorithm.__name__} has no {name}")
    off_policy = {"buffer_size": 1} if issubclass(algorithm, OffPolicyAlgorithm) else {}
    model: Any = algorithm(name, Spaces(OBSERVATIONS[observations], actions), device="cpu", **off_policy)
    owners = [model.policy] if hasattr(model.policy, "optimizer") else [model.actor, model.critic]
    chosen: set[str] = set()
    for owner in owners:
        names, warning = found(model.policy, owner.optimizer)
        assert not warning
        chosen |= names
    last = 0 if observations == "Cnn" else 4
    assert chosen == {head.format(last=last) for head in heads}
