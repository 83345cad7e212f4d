"""Which operations keep units apart, what is seen late, and what is said about units that are left alone."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from layers_by_hand import adam, update
from torch import Tensor, nn
from torch.nn import functional as F

from neoteny.plasticity import METHODS, ContinualBackprop, LayerReset, ReDo, SelfNormalizedResets

pytestmark = pytest.mark.filterwarnings("ignore:.*leaves:UserWarning")


class Net(nn.Module):
    """a → something → c, with more layers for it to use; ``x`` has as many features as there are units."""

    def __init__(self, way: Callable[["Net", Tensor], Tensor], inputs: int = 6, **layers: nn.Module):
        super().__init__()
        self.way = way
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(inputs, 3)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def traced(network: nn.Module, inputs: Tensor, method: ReDo | None = None) -> ReDo:
    method = method or ReDo(every=1, tau=0.0)
    method.attach(network, adam(network))
    network(inputs).square().mean().backward()
    return method


def links(method: ReDo, name: str = "a") -> list[tuple[str, int, int, int]]:
    refused = method.refusals()
    return [] if name in refused else [(k.name, k.units, k.offset, k.repeat) for k in method.wiring.links.get(name, [])]


PLAIN = [("c", 6, 0, 1)]
APART: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "mask": lambda n, x: n.c(n.a(x) * x),
    "gate": lambda n, x: n.c(n.a(x) * n.b(x).sigmoid()),
    "swish by hand": lambda n, x: n.c(n.a(x) * n.a(x).sigmoid()),
    "one sum of one unit": lambda n, x: n.c((h := n.a(x)) - h.tanh()),
    "where of one unit": lambda n, x: n.c(torch.where((h := n.a(x)) > 0, h, 0.1 * h)),
    "scale per sample": lambda n, x: n.c(n.a(x) * x[:, :1]),
    "divided": lambda n, x: n.c(n.a(x) / 2),
    "one minus": lambda n, x: n.c(1 - n.a(x)),
    "power": lambda n, x: n.c(n.a(x) ** 2),
    "clamped": lambda n, x: n.c(n.a(x).clamp(0, 1)),
    "masked": lambda n, x: n.c(n.a(x).masked_fill(x > 0, 0.0)),
    "in place": lambda n, x: n.c(n.a(x[:, None]).relu_()[:, 0]),
    "over time": lambda n, x: n.c(torch.stack([n.a(x), n.a(2 * x)], 1)),
    "last step": lambda n, x: n.c(n.a(x[:, None].expand(-1, 4, -1)).tanh()[:, -1]),
    "turned and back": lambda n, x: n.c(n.a(x).T.relu().T),
    "mean over time": lambda n, x: n.c(n.a(x[:, None].expand(-1, 4, -1)).mean(1)),
    "greatest over time": lambda n, x: n.c(n.a(x[:, None].expand(-1, 4, -1)).amax(1)),
    "without a batch": lambda n, x: n.c(n.a(x[0]).relu()),
    "functional norm": lambda n, x: n.c(F.layer_norm(n.a(x), (6,))),
}
NOT_APART: dict[str, tuple[Callable[[Net, Tensor], Tensor], str]] = {
    "plus input": (lambda n, x: n.c(x + n.a(x).relu()), "summed with others"),
    "minus input": (lambda n, x: n.c(x - n.a(x).relu()), "summed with others"),
    "plus frozen stem": (lambda n, x: n.c(n.a(x).relu() + n.frozen(x)), "summed with others"),
    "plus trained stem": (lambda n, x: n.c(n.a(x).relu() + n.b(x)), "summed with others"),
    "plus parameter": (lambda n, x: n.c(n.a(x) + n.b.bias), "summed with others"),
    "greater of two": (lambda n, x: n.c(torch.maximum(n.a(x), x)), "summed with others"),
    "at least another": (lambda n, x: n.c(n.a(x).clamp(min=x)), "summed with others"),
    "where": (lambda n, x: n.c(torch.where(x > 0, n.a(x), x)), "summed with others"),
    "two in time": (lambda n, x: n.c(torch.stack([n.a(x), n.b(x)], 1)), "summed with others"),
    "input in time": (lambda n, x: n.c(torch.cat([n.a(x), x], 0)), "summed with others"),
    "interpolated": (lambda n, x: n.c(torch.lerp(n.a(x), x, 0.5)), "mixed with others by Lerp"),
    "softmax": (lambda n, x: n.c(n.a(x).softmax(1)), "mixed with others by Softmax"),
    "normalized by all": (lambda n, x: n.c((h := n.a(x)) / h.norm(dim=1, keepdim=True)), "spread over others"),
    "norm of one": (lambda n, x: n.c(n.a(x).mean(1, keepdim=True) * x), "spread over others"),
    "sum of all": (lambda n, x: n.c(x * n.a(x).sum()), "spread over others"),
    "one for all": (lambda n, x: n.c(x * n.a(x)[:, :1]), "spread over others"),
    "part": (lambda n, x: n.small(n.a(x)[:, 3:]), "mixed with others by Slice"),
    "reordered": (lambda n, x: n.c(n.a(x)[:, [1, 0, 2, 3, 4, 5]]), "mixed with others by Index"),
    "flipped": (lambda n, x: n.c(n.a(x).flip(1)), "mixed with others by Flip"),
    "rolled": (lambda n, x: n.c(n.a(x).roll(1, 1)), "mixed with others by Roll"),
    "turned": (lambda n, x: n.c(n.a(x[:6]).T), "reordered before c"),
    "pooled across units": (lambda n, x: n.c(F.max_pool1d(n.a(x)[:, None], 3, 1, 1)[:, 0]), "mixed with others by Max"),
    "gated in halves": (lambda n, x: n.small(F.glu(n.a(x))), "mixed with others by Glu"),
    "heads": (lambda n, x: n.small(n.a(x).view(-1, 2, 3)), "mixed with others by View"),
    "flattened time": (lambda n, x: n.c(n.a(x.view(-1, 2, 6)).flatten(1)[:, :6]), "mixed with others by Slice"),
    "shared next layer": (lambda n, x: n.c(n.a(x).relu()) + n.c(n.b(x).relu()), "shares weights of c with b"),
    "input to the next layer": (lambda n, x: n.c(n.a(x).relu()) + n.c(x), "shares weights of c with other inputs"),
    "frozen next layer": (lambda n, x: n.c(n.a(x)) + n.frozen(n.a(x)).sum(), "feeds frozen, which is frozen"),
    "to the output": (lambda n, x: torch.cat([n.c(h := n.a(x).relu()), h], 1), "also an output of the network"),
    "behind unknown widths": (lambda n, x: n.wide(torch.cat([x, n.a(x), x], 1)), "at an unknown place"),
    "a cell": (lambda n, x: n.cell(n.a(x)), "feeds cell (GRUCell)"),
    "a parametrized layer": (lambda n, x: n.normed(n.a(x)), "feeds normed (ParametrizedLinear)"),
    "an old weight norm": (lambda n, x: n.older(n.a(x)), "feeds older (parametrized Linear)"),
}  # fmt: skip


def others() -> dict[str, nn.Module]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        older = nn.utils.weight_norm(nn.Linear(6, 3))
    return {
        "frozen": nn.Linear(6, 6).requires_grad_(False), "small": nn.Linear(3, 3), "wide": nn.Linear(18, 3),
        "cell": nn.GRUCell(6, 3), "normed": nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), "older": older,
    }  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_operations_that_keep_units_apart(name: str):
    method = traced(Net(APART[name], **others()), torch.randn(8, 6))
    assert links(method) == PLAIN, method.refusals()


@pytest.mark.parametrize("name", NOT_APART)
def test_operations_that_do_not_keep_units_apart(name: str):
    way, reason = NOT_APART[name]
    method = traced(Net(way, **others()), torch.randn(8, 6))
    assert method.refusals()["a"].startswith(reason), method.refusals()
    assert "a" not in [layer.name for layer in method.ready()]


ACTIVATIONS = [
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus,
    nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Hardswish, nn.Hardtanh, nn.ReLU6, nn.LogSigmoid,
    nn.PReLU, nn.RReLU, nn.Dropout, nn.AlphaDropout,
]  # fmt: skip


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(kind: type[nn.Module]):
    network = nn.Sequential(nn.Linear(4, 5), kind(), nn.Linear(5, 2))
    assert links(traced(network, torch.randn(8, 4)), "0") == [("2", 5, 0, 1)]


POOLS: list[tuple[nn.Module, int]] = [
    (nn.AdaptiveAvgPool2d(1), 1), (nn.AdaptiveAvgPool2d(2), 4), (nn.AdaptiveMaxPool2d(1), 1),
    (nn.AdaptiveMaxPool2d(2), 4), (nn.MaxPool2d(2), 4), (nn.AvgPool2d(2), 4), (nn.Dropout2d(), 16),
    (nn.Upsample(scale_factor=2), 64), (nn.ZeroPad2d(1), 36), (nn.ReflectionPad2d(1), 36), (nn.BatchNorm2d(3), 16),
    (nn.BatchNorm2d(3, affine=False), 16),
    (nn.InstanceNorm2d(3), 16), (nn.GroupNorm(3, 3), 16),
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("pool", "positions"), POOLS, ids=lambda value: str(value)[:20])
def test_between_a_convolution_and_a_linear_layer(pool: nn.Module, positions: int, channels: int, batch: int):
    if channels == 1 and "Norm" in str(pool):
        pytest.skip("made for three channels")
    network = nn.Sequential(nn.Conv2d(1, channels, 1), copy.deepcopy(pool), nn.SiLU(), nn.Flatten(),
                            nn.Linear(positions * channels, 2))  # fmt: skip
    assert links(traced(network, torch.randn(batch, 1, 4, 4)), "0") == [("4", channels, 0, positions)]


class Meaned(nn.Module):
    def __init__(self, dims: tuple[int, ...]):
        super().__init__()
        self.a, self.c, self.dims = nn.Conv2d(1, 4, 1), nn.Linear(4, 2), dims

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x).mean(self.dims))


@pytest.mark.parametrize(("dims", "apart"), [((2, 3), True), ((-1, -2), True), ((1, 2), False), ((1, 3), False)])
def test_a_mean_over_positions(dims: tuple[int, ...], apart: bool):
    method = traced(Meaned(dims), torch.randn(3, 1, 4, 4))
    assert links(method) == ([("c", 4, 0, 1)] if apart else [])


def test_no_graph_is_kept():
    """Memory of a pass without backward is freed with its output."""
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    method = traced(network, torch.randn(8, 4))
    freed = []

    class Witness:
        def __del__(self) -> None:
            freed.append(True)

    output = network(torch.randn(8, 4))
    output.grad_fn.metadata["witness"] = Witness()
    del output
    assert freed
    assert method.wiring.links


# What is seen late


class Late(nn.Module):
    """Heads on one trunk, of which the second is first used later."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor, task: int = 0) -> Tensor:
        return (self.two if task else self.one)(self.trunk(x).relu())


