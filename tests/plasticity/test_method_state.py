"""The state of every method: restored, going on as before, and refused where it is another's."""

import copy
import io
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from method_network import (
    Network,
    adam,
    assert_same,
    attached,
    every_method,
    train,
)
from method_zoo import make
from torch import Tensor, nn

from neoteny.plasticity import METHODS, Compose, Method, Spectral


@every_method
def test_restored_state_goes_on_bit_for_bit(name: str):
    network, optimizer, method = attached(name)
    train(network, optimizer, range(5))
    saved = [copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict()), method.state_dict()]
    train(network, optimizer, range(5, 10))
    file = io.BytesIO()
    torch.save(saved, file)

    file.seek(0)
    weights, moments, state = torch.load(file, weights_only=True)
    other, again = Network(seed=1), make(name)
    optimizer = adam(other)
    again.attach(other, optimizer, seed=9)
    other.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    again.load_state_dict(state)
    train(other, optimizer, range(5, 10))
    assert_same(other.state_dict(), network.state_dict())
    assert_same(again.state_dict(), method.state_dict())


@every_method
def test_state_dict_is_a_snapshot(name: str):
    network, optimizer, method = attached(name)
    state = method.state_dict()
    before = copy.deepcopy(state)
    train(network, optimizer, range(3))
    assert_same(state, before)
    method.load_state_dict(state)
    train(network, optimizer, range(3, 6))
    assert_same(state, before)


def another(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    last = list(state)[-1]
    match how:
        case "missing":
            return {key: tensor for key, tensor in state.items() if key != last}
        case "unknown":
            return state | {"99.generator": state[next(iter(state))]}
        case "shape":
            return state | {last: torch.ones(3, 3)}
        case "shape that broadcasts":
            return state | {last: torch.ones(())}
    return {}


@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "shape that broadcasts", "empty"])
@pytest.mark.parametrize("name", ["spectral", "l2-init", "compose"])
def test_state_of_another_is_refused_and_nothing_is_loaded(name: str, how: str):
    method = attached(name)[2]
    before = method.state_dict()
    state = {key: tensor if "generator" in key else tensor + 1 for key, tensor in before.items()}
    with pytest.raises(ValueError, match="this state is of another method or network"):
        method.load_state_dict(another(state, how))
    assert_same(method.state_dict(), before)


def test_state_says_whose_it_is_not():
    spectral, l2 = attached("spectral")[2], attached("l2")[2]
    with pytest.raises(ValueError, match=r"^l2: .*\(differs in: .*pull\.first\.0.*pull\.second\.3.*\)$"):
        l2.load_state_dict(spectral.state_dict())


# Methods of one's own, which say nothing about their state ----------------------------------------------------


@dataclass(kw_only=True, eq=False)
class Mine(Method):
    """Keeps what a method may keep, from the start and from its first update on; all of it decides what is done."""

    name: ClassVar[str] = "mine"

    rate: float = 0.01
    seen: int = 0  # a setting that counts
    mean: Tensor = field(init=False, repr=False)

    def setup(self) -> None:
        self.mean = torch.zeros(3)
        self.count, self.best, self.warm, self.phase, self.last = 0, float("inf"), True, "first", None
        self.norms: dict[str, Tensor] = {}
        self.history: list[Any] = []
        self.pair = (torch.zeros(2), 1)
        self.own = torch.Generator().manual_seed(3)
        self.teacher = nn.Linear(2, 2)
        self.big = [layer for layer in self.layers if layer.weight.numel() > 20]  # references
        self.weights = [layer.weight for layer in self.layers]
        self.rule = torch.sign

    def before_step(self) -> None:
        self.seen += 1
        self.count += 1
        self.warm = not self.warm
        self.phase += "…"
        size = sum(w.detach().norm() for w in self.weights)
        self.mean.lerp_(size.expand(3) * torch.rand(3, generator=self.own), 0.1)
        self.best = min(self.best, float(size))
        self.last = float(self.mean[0])
        self.history = [*self.history, self.last, (self.count, size)][-4:]
        self.teacher.weight.data.lerp_(torch.rand(2, 2, generator=self.generator), 0.5)
        self.pair = (self.pair[0] + self.mean[:2], -self.pair[1])
        for layer in self.big:
            norm = layer.weight.detach().norm(dim=0).sum()
            self.norms[layer.name] = self.norms.get(layer.name, norm).lerp(norm, 0.5)
        pull = (
            self.best + self.last + sum(self.norms.values()) + self.teacher.weight.detach().sum() + self.pair[0].sum()
        )
        pull = pull + self.count + self.seen + self.warm + len(self.phase) + self.pair[1] + self.history[0]
        for weight in self.weights:
            if weight.grad is not None:
                weight.grad.add_(self.rule(weight.detach()) * torch.cos(pull), alpha=self.rate)


def started(method: Method, seed: int = 0) -> tuple[Network, torch.optim.Optimizer]:
    network = Network(seed)
    optimizer = adam(network)
    method.attach(network, optimizer, seed=seed)
    return network, optimizer


