"""Recurrent layers computed step by step, against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neoteny.plasticity.metrics.recurrent import replay

LAYERS = [
    nn.LSTM(3, 4, num_layers=2), nn.LSTM(3, 4, batch_first=True), nn.GRU(3, 4, num_layers=3), nn.GRU(3, 4, bias=False),
    nn.RNN(3, 4), nn.RNN(3, 4, nonlinearity="relu"),
]  # fmt: skip


def flat(found: object) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [t for each in found for t in flat(each)]  # type: ignore[attr-defined]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from states"])
def test_layers(layer, given):
    x = random(5, 2, 3)
    batch = 5 if layer.batch_first else 2
    state = random(layer.num_layers, batch, 4)
    args = (x, (state, -state) if isinstance(layer, nn.LSTM) else state) if given else (x,)
    seen = []
    found = replay(layer, args, lambda name, got, gave: seen.append(name))
    assert len(seen) == 2 * layer.num_layers * (2 if layer.batch_first else 5)
    for mine, theirs in zip(flat(found), flat(layer(*args)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("cell", [nn.LSTMCell(3, 4), nn.GRUCell(3, 4), nn.RNNCell(3, 4)], ids=str)
def test_cells(cell):
    x, state = random(2, 3), random(2, 4)
    for args in ((x,), (x, (state, -state) if isinstance(cell, nn.LSTMCell) else state)):
        found = replay(cell, args, lambda *_: None)
        for mine, theirs in zip(flat(found), flat(cell(*args)), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_what_is_not_done():
    x = random(5, 2, 3)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 2]))
    for layer, given in (
        (nn.LSTM(3, 4, bidirectional=True), x), (nn.LSTM(3, 4, proj_size=2), x), (nn.GRU(3, 4), x[:, 0]),
        (nn.GRU(3, 4), packed), (nn.GRU(3, 4, num_layers=2, dropout=0.5), x), (nn.GRUCell(3, 4), x[0, 0]),
    ):  # fmt: skip
        assert replay(layer, (given,), lambda *_: None) is None
