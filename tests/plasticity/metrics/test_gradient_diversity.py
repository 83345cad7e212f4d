"""The Gram matrix of per-sample gradients, against a loop of backward passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from neoteny.plasticity.metrics import Passes, conv_patches, gradient_diversity, gradient_gram
from neoteny.plasticity.metrics import products as module_of_products

SAMPLES = 6


class Recurrent(nn.Module):
    """A GRU cell beside an embedding, then heads; the encoder is called twice, and one layer at several positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.encoder = nn.Linear(4, 5)
        self.lstm = nn.LSTM(5, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        words = self.table(x.long())  # (n, positions, 4)
        seen = self.encoder(words).tanh() + self.encoder(words.flip(1)).relu()
        states, _ = self.lstm(seen.transpose(0, 1))
        return self.head(states[-1])[:, 0]


class Sequences(nn.Module):
    """A recurrent layer of any kind, over sequences of three."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.LazyLinear(1)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.RNNCellBase):
            states = self.layer(x[:, 0])
            return self.head(states[0] if isinstance(states, tuple) else states)[:, 0]
        outputs, _ = self.layer(x if self.layer.batch_first else x.transpose(0, 1))
        return self.head(outputs[:, -1] if self.layer.batch_first else outputs[-1])[:, 0]


class Reshaped(nn.Module):
    """Its first layer does not get one row per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(2, 3), nn.Linear(9, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.reshape(-1, 2)).tanh().reshape(len(x), -1))[:, 0]


class Flattening(nn.Linear):
    """A layer with a ``forward`` of its own, which multiplies something else than what the layer gets."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


class Doubling(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


class DoublingTable(nn.Embedding):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x.long())


class DoublingLSTM(nn.LSTM):
    def forward(self, x: Tensor, states: Any = None) -> Any:  # type: ignore[override]
        return super().forward(2 * x, states)


class Named(nn.Module):
    """What its layers get is given by name too; the states are not those that a layer begins with by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(2, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.layer(x.transpose(0, 1), hx=torch.ones(1, len(x), 4, dtype=x.dtype))
        return self.head(input=outputs[-1])[:, 0]


class Attentive(nn.Module):
    """A block of attention over words with places; ``kind`` says what of it is not plain."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.kind = kind
        self.words, self.places = nn.Embedding(9, 4, padding_idx=0), nn.Embedding(7, 4)
        options = {"biases": {"add_bias_kv": True}, "apart": {"kdim": 3, "vdim": 3}}.get(kind, {})
        self.attention = nn.MultiheadAttention(4, 2, batch_first=kind != "batch second", **options)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x.long()) + self.places(torch.arange(x.shape[1]).expand(x.shape))
        x = x.transpose(0, 1) if self.kind == "batch second" else x
        other = x[..., :3] if self.kind == "apart" else x
        masks = {"attn_mask": torch.ones(7, 7).tril() == 0} if self.kind == "masked" else {}
        x, weights = self.attention(x, other, value=other, need_weights=self.kind == "weights", **masks)
        x = x.transpose(0, 1) if self.kind == "batch second" else x
        extra = 0 if weights is None else weights.square().sum((1, 2))
        return self.head(x.tanh().mean(1))[:, 0] + extra


class OwnAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x)[0].mul_(2)


class Places(nn.Module):
    """As many places as samples, so that rows of what a layer gets may be places; ``kind`` says how they come in."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.places, self.linear, self.head = nn.Embedding(SAMPLES, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(SAMPLES, dtype=torch.int32)
        if self.kind == "table":
            x = x + self.linear(self.places(places))
        elif self.kind == "one":
            x = x + self.places(torch.tensor(3))
        elif self.kind == "int32":
            x = x + self.places(places.expand(x.shape[:2]))
        elif self.kind == "batch second":
            x = self.linear(x.transpose(0, 1)).transpose(0, 1)
        elif self.kind == "transformer":
            x = self.block(x.transpose(0, 1)).transpose(0, 1)
        else:
            x = self.attention(x, x, x)[0].mul_(2)
        return self.head(x.tanh().mean(1))[:, 0]


class Tied(nn.Module):
    """Two layers have one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.one(x).relu()).relu())[:, 0]


class UsedElsewhere(nn.Module):
    """A matrix that is multiplied with by its layer, and without it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.linear(self.layer(x).relu(), self.layer.weight))[:, 0]


