"""Power iteration: tracks the largest singular value of several matrices from update to update."""

from __future__ import annotations

import torch
from torch import Tensor

#: Fraction of the old singular vector added to the new one. It is negligible unless the matrix is zero, and then it
#: keeps the vector from becoming zero.
KEEP = 1e-12


def power_iteration_(matrices: list[Tensor], u: list[Tensor], v: list[Tensor]) -> Tensor:
    """One step of power iteration on each matrix, updating its singular vectors in place.

    v ← Wᵀu / ‖Wᵀu‖, z = Wv, σ = ‖z‖, u ← z / σ.

    Args:
        matrices: L matrices W of shape (out, in).
        u, v: the left (out) and right (in) singular vectors.

    Returns:
        σ, of shape (L): lower bounds on the largest singular values.
    """
    for matrix, left, right in zip(matrices, u, v, strict=True):
        right.addmv_(matrix.T, left, beta=KEEP)
    torch._foreach_div_(v, torch._foreach_norm(v))
    for matrix, left, right in zip(matrices, u, v, strict=True):
        torch.mv(matrix, right, out=left)
    norms = torch._foreach_norm(u)
    torch._foreach_div_(u, torch._foreach_clamp_min(norms, torch.finfo(norms[0].dtype).tiny))
    return torch.stack(norms)


def warm_up_(matrices: list[Tensor], u: list[Tensor], v: list[Tensor], tolerance: float = 1e-7) -> Tensor:
    """At least 15 steps of power iteration, until the relative change of σ is below ``tolerance``. Returns σ."""
    sigma = power_iteration_(matrices, u, v)
    for step in range(2000):
        new = power_iteration_(matrices, u, v)
        moved = ((new - sigma).abs() > tolerance * new).any()
        sigma = new
        if step >= 15 and not moved:
            break
    return sigma
