"""What a symbolic pass shows of a network's heads, and that it changes nothing."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from head_cases import Make, Wire, Wired, encoded, found, functional
from layers_by_hand import Parts, mlp
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from neoteny.plasticity import ReDo


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
