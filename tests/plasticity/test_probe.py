"""The probe: fresh networks read 1, damage rises in its order, and nothing is touched."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from thinning import some
from torch import Tensor, nn

from neoteny.plasticity import probe as probing
from neoteny.plasticity.probe import Split, areas, probe, rescale_, teach, unit_head

WIDTH, INPUTS, OUTPUTS = 64, 20, 3


def network() -> Split:
    layers: list[nn.Module] = []
    for inputs in (INPUTS, WIDTH):
        linear = nn.Linear(inputs, WIDTH)
        nn.init.orthogonal_(linear.weight, 2**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    head = nn.Linear(WIDTH, OUTPUTS)
    nn.init.orthogonal_(head.weight, 0.01)
    return Split(nn.Sequential(*layers), head)


def seeded(seed: int, make: Any = network) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def inputs(seed: int = 0, n: int = 64) -> Tensor:
    return torch.randn(n, INPUTS, generator=torch.Generator().manual_seed(seed))


def damaged(kind: str, amount: float) -> Split:
    """Units that no input wakes up; matrices of a lower rank; weights and biases multiplied."""
    made = seeded(1)
    for layer in made.torso:
        if isinstance(layer, nn.Linear):
            with torch.no_grad():
                if kind == "killed":
                    dead = int(amount * WIDTH)
                    layer.weight[:dead], layer.bias[:dead] = 0, -1
                elif kind == "rank":
                    left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
                    layer.weight.copy_(left[:, : int(amount)] * values[: int(amount)] @ right[: int(amount)])
                else:
                    layer.weight.mul_(amount)
                    layer.bias.mul_(amount)
    return made


@pytest.mark.full
def test_fresh_networks_read_one() -> None:
    found = torch.tensor([list(vars(probe(seeded(s), network, inputs(s), seed=100 + s)).values()) for s in range(12)])
    assert found.mean(0) == pytest.approx(np.ones(3), abs=0.04)
    assert (found.std(0) < 0.08).all()


@pytest.mark.parametrize(("kind", "amounts"), [("killed", [0, 0.25, 0.5, 0.75, 0.9]), ("rank", [64, 8, 4, 1])])
def test_more_damage_reads_higher(kind: str, amounts: list[float]) -> None:
    found = [probe(damaged(kind, amount), network, inputs(), seed=5) for amount in amounts]
    for number in ("torso", "scale_free", "own_head"):
        values = [getattr(one, number) for one in found]
        assert values == sorted(values)
        assert values[0] == pytest.approx(1, abs=0.15)
        assert values[-1] > 1.3


def test_scale_dominates_all_but_the_scale_free_number() -> None:
    found = [probe(damaged("scaled", factor), network, inputs(), seed=5) for factor in (1, 3, 10)]
    assert [one.torso for one in found] == sorted(one.torso for one in found)
    assert found[-1].torso > 50
    np.testing.assert_allclose([one.scale_free for one in found], found[0].scale_free, rtol=1e-3)


def test_dead_networks_and_bad_numbers_do_not_pass_for_healthy() -> None:
    dead = probe(damaged("killed", 1), network, inputs(), seed=5)
    assert min(vars(dead).values()) > 2
    zero = probe(damaged("scaled", 0), network, inputs(), seed=5)
    assert zero.torso > 2
    broken = seeded(1)
    broken.torso[0].weight.data[0, 0] = float("nan")
    assert all(np.isnan(value) for value in vars(probe(broken, network, inputs())).values())
    alike = probe(seeded(1), network, inputs()[:1].expand(64, -1))
    assert all(np.isnan(value) for value in vars(alike).values())


@pytest.mark.parametrize(("n", "copies"), [(1, 4), (64, 1), (0, 4)])
def test_too_little_to_compare(n: int, copies: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 are needed, got {n} and {copies}"):
        probe(seeded(1), network, inputs()[:n], copies=copies)


def test_the_areas_are_those_of_ordinary_training() -> None:
    learners = [seeded(seed) for seed in range(3)]
    targets = torch.randn(3, 64, OUTPUTS, generator=torch.Generator().manual_seed(1))
    expected = []
    for learner, goal in zip(copy.deepcopy(learners), targets, strict=True):
        optimizer, losses = torch.optim.Adam(learner.parameters(), lr=probing.LEARNING_RATE), []
        for _ in range(probing.UPDATES):
            loss = nn.functional.mse_loss(learner(inputs()), goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        expected.append(np.mean(losses))
    np.testing.assert_allclose(areas(learners, inputs(), targets), expected, rtol=1e-4)


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, same, other = (probe(seeded(1), network, inputs(), seed=seed) for seed in (2, 2, 3))
    assert one == same != other


def test_targets_are_standardized_and_each_learner_has_its_own() -> None:
    features = torch.randn(4, 50, 16, generator=torch.Generator().manual_seed(0)) * 7 + 3
    goals = teach(features)
    assert goals.shape == (4, 50, probing.OUTPUTS)
    torch.testing.assert_close(goals.mean(1), torch.zeros(4, probing.OUTPUTS), atol=1e-5, rtol=0)
    torch.testing.assert_close(goals.std(1, correction=0), torch.ones(4, probing.OUTPUTS))
    assert all((goals[i] - goals[j]).abs().max() > 0.1 for i in range(4) for j in range(i))


def test_a_unit_head_keeps_the_mean_square() -> None:
    features = torch.randn(2000, 500) * 3
    assert unit_head(500, 400)(features).square().mean().item() == pytest.approx(9, rel=0.1)


def test_rescaling_leaves_the_function_but_for_a_factor() -> None:
    original = seeded(1).torso
    for layer in original:
        if isinstance(layer, nn.Linear):
            layer.bias.data.uniform_(-1, 1)
    scaled = copy.deepcopy(original)
    rescale_(scaled, seeded(2).torso)
    one, other = original(inputs()).detach(), scaled(inputs()).detach()
    factor = (one * other).sum() / (one * one).sum()
    torch.testing.assert_close(other, factor * one)
    for layer, like in zip(scaled, seeded(2).torso, strict=True):
        if isinstance(layer, nn.Linear):
            assert layer.weight.norm().item() == pytest.approx(like.weight.norm().item(), rel=1e-5)


def convolutional() -> Split:
    torso = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 32), nn.LayerNorm(32), nn.ReLU()
    )
    return Split(torso, nn.Linear(32, 2))


class Reader(nn.Module):
    """Torch has no batching rule for its recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 16, batch_first=True)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.gru(sequences)[0][:, -1]


