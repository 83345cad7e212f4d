"""Draws new weights from the distribution of a layer's initial weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neoteny.plasticity.layers import Layer, smaller_gram


def initial_scale(layer: Layer) -> Tensor:
    """A summary of a layer's initialization: [RMS of its weights, RMS of its biases, 1 if orthogonal else 0]."""
    matrix = layer.matrix.detach().double()
    gram = smaller_gram(matrix)
    level = gram.diagonal().mean()
    skew = (gram - level * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max()
    bias = torch.zeros(()) if layer.bias is None else layer.bias.detach().square().mean().sqrt()
    orthogonal = len(gram) > 1 and bool(skew < 1e-4 * level)
    return torch.tensor([matrix.square().mean().sqrt().item(), bias.item(), float(orthogonal)], dtype=torch.float64)


def draw(shape: tuple[int, ...], rms: Tensor, generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform on [−√3·rms, √3·rms], drawn on the CPU, then moved to the device of ``like``.

    This is torch's default distribution for Linear and Conv layers. For any other initialization with symmetric entries
    it has the same mean and variance.
    """
    bound = math.sqrt(3) * float(rms)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator).to(like)


@torch.no_grad()
def fresh(shape: torch.Size, scale: Tensor, generator: torch.Generator, like: Tensor) -> Tensor:
    """A new weight drawn like the layer's initial one: orthogonal with the same gain, or by :func:`draw`.

    Args:
        shape: (out, in, *kernel).
        scale: see :func:`initial_scale`.
    """
    if not scale[2]:
        return draw(shape, scale[0], generator, like)
    weight = torch.nn.init.orthogonal_(torch.empty(shape), generator=generator)
    return (weight * (scale[0] / weight.square().mean().sqrt())).to(like)


def another_draw(initial: Tensor, generator: torch.Generator) -> Tensor:
    """Another draw from the distribution of the weight ``initial``, of which only this one sample is known.

    Rows and columns are permuted at random, each with a random sign. For independent symmetric entries, and for
    orthogonal weights, the result is as probable as ``initial``. In any case norm, gain and singular values stay
    exactly the same. The entries of a vector (a bias, scales) are permuted and keep their signs.

    Args:
        initial: (out, in), (out, in, *kernel) with columns in · kernel, or (n).
        generator: the random generator, on the CPU.
    """

    def order(n: int) -> Tensor:
        return torch.randperm(n, generator=generator).to(initial.device)

    def signs(n: int) -> Tensor:
        return torch.randint(0, 2, (n,), generator=generator).mul_(2).sub_(1).to(initial)

    if initial.ndim == 1:
        return initial[order(len(initial))]
    rows, columns = initial.flatten(1).shape
    moved = initial.flatten(1)[order(rows)][:, order(columns)]
    return (moved * signs(rows)[:, None] * signs(columns)).view_as(initial)
