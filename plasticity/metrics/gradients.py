"""Gradient diversity: the effective rank of the per-sample gradient matrix, without that matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neoteny.plasticity.metrics.spectra import effective_rank


@torch.no_grad()
def gradient_gram(inputs: Tensor, gradients: Tensor) -> Tensor:
    """K = GGᵀ, where row i of G is the gradient of the loss ℓ_i of sample i with respect to a layer's weight.

    That gradient is Σ_l δ_il x_ilᵀ, so K_ij = Σ_lm (x_il · x_jm)(δ_il · δ_jm): with one position, a product of two
    small matrices. The K of several layers add up to that of all their weights.

    Args:
        inputs: x, (n, in) or (n, positions, in): what the layer gets.
        gradients: δ_il = ∂ℓ_i/∂y_il, (n, out) or (n, positions, out), where y is the layer's output before any bias.

    Returns:
        K, (n, n), in float64.

    Raises:
        ValueError: the shapes do not go together.
    """
    if inputs.shape[:-1] != gradients.shape[:-1] or inputs.ndim not in (2, 3):
        raise ValueError(f"(n, in) and (n, out) are needed, got {tuple(inputs.shape)} and {tuple(gradients.shape)}")
    if inputs.ndim == 2:
        return (inputs @ inputs.T).double() * (gradients @ gradients.T).double()
    if inputs.shape[1] == 1:
        return gradient_gram(inputs[:, 0], gradients[:, 0])
    rows = torch.bmm(gradients.mT, inputs).flatten(1)
    return (rows @ rows.T).double()


def conv_patches(conv: nn.Conv2d, images: Tensor) -> Tensor | None:
    """What a convolution multiplies its kernel with: (n, positions, in · kernel); None where that is not so simple.

    Args:
        conv: the convolution. Groups, and padding by other than zeros, are not so simple.
        images: its input, (n, in, height, width).
    """
    if conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str) or images.ndim != 4:
        return None
    patches = functional.unfold(images, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
    return patches.mT


@torch.no_grad()
def gradient_diversity(gram: Tensor) -> float:
    """The effective rank of the per-sample gradient matrix G, (n, weights): in how many directions samples pull.

    Lewandowski et al., ICLR 2025 (arXiv 2406.06811), say that large spectral norms end gradient diversity. Effective
    rank is Roy & Vetterli's, see :func:`~neoteny.plasticity.metrics.spectra.effective_rank`, of the singular values of
    G, which are √λ of GGᵀ; λ below n·ε·λ₁, ε of float32, are 0. In [1, n]; 0 if all gradients are 0; NaN if one is not
    finite.

    Args:
        gram: GGᵀ, (n, n), as of :func:`gradient_gram`.

    Raises:
        ValueError: it is not square, or empty.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"a square matrix is needed, got the shape {tuple(gram.shape)}")
    if not torch.isfinite(gram).all():
        return float("nan")
    squares = torch.linalg.eigvalsh(gram.double())
    rounding = len(gram) * torch.finfo(torch.float32).eps * squares[-1]
    return effective_rank(torch.where(squares > rounding, squares, 0.0).clamp_min(0).sqrt())