def several(count: int, network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    for _ in range(count):
        update(network, optimizer, inputs)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, *inputs: object) -> None:
    optimizer.zero_grad()
    network(*inputs).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("both", [False, True])
def test_a_head_that_is_first_used_later(both: bool):
    network = Late()
    optimizer, method = adam(network), ReDo(every=3, tau=1e9)
    method.attach(network, optimizer)
    x = torch.randn(8, 3)
    for _ in range(4):
        step(network, optimizer, x)
    assert (network.two.weight != 0).all()
    step(network, optimizer, x, 1)
    if both:
        network(x).sum().backward()
    step(network, optimizer, x, 1)
    assert method.scalars()["resets"] == 12
    assert (network.two.weight == 0).all()
    assert (network.one.weight == 0).all()


class Routed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, way: str = "abc") -> Tensor:
        h = self.a(x).relu()
        if way == "skip":
            return self.c(self.b(h).relu() + h)
        if way == "inside":
            return self.c((self.b(h) + h).relu())
        return self.c(self.b(h).relu() if way == "abc" else h)


@pytest.mark.parametrize(
    ("way", "refused"),
    [("ac", {"a": "shares weights of c with b", "b": "shares weights of c with a"}),
     ("skip", {"a": "summed with others", "b": "summed with others"}),
     ("inside", {"a": "summed with others", "b": "summed with others"})],
)  # fmt: skip
def test_a_new_route_between_known_layers(way: str, refused: dict[str, str]):
    network = Routed()
    optimizer, method = adam(network), ReDo(every=1, tau=0.0)
    method.attach(network, optimizer)
    step(network, optimizer, torch.randn(8, 4))
    assert method.refusals() == {}
    step(network, optimizer, torch.randn(8, 4), way)
    assert method.refusals() == refused