class RecurrentElsewhere(Sequences):
    """One of the matrices of a recurrent layer is used without it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.linear(x, self.layer.weight_ih_l0[:2]))


def patched(layer: nn.Linear) -> nn.Linear:
    forward = layer.forward
    layer.forward = lambda x: forward(x.square())  # type: ignore[method-assign]
    return layer


def last(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(0))


IMAGES = (SAMPLES, 3, 9, 8)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: last(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 1)), (6, 4)),
    "layer norm": (lambda: last(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 1)), (6, 4)),
    "in place": (lambda: last(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 1)), (6, 4)),
    "convolutions": (
        lambda: last(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2), nn.ReLU(), nn.Conv2d(4, 2, (2, 1)), nn.Flatten(),
            nn.LazyLinear(1),
        ),
        IMAGES,
    ),
    "grouped, circular": (
        lambda: last(
            nn.Conv2d(3, 6, 3, groups=3), nn.Tanh(), nn.Conv2d(6, 2, 3, padding=1, padding_mode="circular"),
            nn.Flatten(), nn.LazyLinear(1),
        ),
        IMAGES,
    ),
    "one dimension": (lambda: last(nn.Conv1d(3, 4, 2), nn.ELU(), nn.Flatten(), nn.LazyLinear(1)), (SAMPLES, 3, 5)),
    "weight norm": (lambda: last(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)), (6, 4)),
    "lstm": (lambda: Sequences(nn.LSTM(2, 4, num_layers=2, batch_first=True)), (SAMPLES, 3, 2)),
    "gru": (lambda: Sequences(nn.GRU(2, 4)), (SAMPLES, 3, 2)),
    "rnn": (lambda: Sequences(nn.RNN(2, 4, nonlinearity="relu", bias=False)), (SAMPLES, 3, 2)),
    "two directions": (lambda: Sequences(nn.LSTM(2, 4, bidirectional=True)), (SAMPLES, 3, 2)),
    "lstm cell": (lambda: Sequences(nn.LSTMCell(2, 4)), (SAMPLES, 3, 2)),
    "gru cell": (lambda: Sequences(nn.GRUCell(2, 4)), (SAMPLES, 3, 2)),
    "rnn cell": (lambda: Sequences(nn.RNNCell(2, 4)), (SAMPLES, 3, 2)),
    "recurrent": (Recurrent, (SAMPLES, 7)),
    "reshaped": (Reshaped, (SAMPLES, 6)),
    "named": (Named, (SAMPLES, 3, 2)),
    "recurrent elsewhere": (lambda: RecurrentElsewhere(nn.GRU(2, 4)), (SAMPLES, 3, 2)),
    "forward, table": (lambda: last(DoublingTable(9, 4), nn.Flatten(), nn.Linear(8, 1)), (SAMPLES, 2)),
    "forward, recurrent": (lambda: Sequences(DoublingLSTM(2, 4)), (SAMPLES, 3, 2)),
    "tied": (Tied, (6, 4)),
    "used elsewhere": (UsedElsewhere, (6, 4)),
    "attention": (Attentive, (SAMPLES, 7)),
    "attention, batch second": (lambda: Attentive("batch second"), (SAMPLES, 7)),
    "attention, weights": (lambda: Attentive("weights"), (SAMPLES, 7)),
    "attention, masked": (lambda: Attentive("masked"), (SAMPLES, 7)),
    "attention, biases": (lambda: Attentive("biases"), (SAMPLES, 7)),
    "attention, apart": (lambda: Attentive("apart"), (SAMPLES, 7)),
    **{
        f"places, {kind}": (lambda kind=kind: Places(kind), (SAMPLES, SAMPLES, 4))
        for kind in ("table", "one", "int32", "batch second", "transformer", "in place")
    },
    "attention, forward": (
        lambda: last(OwnAttention(4, 2, batch_first=True), nn.Flatten(), nn.Linear(12, 1)),
        (SAMPLES, 3, 4),
    ),
    "transformer": (
        lambda: last(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), nn.Flatten(), nn.Linear(12, 1)),
        (SAMPLES, 3, 4),
    ),
    "forward, shape": (lambda: last(Flattening(6, 4), nn.ReLU(), nn.Linear(4, 1)), (SAMPLES, 2, 3)),
    "forward, values": (lambda: last(Doubling(3, 4), nn.Tanh(), patched(nn.Linear(4, 2)), nn.Linear(2, 1)), (6, 3)),
}  # fmt: skip


def network(name: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make, shape = CASES[name]
        module = make().double()
        x = torch.randn(shape, dtype=torch.float64)
        x = (
            x.abs().mul(3).floor().clamp(max=8)
            if len(shape) < 3 and ("recurrent" in name or "table" in name or "attention" in name)
            else x
        )
        module(x)
        return module.eval(), x


def matrices(module: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in module.named_parameters() if p.ndim > 1 and "bias" not in name]


def by_loop(module: nn.Module, x: Tensor) -> Tensor:
    """G: sample after sample through the network by itself."""
    rows = [
        torch.autograd.grad(module(x[i : i + 1]).sum(), matrices(module), allow_unused=True, materialize_grads=True)
        for i in range(len(x))
    ]
    return torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])


def watched(module: nn.Module, x: Tensor) -> tuple[Passes, Tensor]:
    with Passes(module) as passes:
        return passes, module(x)


@pytest.mark.parametrize("name", [name for name in CASES if name != "weight norm"])
def test_gram_is_that_of_a_loop(name):
    module, x = network(name)
    passes, losses = watched(module, x)
    gram, left_out = passes.products.gram(losses, {id(p) for p in matrices(module)})
    assert left_out == []
    rows = by_loop(module, x)
    torch.testing.assert_close(gram, rows @ rows.T, rtol=1e-9, atol=1e-12)
    values = np.linalg.svd(rows.numpy(), compute_uv=False)
    values = values[values > values[0] * 1e-4]
    assert gradient_diversity(gram) == pytest.approx(np.exp(stats.entropy(values)), rel=1e-3)
    assert all(p.grad is None for p in module.parameters())


def test_of_a_computed_weight_it_is_that_of_the_weight():
    module, x = network("weight norm")
    plain = by_loop(module, x)
    parametrizations.weight_norm(module[0])
    passes, losses = watched(module, x)
    gram, left_out = passes.products.gram(losses, {id(p) for p in module.parameters()})
    assert left_out == []
    torch.testing.assert_close(gram, plain @ plain.T)


def test_only_the_parameters_named_count():
    module, x = network("mlp")
    passes, losses = watched(module, x)
    gram, _ = passes.products.gram(losses, {id(module[2].weight)})
    rows = torch.stack(
        [torch.autograd.grad(module(x[i : i + 1]).sum(), module[2].weight)[0].flatten() for i in range(6)]
    )
    torch.testing.assert_close(gram, rows @ rows.T)
    assert passes.products.gram(losses, set()) == (None, [])
    assert passes.products.gram(losses.detach(), {id(p) for p in module.parameters()}) == (None, [])


def test_what_is_too_large_is_named(monkeypatch):
    monkeypatch.setattr(module_of_products, "LARGEST", 10)
    module, x = network("recurrent")
    passes, losses = watched(module, x)
    gram, left_out = passes.products.gram(losses, {id(p) for p in module.parameters()})
    assert left_out == ["table"]
    assert gram.shape == (SAMPLES, SAMPLES)


def test_conv_patches_times_the_kernel_are_the_output():
    conv = nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False)
    images = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    patches = conv_patches(conv, images)
    torch.testing.assert_close(patches @ conv.weight.flatten(1).T, conv(images).flatten(2).mT)
    for other in (nn.Conv2d(3, 3, 1, groups=3), nn.Conv2d(3, 3, 3, padding="same")):
        assert conv_patches(other, images) is None


def test_diversity_of_closed_cases():
    """Gradients along axes, of lengths 4, 2, 1, 1: p = 1/2, 1/4, 1/8, 1/8."""
    rows = torch.diag(torch.tensor([4.0, 2, 1, 1]))
    assert gradient_diversity(rows @ rows.T) == pytest.approx(2 ** (7 / 4))
    assert gradient_diversity(torch.eye(5)) == pytest.approx(5)
    assert gradient_diversity(torch.ones(5, 5)) == pytest.approx(1)  # all samples pull alike
    assert gradient_diversity(torch.tensor([[3.0]])) == pytest.approx(1)
    assert gradient_diversity(torch.zeros(4, 4)) == 0
    assert math.isnan(gradient_diversity(torch.full((2, 2), math.nan)))
    with pytest.raises(ValueError, match="a square matrix is needed"):
        gradient_diversity(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(4, 2\)"):
        gradient_gram(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="are needed"):
        gradient_gram(torch.zeros(3), torch.zeros(3))
