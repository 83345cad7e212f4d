import copy
import io

import pytest
import torch
from torch import Tensor, nn

from neoteny.plasticity import L2, L2Init
from neoteny.plasticity.penalty import Penalty


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Conv1d(1, 1, 2, bias=False)).double()
    values = ([[1, -2], [3, 0]], [0.5, 1], [4, 5], [6, 7], [[[-1, 2]]])
    for p, value in zip(layers.parameters(), values, strict=True):
        p.data.copy_(torch.tensor(value, dtype=torch.float64))
    return layers


def attach(penalty: Penalty, module: nn.Module) -> None:
    penalty.attach(module, torch.optim.SGD(module.parameters(), lr=1.0))


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in module.parameters()]


def test_l2_by_hand():
    """1 + 4 + 9, and 1/4 + 1, and 1 + 4; strength 1/4 adds half of each weight. The LayerNorm is left alone."""
    module, l2 = network(), L2(strength=0.25)
    attach(l2, module)
    assert l2.value().item() == 14 + 1.25 + 5
    assert l2.scalars()["penalty"].item() == 0.25 * 20.25
    module[0].bias.grad = torch.tensor([10.0, -10.0]).double()
    l2.add_grad_()
    expected = ([[0.5, -1], [1.5, 0]], [10.25, -9.5], None, None, [[[-0.5, 1]]])
    for gradient, value in zip(gradients(module), expected, strict=True):
        assert (gradient is None and value is None) or gradient.tolist() == value


def test_l2_is_half_of_weight_decay():
    ends = []
    for weight_decay, strength in ((0.5, 0.0), (0.0, 0.25)):
        module = nn.Linear(3, 2, dtype=torch.float64)
        for i, p in enumerate(module.parameters()):
            p.data.copy_(torch.linspace(-1, 1 + i, p.numel()).view_as(p))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.125, momentum=0.5, weight_decay=weight_decay)
        L2(strength=strength).attach(module, optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            (module(torch.ones(1, 3, dtype=torch.float64)) - 1).square().sum().backward()
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-14, atol=1e-14)


def test_l2_init_is_zero_when_attached():
    module, penalty = network(), L2Init(strength=0.25)
    attach(penalty, module)
    assert penalty.value().item() == 0
    penalty.add_grad_()
    assert all(not gradient.any() for gradient in gradients(module))


def test_l2_init_by_hand():
    """All moved by 1/2 but the LayerNorm's scales, which moved by 3: 4·¼ + 2·¼ + 2·9 + 2·¼ + 2·¼."""
    module, penalty = network(), L2Init(strength=0.25)
    attach(penalty, module)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.5)
        module[1].weight.add_(2.5)
    assert penalty.value().item() == 20.5
    assert penalty.scalars()["penalty"].item() == 0.25 * 20.5
    penalty.add_grad_()
    for p in module.parameters():
        expected = 1.5 if p is module[1].weight else 0.25
        assert torch.equal(p.grad, torch.full_like(p, expected))


def test_l2_init_pulls_back_to_where_the_weights_began():
    module, penalty = network(), L2Init(strength=0.25)
    began = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    penalty.attach(module, optimizer)
    for p in module.parameters():
        p.data.normal_(generator=torch.Generator().manual_seed(0))
    for _ in range(100):
        optimizer.zero_grad()
        optimizer.step()
    torch.testing.assert_close(module.state_dict(), began)


def test_l2_init_remembers_the_start_over_a_restart():
    module, penalty = network(), L2Init()
    attach(penalty, module)
    with torch.no_grad():
        module[0].weight.add_(1)
    file = io.BytesIO()
    torch.save((module.state_dict(), penalty.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)

    module, penalty = network(), L2Init()
    module.load_state_dict(weights)
    attach(penalty, module)
    assert penalty.value().item() == 0
    penalty.load_state_dict(state)
    assert penalty.value().item() == 4


@pytest.mark.parametrize("penalty", [L2, L2Init])
def test_heads_are_included_unless_exempt(penalty: type[Penalty]):
    for settings, layers in (({}, ["0", "2"]), ({"heads": "exempt"}, ["0"]), ({"heads": ["0"]}, ["2"])):
        method = penalty(**settings)
        attach(method, nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        assert [layer.name for layer in method.layers] == layers
