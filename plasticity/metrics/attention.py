"""Attention of a sequence to itself, step by step, so that what its matrices get and give can be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.functional import linear

from neoteny.plasticity.metrics.recurrent import Record


def replay_attention(module: nn.MultiheadAttention, given: Mapping[str, Any], record: Record) -> Any:
    """What ``module(**given)`` returns, to rounding; None where that is not done.

    Args:
        module: with a ``forward`` of its own, biases among the keys, matrices of other widths, or dropout that is on it
            is not done.
        given: all arguments, by name. Masks, input without a batch, and another sequence's keys are not done.
        record: told of the products: the parameter's name, what it gets, (batch, positions, in), and gives.
    """
    if getattr(module.forward, "__func__", None) is not nn.MultiheadAttention.forward:
        return None
    x = given["query"]
    others = given["key"] is not x or given["value"] is not x or x.ndim != 3
    masked = given["attn_mask"] is not None or given["key_padding_mask"] is not None or given["is_causal"]
    more = module.bias_k is not None or module.add_zero_attn or (module.dropout and module.training)
    if others or masked or more or module.in_proj_weight is None:
        return None
    x = x if module.batch_first else x.transpose(0, 1)
    projected = linear(x, module.in_proj_weight, module.in_proj_bias)
    record("in_proj_weight", x, projected)
    q, k, v = projected.unflatten(2, (3, module.num_heads, module.head_dim)).permute(2, 0, 3, 1, 4)
    attention = (q @ k.mT / math.sqrt(module.head_dim)).softmax(-1)
    mixed = (attention @ v).transpose(1, 2).flatten(2)
    output = linear(mixed, module.out_proj.weight, module.out_proj.bias)
    record("out_proj.weight", mixed, output)
    output = output.clone()  # it may be changed in place
    shown = attention.mean(1) if given["average_attn_weights"] else attention
    return output if module.batch_first else output.transpose(0, 1), shown if given["need_weights"] else None