def gone_on(method: Method, other: Method) -> None:
    """Train with ``method``, restore ``other`` from the file of it, and train both on: nothing differs, to the bit."""
    network, optimizer = started(method)
    train(network, optimizer, range(5))
    file = io.BytesIO()
    torch.save([network.state_dict(), optimizer.state_dict(), method.state_dict()], file)
    file.seek(0)
    weights, moments, state = torch.load(file, weights_only=True)
    again, moved = started(other, seed=9)
    train(again, moved, range(1))
    again.load_state_dict(weights)
    moved.load_state_dict(moments)
    other.load_state_dict(state)
    assert_same(other.state_dict(), state)
    for one, its in ((network, optimizer), (again, moved)):
        train(one, its, range(5, 10))
    assert_same(again.state_dict(), network.state_dict())
    assert_same(other.state_dict(), method.state_dict())


@pytest.mark.filterwarnings("error")
def test_a_method_of_ones_own_goes_on_bit_for_bit():
    gone_on(Mine(), Mine())


@pytest.mark.filterwarnings("error", "ignore:.* leaves the units")
def test_also_among_others():
    parts = [Compose(methods=(make("spectral"), Mine(), make("redo"))) for _ in range(2)]
    gone_on(*parts)


def test_numbers_are_restored_as_what_they_were_and_tensors_in_place():
    method, other = Mine(), Mine()
    network, optimizer = started(method)
    train(network, optimizer, range(3))
    started(other)
    kept, norms = other.mean, other.norms
    other.load_state_dict(method.state_dict())
    assert (other.seen, other.count, other.warm, other.phase) == (3, 3, False, "first………")
    assert [type(value) for value in (other.seen, other.warm, other.best)] == [int, bool, float]
    assert other.best == method.best
    assert other.last == method.last
    assert other.mean is kept is not method.mean
    assert torch.equal(kept, method.mean)
    assert other.norms is norms
    assert list(norms) == list(method.norms)
    assert other.history[:1] == method.history[:1]
    assert other.history[-1][0] == 3
    assert all(
        ours is theirs for ours, theirs in zip(other.weights, [layer.weight for layer in other.layers], strict=True)
    )


@dataclass(kw_only=True, eq=False)
class Wider(Mine):
    """Of a class of one's own, and of ours."""


@dataclass(kw_only=True, eq=False)
class CountingSpectral(Spectral):
    name: ClassVar[str] = "counting-spectral"

    def setup(self) -> None:
        super().setup()
        self.count = 0

    def add_grad_(self) -> None:
        self.count += 1
        if self.count % 3 == 0:
            super().add_grad_()


@dataclass(kw_only=True, eq=False)
class LastRedo(METHODS["redo"]):
    name: ClassVar[str] = "last-redo"

    def setup(self) -> None:
        super().setup()
        self.updates_of_mine = 0

    def after_step(self) -> None:
        self.updates_of_mine += 1
        if self.updates_of_mine < 8:
            super().after_step()


@pytest.mark.filterwarnings("error", "ignore:.* leaves the units")
@pytest.mark.parametrize("cls", [Wider, CountingSpectral, LastRedo])
def test_subclasses_keep_their_bases_state_and_their_own(cls: type[Method]):
    settings = {"every": 2, "tau": 0.8} if cls is LastRedo else {}
    gone_on(cls(**settings), cls(**settings))


@dataclass(kw_only=True, eq=False)
class Unsaved(Method):
    name: ClassVar[str] = "unsaved"

    schedule: Any = None  # a setting may be anything

    def setup(self) -> None:
        self.recent: Any = deque([1.0])
        self.draws = {"of": [object()]}
        self.moments = {self.layers[0].weight: torch.zeros(1)}
        self.kept = 1


def test_what_cannot_be_saved_is_named():
    method = Unsaved(schedule=deque())
    started(method)
    with pytest.warns(UserWarning, match="unsaved: recent") as told:
        state = method.state_dict()
    assert "recent (deque), draws['of'][0] (object), moments (dict) cannot be saved" in str(told[0].message)
    assert "schedule" not in str(told[0].message)
    assert int(state["Unsaved.kept:int"]) == 1


@dataclass(kw_only=True, eq=False)
class Spoken(Unsaved):
    def state(self) -> dict[str, Tensor]:
        return {"recent": torch.tensor(list(self.recent))}


@pytest.mark.filterwarnings("error")
def test_who_overrides_state_is_not_warned_but_has_to_give_what_it_keeps():
    method = Spoken()
    started(method)
    state = method.state_dict()
    assert list(state) == ["generator", "recent"]
    method.recent.append(2.0)
    with pytest.raises(ValueError, match=r"unsaved: this state is of another"):
        method.load_state_dict(state)
    method.recent = deque([5.0])
    with pytest.raises(ValueError, match=r"unsaved: state\(\) gives a copy of recent"):
        method.load_state_dict(state)


def test_attributes_that_a_file_does_not_have_stay():
    """As after an attribute was added to the class."""
    method, other = Mine(), Mine()
    network, optimizer = started(method)
    train(network, optimizer, range(3))
    started(other)
    state = {key: t for key, t in method.state_dict().items() if not key.startswith(("Mine.mean", "Mine.count"))}
    other.load_state_dict(state)
    assert (other.seen, other.count) == (3, 0)
    assert not other.mean.any()


def test_state_of_another_class_is_refused():
    method, other = Mine(), Wider()
    for one in (method, other):
        started(one)
    with pytest.raises(ValueError, match=r"mine: this state is of another method .*Mine\.count:int"):
        other.load_state_dict(method.state_dict())
