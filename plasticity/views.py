"""Which matrices, biases and scales a module has, by its type.

A layer is a view, not a module: a Linear's weight is one matrix, a GRU's ``weight_ih`` is three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

#: First row, and number of rows.
Rows = tuple[int, int]


@dataclass(frozen=True)
class View:
    """One matrix of a module, or the scales of a normalization layer, and the bias that belongs to it.

    Attributes:
        weight: name of the module's parameter.
        bias: name of the bias, or of the shifts; a module may lack it.
        part: what the view is called where a module has several.
        rows, bias_rows: first row and number of rows, of the weight and of the bias; all by default.
        transposed: the parameter is (in, out, …) instead of (out, in, …).
        is_norm: ``weight`` holds scales.
    """

    weight: str = "weight"
    bias: str | None = "bias"
    part: str = ""
    rows: Rows | None = None
    bias_rows: Rows | None = None
    transposed: bool = False
    is_norm: bool = False


Views = Callable[[Any], Iterable[View]]

#: One matrix of shape (out, in), or (out, in, *kernel), seen as (out, in · kernel).
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
#: The gates of a recurrent layer by their number, in the order of their rows, by torch's names: LSTM, GRU, plain.
GATES: dict[int, tuple[str, ...]] = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n"), 1: ("",)}


def gates(module: nn.RNNBase | nn.RNNCellBase, end: str = "") -> Iterator[View]:
    """The input and the recurrent matrix of every gate, where their parameters' names end in ``end``."""
    size = module.hidden_size
    for side in ("ih", "hh"):
        weight, bias = f"weight_{side}{end}", f"bias_{side}{end}"
        for index, gate in enumerate(GATES[len(getattr(module, weight)) // size]):
            rows = (index * size, size)
            yield View(weight, bias, f"{weight}.{gate}".rstrip("."), rows, rows)


def recurrent(module: nn.RNNBase) -> Iterator[View]:
    """Every gate's matrices, and the projection of an LSTM, layer by layer."""
    for layer in range(module.num_layers):
        for direction in ("", "_reverse")[: 1 + module.bidirectional]:
            end = f"_l{layer}{direction}"
            yield from gates(module, end)
            if module.proj_size:
                yield View(f"weight_hr{end}", None, f"weight_hr{end}")


def attention(module: nn.MultiheadAttention) -> Iterator[View]:
    """The projections of queries, keys and values. That of the output is a Linear layer of its own."""
    size = module.embed_dim
    for index, part in enumerate("qkv"):
        rows = (index * size, size)
        if module.in_proj_weight is not None:
            yield View("in_proj_weight", "in_proj_bias", part, rows, rows)
        else:
            yield View(f"{part}_proj_weight", "in_proj_bias", part, bias_rows=rows)


def embedding(module: nn.Embedding | nn.EmbeddingBag) -> Iterator[View]:
    """The table, turned; without the row of ``padding_idx``, which is not trained, if that is the first or the last."""
    rows, number = None, module.num_embeddings
    if module.padding_idx in (0, number - 1) and number > 1:
        rows = (int(module.padding_idx == 0), number - 1)
    yield View(bias=None, rows=rows, transposed=True)


#: The views of a module by its type, or by the nearest of the classes it derives from. Add your own types here.
VIEWS: dict[type[nn.Module], Views] = {
    **dict.fromkeys(MATRICES, lambda module: [View()]),
    **dict.fromkeys(TRANSPOSED, lambda module: [View(transposed=True)]),
    **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), embedding),
    **dict.fromkeys(NORMS, lambda module: [View(is_norm=True)]),
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), recurrent),
    **dict.fromkeys((nn.RNNCell, nn.LSTMCell, nn.GRUCell), gates),
    nn.MultiheadAttention: attention,
}


def views_of(module: nn.Module) -> list[View]:
    """The views of a module's own parameters; none if its type is not in :data:`VIEWS`."""
    kind = next((base for base in type(module).__mro__ if base in VIEWS), None)
    return list(VIEWS[kind](module)) if kind else []
