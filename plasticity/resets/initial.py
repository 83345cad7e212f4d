"""How weights were drawn at first, and drawing others like them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neoteny.plasticity.layers import Layer, smaller_gram


def initial_scale(layer: Layer) -> Tensor:
    """What is remembered of how a layer was made: [RMS of its weights, RMS of its biases, 1 if orthogonal else 0]."""
    matrix = layer.matrix.detach().double()
    gram = smaller_gram(matrix)
    level = gram.diagonal().mean()
    skew = (gram - level * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max()
    bias = torch.zeros(()) if layer.bias is None else layer.bias.detach().square().mean().sqrt()
    orthogonal = len(gram) > 1 and bool(skew < 1e-4 * level)
    return torch.tensor([matrix.square().mean().sqrt().item(), bias.item(), float(orthogonal)], dtype=torch.float64)


def draw(shape: tuple[int, ...], rms: Tensor, generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform on [−√3·rms, √3·rms], drawn on the CPU, then moved to where ``like`` is.

    This is the distribution of torch's own layers, and has the mean and variance of any other initialization whose
    entries are symmetric.
    """
    bound = math.sqrt(3) * float(rms)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator).to(like)


@torch.no_grad()
def fresh(shape: torch.Size, scale: Tensor, generator: torch.Generator, like: Tensor) -> Tensor:
    """A weight drawn as its layer was at first: orthogonal of that gain, else by :func:`draw`.

    Args:
        shape: (out, in, *kernel).
        scale: see :func:`initial_scale`.
    """
    if not scale[2]:
        return draw(shape, scale[0], generator, like)
    weight = torch.nn.init.orthogonal_(torch.empty(shape), generator=generator)
    return (weight * (scale[0] / weight.square().mean().sqrt())).to(like)


def another_draw(initial: Tensor, generator: torch.Generator) -> Tensor:
    """Another draw from the distribution that the weight ``initial`` was drawn from, known by this one draw only.

    Rows and columns change places at random, each with a random sign. For weights whose entries are independent and
    symmetric, and for orthogonal ones, this is as probable a draw as the one given; whatever they are, size, gain and
    singular values stay exactly as they were. A vector (a bias, scales) has its entries permuted, signs kept.

    Args:
        initial: (out, in), (out, in, *kernel) with columns in · kernel, or (n).
        generator: where all chance comes from, on the CPU.
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