def recurrent() -> Split:
    return Split(Reader(), nn.Linear(16, 2))


def normalized() -> Split:
    torso = nn.Sequential(nn.Linear(INPUTS, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Tanh())
    return Split(torso, nn.Linear(32, 2))


@pytest.mark.parametrize(
    ("make", "shape"),
    some(
        {
            "convolutional": (convolutional, (2, 10, 10)),
            "recurrent": (recurrent, (6, 5)),
            "normalized": (normalized, (INPUTS,)),
        },
        "convolutional",
        "normalized",
    ),
)
def test_other_networks(make: Any, shape: tuple[int, ...]) -> None:
    seen = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0))
    found = torch.tensor([list(vars(probe(seeded(s, make), make, seen, seed=s + 50)).values()) for s in range(4)])
    assert found.mean(0) == pytest.approx(np.ones(3), abs=0.25)


def test_nothing_is_touched() -> None:
    live = seeded(1, normalized).train()
    calls: list[int] = []
    live.torso[0].register_forward_hook(lambda *_: calls.append(1))
    live.torso[0].weight.grad = torch.ones_like(live.torso[0].weight)
    before = copy.deepcopy(live.state_dict())
    torch.manual_seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[union-attr] # noqa: NPY002
    with torch.no_grad():
        probe(live, normalized, inputs())
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[union-attr] # noqa: NPY002
    assert random.getstate() == states[2]
    assert all(torch.equal(before[name], tensor) for name, tensor in live.state_dict().items())
    assert live.torso[0].weight.grad.eq(1).all()
    assert live.training
    assert calls == []