def test_heights_follow():
    """One layer after the trunk at first, two later."""
    network = Routed()
    optimizer, method = adam(network), LayerReset(last=2)
    method.attach(network, optimizer)
    step(network, optimizer, torch.randn(8, 4), "ac")
    assert {name: int(height) for name, height in method._heights.items()} == {"a": 1, "b": -1, "c": 0}
    step(network, optimizer, torch.randn(8, 4))
    assert {name: int(height) for name, height in method._heights.items()} == {"a": 2, "b": 1, "c": 0}


def test_a_layer_put_before_one_that_is_known_has_outgoing_weights_of_zero():
    """a is first used after b was: both are reset, and b's new rows must not be drawn over a's zeros."""

    class Grown(Routed):
        def forward(self, x: Tensor, grown: bool = False) -> Tensor:
            return self.c(self.b(self.a(x).relu() if grown else x.detach()).relu())

    network = Grown()
    optimizer, method = adam(network), ReDo(every=3, tau=1e9)
    method.attach(network, optimizer)
    for grown in (False, False, False, True, True, True):
        step(network, optimizer, torch.randn(8, 4), grown)
    assert (network.b.weight == 0).all()
    assert (network.c.weight == 0).all()


def test_heights_stay_when_frozen_layers_hide_a_route():
    network = Routed()
    optimizer, method = adam(network), LayerReset(last=2)
    method.attach(network, optimizer)
    step(network, optimizer, torch.randn(8, 4))
    again, moments = LayerReset(last=2), adam(network)
    again.attach(network, moments)
    again.load_state_dict(method.state_dict())
    network.a.requires_grad_(False)
    step(network, moments, torch.randn(8, 4))
    assert {name: int(height) for name, height in again._heights.items()} == {"a": 2, "b": 1, "c": 0}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.inner(x).relu())


