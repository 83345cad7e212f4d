"""What the matrices, biases and scales of each type of module are, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from neoteny.plasticity import Layer, Spectral, spectral_norms
from neoteny.plasticity.layers import layers_of

#: By layer: the part of the parameter that is its weight, and its bias.
Parts = dict[str, tuple[Tensor, Tensor | None]]


def rows(module: nn.Module, name: str, gates: str, size: int) -> Parts:
    weight, bias = getattr(module, f"weight_{name}"), getattr(module, f"bias_{name}", None)
    parts = {}
    for i, gate in enumerate(gates or [""]):
        at = slice(i * size, (i + 1) * size)
        parts[f"weight_{name}.{gate}".rstrip(".")] = (weight[at], None if bias is None else bias[at])
    return parts


def of_attention(module: nn.MultiheadAttention) -> Parts:
    size, bias = module.embed_dim, module.in_proj_bias
    parts: Parts = {}
    for i, part in enumerate("qkv"):
        at = slice(i * size, (i + 1) * size)
        whole = module.in_proj_weight
        weight = whole[at] if whole is not None else getattr(module, f"{part}_proj_weight")
        parts[part] = (weight, bias if bias is None else bias[at])
    return parts | {"out_proj": (module.out_proj.weight, module.out_proj.bias)}


def whole(module: nn.Module) -> Parts:
    return {"": (module.weight, module.bias)}  # type: ignore[dict-item]


def turned(module: nn.Module) -> Parts:
    return {"": (module.weight.transpose(0, 1), getattr(module, "bias", None))}  # type: ignore[union-attr, operator]


MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Parts]]] = {
    "Linear": (lambda: nn.Linear(3, 4), whole),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2), whole),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 5), turned),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 5), turned),
    "Embedding": (lambda: nn.Embedding(7, 3), turned),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(7, 3), turned),
    "Embedding with padding": (
        lambda: nn.Embedding(7, 3, padding_idx=0),
        lambda m: {"": (m.weight[1:].transpose(0, 1), None)},
    ),
    "LSTM": (lambda: nn.LSTM(3, 5), lambda m: rows(m, "ih_l0", "ifgo", 5) | rows(m, "hh_l0", "ifgo", 5)),
    "LSTM without bias": (
        lambda: nn.LSTM(3, 5, bias=False),
        lambda m: rows(m, "ih_l0", "ifgo", 5) | rows(m, "hh_l0", "ifgo", 5),
    ),
    "LSTM with projection": (
        lambda: nn.LSTM(3, 5, proj_size=2),
        lambda m: (
            rows(m, "ih_l0", "ifgo", 5) | rows(m, "hh_l0", "ifgo", 5) | {"weight_hr_l0": (m.weight_hr_l0, None)}
        ),
    ),
    "GRU, two layers, both directions": (
        lambda: nn.GRU(3, 5, num_layers=2, bidirectional=True),
        lambda m: {
            name: part
            for end in ("l0", "l0_reverse", "l1", "l1_reverse")
            for side in ("ih", "hh")
            for name, part in rows(m, f"{side}_{end}", "rzn", 5).items()
        },
    ),
    "RNN": (lambda: nn.RNN(3, 5), lambda m: rows(m, "ih_l0", "", 5) | rows(m, "hh_l0", "", 5)),
    "LSTMCell": (lambda: nn.LSTMCell(3, 5), lambda m: rows(m, "ih", "ifgo", 5) | rows(m, "hh", "ifgo", 5)),
    "GRUCell": (lambda: nn.GRUCell(3, 5), lambda m: rows(m, "ih", "rzn", 5) | rows(m, "hh", "rzn", 5)),
    "RNNCell": (lambda: nn.RNNCell(3, 5), lambda m: rows(m, "ih", "", 5) | rows(m, "hh", "", 5)),
    "attention": (lambda: nn.MultiheadAttention(6, 2), of_attention),
    "attention without bias": (lambda: nn.MultiheadAttention(6, 2, bias=False), of_attention),
    "attention to other widths": (lambda: nn.MultiheadAttention(6, 2, kdim=3, vdim=4), of_attention),
}  # fmt: skip


@pytest.mark.parametrize(("make", "by_hand"), MODULES.values(), ids=MODULES)
def test_matrices_and_biases(make: Callable[[], nn.Module], by_hand: Callable[[nn.Module], Parts]) -> None:
    module = make()
    expected = by_hand(module)
    found = {layer.name: layer for layer in layers_of(module)}
    assert list(found) == list(expected)
    for name, (weight, bias) in expected.items():
        layer = found[name]
        assert not layer.is_norm
        assert torch.equal(layer.weight, weight)
        assert layer.weight.data_ptr() == weight.data_ptr()
        assert torch.equal(layer.matrix, weight.flatten(1))
        assert (layer.bias is None) == (bias is None)
        assert bias is None or (layer.bias is not None and layer.bias.data_ptr() == bias.data_ptr())
    covered = sum(layer.weight.numel() for layer in found.values())
    padding = 3 if getattr(module, "padding_idx", None) is not None else 0
    assert covered + padding == sum(p.numel() for name, p in module.named_parameters() if p.ndim > 1)


@pytest.mark.parametrize(
    "module",
    [
        nn.LayerNorm(4),
        nn.RMSNorm(4),
        nn.GroupNorm(2, 4),
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4),
        nn.BatchNorm3d(4),
        nn.InstanceNorm1d(4, affine=True),
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm3d(4, affine=True),
    ],
    ids=lambda module: type(module).__name__,
)
def test_scales_and_shifts(module: nn.Module) -> None:
    (layer,) = layers_of(module)
    assert layer.is_norm
    assert layer.weight is module.weight
    assert layer.bias is getattr(module, "bias", None)


@pytest.mark.parametrize("module", [nn.LayerNorm(4, elementwise_affine=False), nn.InstanceNorm1d(4), nn.PReLU()])
def test_modules_without_layers(module: nn.Module) -> None:
    assert list(layers_of(module)) == []


def test_a_class_derived_from_a_known_one_has_its_views() -> None:
    class Wide(nn.Linear):
        pass

    class Cell(nn.LSTMCell):
        pass

    assert [layer.name for layer in layers_of(Wide(2, 2))] == [""]
    assert len([*layers_of(Cell(2, 2))]) == 8


def normed(wrap: Callable[[nn.Module], nn.Module]) -> nn.Linear:
    torch.manual_seed(0)
    return wrap(nn.Linear(3, 4).double())  # type: ignore[return-value]


def effective(layer: Layer) -> float:
    return float(torch.linalg.matrix_norm(layer.matrix.detach(), 2))


@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm, orthogonal], ids=lambda wrap: wrap.__name__)
def test_a_parametrized_layer_is_its_effective_weight_and_the_gradient_goes_to_what_is_trained(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    module = normed(wrap)
    (layer,) = layers_of(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert torch.equal(layer.weight, module.eval().weight)
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    method = Spectral(strength=0.3, heads="include")
    method.attach(module, optimizer)
    method.before_step()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    optimizer.zero_grad()
    module.eval()
    (method.strength * method.value()).backward()
    expected = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())  # only looked at


def test_penalizing_a_weight_normed_layer_brings_its_effective_weight_to_one() -> None:
    module = nn.Sequential(normed(weight_norm), nn.Linear(4, 2).double())
    module[0].parametrizations.weight.original0.data.mul_(3)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    Spectral(strength=1.0, heads="include").attach(module, optimizer)
    for _ in range(300):
        optimizer.zero_grad()
        optimizer.step()
    assert spectral_norms(module) == pytest.approx({"0": 1, "1": 1}, abs=1e-3)
    assert effective(next(layers_of(module))) == pytest.approx(1, abs=1e-3)
