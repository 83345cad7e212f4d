"""Recurrent layers step by step, so that what their matrices get and give can be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

#: Told of every product of a matrix: the parameter's name, what it gets, (batch, in), and gives, (batch, out).
Record = Callable[[str, Tensor, Tensor], None]
#: What is computed here. A ``forward`` of one's own may compute something else.
PLAIN = [kind.forward for kind in (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)]
#: Hidden and, of an LSTM, cell states, (batch, units) each.
State = tuple[Tensor, ...]


def replay(module: nn.RNNBase | nn.RNNCellBase, args: tuple[Any, ...], record: Record) -> Any:
    """What ``module(*args)`` returns, to rounding; None where that is not done.

    Args:
        module: recurrent. With two directions, a projection, a dropout that is on, or a ``forward`` of its own it is
            not done.
        args: the input, and the states if they are given. Packed sequences, and input without a batch, are not done.
        record: told of the products.
    """
    given = args[0]
    if getattr(module.forward, "__func__", None) not in PLAIN:
        return None
    if not isinstance(given, Tensor) or any(type(state) not in (Tensor, tuple, type(None)) for state in args[1:]):
        return None
    state = args[1] if len(args) > 1 else None
    states = (state,) if isinstance(state, Tensor) else state
    if isinstance(module, nn.RNNCellBase):
        if given.ndim != 2:
            return None
        after = _step(module, "", given, states or _zeros(module, given), record)
        return after if len(after) > 1 else after[0]
    if module.bidirectional or module.proj_size or given.ndim != 3 or (module.dropout and module.training):
        return None
    sequence = given.transpose(0, 1) if module.batch_first else given
    ends = []
    for layer in range(module.num_layers):
        now = tuple(each[layer] for each in states) if states else _zeros(module, sequence[0])
        outputs = []
        for step in sequence:
            now = _step(module, f"_l{layer}", step, now, record)
            outputs.append(now[0])
        sequence = torch.stack(outputs)
        ends.append(now)
    output = sequence.transpose(0, 1) if module.batch_first else sequence
    last = tuple(torch.stack(each) for each in zip(*ends, strict=True))
    return output, (last if isinstance(module, nn.LSTM) else last[0])


def _zeros(module: Any, given: Tensor) -> State:
    zeros = given.new_zeros(len(given), module.hidden_size)
    return (zeros, zeros) if isinstance(module, (nn.LSTM, nn.LSTMCell)) else (zeros,)


def _step(module: Any, end: str, given: Tensor, states: State, record: Record) -> State:
    """The states after a step. The matrices of layer ``end`` see the input, and the hidden state before."""
    products = []
    for side, seen in (("ih", given), ("hh", states[0])):
        bias = getattr(module, f"bias_{side}{end}") if module.bias else None
        name = f"weight_{side}{end}"
        products.append(linear(seen, getattr(module, name), bias))
        record(name, seen, products[-1])
    mine, old = products
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        i, f, g, o = (mine + old).chunk(4, 1)
        cell = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        (r, z, n), (r_old, z_old, n_old) = mine.chunk(3, 1), old.chunk(3, 1)
        r, z = (r + r_old).sigmoid(), (z + z_old).sigmoid()
        return ((1 - z) * (n + r * n_old).tanh() + z * states[0],)
    return ((mine + old).relu() if module.nonlinearity == "relu" else (mine + old).tanh(),)