def test_a_network_of_many_blocks():
    """Deeper than Python's stack."""
    network = nn.Sequential(nn.Linear(3, 4), *(Residual() for _ in range(600)), nn.Linear(4, 2))
    optimizer, method = torch.optim.SGD(network.parameters(), lr=0.0), LayerReset()
    method.attach(network, optimizer)
    step(network, optimizer, torch.randn(2, 3))
    assert int(method._heights["0"]) == 1201
    assert sum(not method.wiring.refusal(layer.name, method._trained) for layer in method.layers) == 600


def test_a_shared_norm_is_left_alone():
    d, norm = nn.Linear(6, 3), nn.LayerNorm(6)
    network = Net(lambda n, x: n.c(n.norm(n.a(x))) + n.d(n.norm(n.b(x))), norm=norm, d=d)
    network.norm.weight.data.fill_(5)
    ReDo(every=1, tau=1e9).attach(network, optimizer := torch.optim.SGD(network.parameters(), lr=0.0))
    update(network, optimizer, torch.randn(8, 6))
    assert (network.c.weight == 0).all()
    assert (network.norm.weight == 5).all()


# What is said


@pytest.mark.parametrize("name", ["redo", "continual-backprop", "self-normalized-resets"])
def test_units_left_alone_are_named_once(name: str):
    network = Net(NOT_APART["plus input"][0])
    settings = {"continual-backprop": {}}.get(name, {"every": 2})
    optimizer, method = adam(network), METHODS[name](**settings)
    method.attach(network, optimizer)
    assert method.refusals() == {}
    match = f"{name} leaves the units of these layers alone: a: summed with others; b: not seen in a training pass"
    with pytest.warns(UserWarning, match=match):
        several(2, network, optimizer, torch.randn(8, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        several(4, network, optimizer, torch.randn(8, 6))
    assert method.refusals() == {"a": "summed with others", "b": "not seen in a training pass"}


def test_layers_that_turn_out_later_are_named_too():
    network = Routed()
    optimizer, method = adam(network), ReDo(every=1, tau=0.0)
    method.attach(network, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(network, optimizer, torch.randn(8, 4))
    with pytest.warns(UserWarning, match="a: summed with others; b: summed with others"):
        step(network, optimizer, torch.randn(8, 4), "skip")


UNSEEN = {"redo": {"every": 2}, "continual-backprop": {}, "self-normalized-resets": {"every": 2}, "layer-reset": {}}


@pytest.mark.parametrize("why", ["eval", "other network"])
@pytest.mark.parametrize("name", UNSEEN)
def test_a_method_that_sees_no_units_says_so(name: str, why: str):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).train(why != "eval")
    optimizer, method = adam(network), METHODS[name](**UNSEEN[name])
    method.attach(network, optimizer)
    used = network if why == "eval" else copy.deepcopy(network)
    with pytest.warns(UserWarning, match=rf"{name} has seen no units.*train\(\)"):
        several(2, used, optimizer, torch.randn(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        several(4, used, optimizer, torch.randn(8, 3))


@pytest.mark.parametrize("idle", [ReDo(every=0), SelfNormalizedResets(every=0), ContinualBackprop(replacement_rate=0.0),
                                  LayerReset(at_switch=False)])  # fmt: skip
def test_a_method_that_never_acts_says_nothing(idle: ReDo):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    idle.attach(network, optimizer := adam(network))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        update(network, optimizer, torch.randn(8, 3))


def test_a_compiled_network_is_not_seen():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    compiled = torch.compile(network, backend="eager")
    optimizer, method = adam(network), ReDo(every=1, tau=1e9)
    method.attach(network, optimizer)
    with pytest.warns(UserWarning, match="redo has seen no units"):
        update(compiled, optimizer, torch.randn(8, 3))
    assert method.scalars()["resets"] == 0
    assert method.refusals() == {"0": "not seen in a training pass"}


def test_another_optimizers_layer():
    """Named; and acted on once this optimizer has the layer."""
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer, method = torch.optim.SGD(network[0].parameters(), lr=0.0), ReDo(every=1, tau=1e9, heads="include")
    method.attach(network, optimizer)
    update(network, optimizer, torch.randn(8, 3))
    assert method.refusals() == {"0": "feeds 2, which this optimizer does not train"}
    optimizer.add_param_group({"params": list(network[2].parameters())})
    for _ in range(2):
        update(network, optimizer, torch.randn(8, 3))
    assert method.refusals() == {}
    assert (network[2].weight == 0).all()
