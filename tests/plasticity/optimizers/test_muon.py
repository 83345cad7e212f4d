"""Muon beside Adam: each parameter takes exactly the steps of torch's own."""

import copy

import pytest
import torch
from torch import nn

from neoteny.plasticity import Muon, PlasticityInjection


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv1d(1, 3, 2), nn.Flatten(), nn.Linear(9, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(5, 2))


def train(module: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 3) -> None:
    x = torch.linspace(-1, 1, 32).view(8, 1, 4)
    for step in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / (step + 1)  # as stable-baselines3 sets it
        (module(x) - 1).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()


def test_hidden_matrices_are_muons_and_all_else_adams():
    mine, theirs = network(), network()
    optimizer = Muon(mine.parameters(), lr=1e-2, weight_decay=0.1)
    assert optimizer.choose_hidden(mine) == ["2", "5"]
    hidden = [theirs[2].weight, theirs[5].weight]
    rest = [p for p in theirs.parameters() if all(p is not h for h in hidden)]
    muon = torch.optim.Muon(hidden, lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.Adam(rest, lr=1e-2, fused=True)
    start = copy.deepcopy(mine.state_dict())
    train(mine, optimizer)
    train(theirs, muon, adam)
    for name, tensor in mine.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
        assert not torch.equal(tensor, start[name]), name


def test_each_group_keeps_its_learning_rate():
    mine, theirs = network(), network()
    optimizer = Muon(
        [
            {"params": mine[2].parameters(), "lr": 3e-2},
            {"params": [*mine[5].parameters(), *mine[7].parameters()], "lr": 1e-3},
        ]
    )
    assert optimizer.choose_hidden(mine) == ["2", "5"]
    assert [group["lr"] for group in optimizer.param_groups] == [3e-2, 1e-3, 3e-2, 1e-3]
    muons = [torch.optim.Muon([theirs[i].weight], lr=lr, weight_decay=0, adjust_lr_fn="match_rms_adamw")
             for i, lr in ((2, 3e-2), (5, 1e-3))]  # fmt: skip
    x = torch.linspace(-1, 1, 32).view(8, 1, 4)
    for module in (mine, theirs):
        (module(x) - 1).square().sum().backward()
    for each in (optimizer, *muons):
        each.step()
    assert torch.equal(mine[2].weight, theirs[2].weight)
    assert torch.equal(mine[5].weight, theirs[5].weight)


def test_until_told_all_is_adams():
    mine, theirs = network(), network()
    train(mine, Muon(mine.parameters(), lr=1e-2))
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True))
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


def test_heads_are_chosen_by_structure_not_by_shape():
    """A square head is a head; a matrix that belongs to no layer is Adam's."""
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module.register_parameter("table", nn.Parameter(torch.ones(4, 4)))
    optimizer = Muon(module.parameters())
    assert optimizer.choose_hidden(module) == ["0"]
    assert [p is module[0].weight for p in optimizer.param_groups[-1]["params"]] == [True]
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 5


def test_orthogonal_step_has_adams_root_mean_square():
    """0.2·√max(m, n)·UVᵀ has a root mean square of about 0.2 per unit of learning rate, Adam's usual."""
    w = nn.Parameter(torch.zeros(64, 32))
    module = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
    module[0].weight = w
    optimizer = Muon(module.parameters(), lr=1.0)
    optimizer.choose_hidden(module)
    w.grad = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert w.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.3)
    values = torch.linalg.svdvals(w.detach())
    assert values.max() / values.min() < 3


def test_chosen_once():
    module = network()
    optimizer = Muon(module.parameters())
    optimizer.choose_hidden(module)
    with pytest.raises(ValueError, match=r"^choose_hidden: the hidden layers of this optimizer were chosen already"):
        optimizer.choose_hidden(module)


def test_a_state_needs_the_choice_first():
    module = network()
    optimizer = Muon(module.parameters())
    optimizer.choose_hidden(module)
    train(module, optimizer)
    with pytest.raises(ValueError, match="parameter groups"):
        Muon(module.parameters()).load_state_dict(optimizer.state_dict())


def test_injected_layers_join_the_group_of_those_they_replace():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 1))
    optimizer = Muon(module.parameters(), lr=1e-2)
    assert optimizer.choose_hidden(module) == ["0.0", "0.2"]
    method = PlasticityInjection()
    method.attach(module, optimizer)
    added = list(module.added[0].parameters())
    muons = {id(p) for p in optimizer.param_groups[-1]["params"]}
    names = [name for name, _ in module.added[0].named_parameters()]
    assert [n for n, p in zip(names, added, strict=True) if id(p) in muons] == ["0.0.weight", "0.2.weight"]
    method.on_switch()
    before = [p.detach().clone() for p in added]
    optimizer.zero_grad()
    (module(torch.ones(4, 3)) - 1).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(added, before, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, r"^momentum: a number of at least 0 and below 1 is needed, got 1.0"),
        ({"ns_steps": 0}, r"^ns_steps: an integer from 1 to 99 is needed, got 0"),
        ({"weight_decay": -0.1}, r"^weight_decay: a finite number of at least 0 is needed, got -0.1"),
    ],
)
def test_settings_are_checked(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Muon(network().parameters(), **settings)
