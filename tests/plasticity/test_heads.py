"""Which layers are output heads: read off the network's own pass where there is one, else guessed; doubt is said."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from head_cases import Make, Wire, Wired, both, encoded, found, functional, pooled, two_towers
from layers_by_hand import Parts, mlp
from torch import nn

from neoteny.plasticity import L2, Compose, Method, Spectral
from neoteny.plasticity.heads import HeadChoice, output_heads
from neoteny.plasticity.optimizers import Muon


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
        two_towers, {"action_net", "value_net"}, {"action_net"},
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
    assert bool(warning) == (make in [NETWORKS[name][0] for name in NETWORKS if name.startswith("concatenated")])


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


# Layers of other types, which are never heads ---------------------------------------------------------------

OWNERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding)


def choice(module: nn.Module) -> HeadChoice:
    return output_heads(module, {name: part for name, part in module.named_modules() if isinstance(part, OWNERS)})


@pytest.mark.parametrize(
    ("make", "heads"),
    [
        (lambda: {"torso": mlp(4, 8, 16), "memory": nn.GRU(16, 5), "head": nn.Linear(5, 2)}, {"head"}),
        (lambda: {"words": nn.Embedding(9, 8), "memory": nn.LSTM(8, 16, bidirectional=True), "head": nn.Linear(32, 9)},
         {"head"}),
        (lambda: {"torso": mlp(4, 8), "cell": nn.GRUCell(8, 6), "actor": nn.Linear(6, 2), "critic": nn.Linear(6, 1)},
         {"actor", "critic"}),
        (lambda: {"torso": mlp(4, 16, 8), "attention": nn.MultiheadAttention(8, 2), "head": nn.Linear(8, 3)}, {"head"}),
        (lambda: {"torso": mlp(4, 16, 8), "layer": nn.TransformerEncoderLayer(8, 2, 16), "head": nn.Linear(8, 3)},
         {"head"}),
        (lambda: {"code": mlp(4, 16, 8 * 9), "picture": nn.Sequential(nn.ConvTranspose2d(8, 4, 3), nn.ReLU(),
                                                                      nn.ConvTranspose2d(4, 3, 3))}, {"picture.2"}),
    ],
)  # fmt: skip
def test_other_layers_take_and_give_widths(make: Make, heads: set[str]) -> None:
    for order in permutations(make()):
        parts = make()
        assert choice(Parts(**{name: parts[name] for name in order})) == HeadChoice(frozenset(heads), "guessed"), order


def test_other_layers_are_no_heads() -> None:
    assert choice(nn.TransformerEncoderLayer(8, 2, 16)).names == set()
    assert choice(nn.Sequential(nn.Linear(4, 8), nn.GRU(8, 2))) == HeadChoice(frozenset(), "traced")
    assert choice(Parts(torso=mlp(4, 8, 8), memory=nn.GRU(8, 2))).names == set()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda net: Parts(net=net)])
def test_a_wrapped_network_keeps_its_heads(wrap: Callable[[nn.Module], nn.Module]) -> None:
    net = Wired(encoded, encoder=mlp(6, 8, 8), actor=nn.Linear(8, 6), critic=nn.Linear(8, 1))
    names, warning = found(wrap(net))
    assert {name.rpartition(".")[2] for name in names} == {"actor", "critic"}
    assert not warning


def test_what_cannot_be_copied_is_guessed() -> None:
    net = Wired(encoded, encoder=mlp(6, 8, 8), actor=nn.Linear(8, 6), critic=nn.Linear(8, 1))
    assert choice(net).how == "traced"
    net.lock = threading.Lock()
    assert choice(net) == HeadChoice(
        frozenset({"actor", "critic"}), "guessed", {"actor": "hidden, if 'encoder.0' takes its output"}
    )


def test_a_long_doubt_is_cut_short() -> None:
    names, warning = found(nn.ModuleList([nn.Linear(4, 4) for _ in range(40)]))
    assert names == {"39"}
    assert warning.count("was taken") == 5
    assert "and so on for 35 more" in warning
