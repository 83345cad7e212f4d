"""Tracks the largest singular value of several matrices, and its pair of vectors, from update to update.

For a matrix W (m × n) two blocks of b rows are kept, U (b × m) and V (b × n): approximate singular vectors of its b
largest singular values. A step starts from U or from V in turn. From U it is

    U's least important row ← d = g Σ_i v_i, of length 1
    Y = U W
    T with T U Uᵀ Tᵀ = I and T Y Yᵀ Tᵀ = Λ, ascending: a b × b eigenvalue problem
    σ = √λ_b,  u = (T U)_b,  v = (T Y)_b / σ
    V ← T (Y − λ_2/4 V) / σ,  U ← T U / σ

and from V the same with Wᵀ and gᵀ. The third line is Rayleigh–Ritz: σ = uᵀWv ≤ σ₁ is the largest singular value of W
within the block. The last is half a step of subspace iteration with momentum (Chebyshev's recurrence, whose λ_2/4 is
best where √λ_2 is the largest singular value outside the block). With σ₁ = (1 + ε)√λ_2, a step multiplies what the
block lacks by about 1 − √(2ε); without momentum, by 1 − ε. After orthogonal initialization, and where a penalty has
levelled the spectrum, ε is a few hundredths.

W moves along the gradient g of the update before, hence d. A tenth of a random direction is added to it, which is what
is left where there is no gradient.

Of equal singular values, u and v are the pair that the block holds: one subgradient of σ₁, and not an average.

A matrix with at most b rows or columns is not tracked: its σ₁ is computed from the smaller Gram matrix.

Cost of a step: per matrix 2·b·m·n operations for Y, in one pass over W as for a matrix-vector product, 2·m·n for d and
about 10·b²·(m + n) for the rest; and one eigenvalue problem of size b. On a GPU that waits for the device.

Worst case: a direction that neither the block nor the gradient has, as after weights have been replaced, and a penalty
that takes down singular values faster than one per step: ε is then small and the block always late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from neoteny.plasticity.schedule import new_counter

#: b, the number of singular vectors kept for each matrix.
BLOCK = 8
#: The share of a random direction in a new one.
RANDOM = 0.1
#: So many random directions take turns.
RANDOMS = 16
#: The n-th update takes 2000/n steps, at most 8.
EARLY, MOST = 2000, 8
#: Later, the block is renewed when σ has changed by about so much in any matrix, and at least at every second update.
DRIFT, LONGEST = 0.003, 2
#: Where λ_2/λ_b of some matrix is above this, an update takes two steps, else one.
LEVEL = 0.9
#: Steps until a newly attached tracker must have converged, and the relative rise per step that counts as that, over so
#: many steps: in one, the rounding of float32 may be as much, and of many matrices always is in some.
WARM_UP, CONVERGED, OVER = 2000, 1e-7, 16
#: As often in a row: where many singular values are nearly the largest, σ goes up and down on its way.
PATIENCE = 4
#: Matrices of no more rows or columns than this share a batch; larger ones share one with those of like size.
PADDED = 4096


def ritz(basis: Tensor, image: Tensor, before: Tensor, ridge: Tensor, one: Tensor) -> tuple[Tensor, ...]:
    """From a basis X, its image Y = XW, and Z, the basis before it, to the largest singular value and the next step.

    T (X Xᵀ + ridge) Tᵀ = I, T Y Yᵀ Tᵀ = Λ, ascending. What is not finite counts as 0.

    Args:
        basis: X, (L, b, p).
        image: Y, (L, b, q). Overwritten.
        before: Z, (L, b, q).
        ridge: (b, b), for rows that depend on others or are 0.
        one: the identity, (b, b).

    Returns:
        σ = √λ_b, (L); its vectors (T X)_b, (L, p), and (T Y)_b / σ, (L, q); the next basis T (Y − λ_2/4 Z) / σ, and
        T X / σ, the basis before that; and λ_2/λ_b, which is near 1 where the spectrum is level, (L).
    """
    torch.nan_to_num_(image, 0.0, 0.0, 0.0)
    lower = torch.linalg.cholesky_ex(torch.baddbmm(ridge, basis, basis.mT))[0]
    inverse = torch.linalg.solve_triangular(lower, one, upper=False)
    inner = inverse @ (image @ image.mT) @ inverse.mT
    values, vectors = torch.linalg.eigh(torch.nan_to_num_(inner, 0.0, 0.0, 0.0))
    turn = vectors.mT @ inverse
    largest = values[:, -1].clamp_min(0)
    scaled = turn * torch.nan_to_num_(largest.rsqrt(), posinf=0.0)[:, None, None]
    u, v = torch.bmm(turn[:, -1:], basis), torch.bmm(scaled[:, -1:], image)
    image.addcmul_(before, values[:, 1, None, None], value=-0.25)
    level = values[:, 1] / values[:, -1]
    return largest.sqrt_(), u.squeeze(1), v.squeeze(1), scaled @ image, scaled @ basis, level


class Batch:
    """The blocks of several matrices, padded with zeros to one size. Each matrix is seen as wide: p × q with p ≤ q.

    Attributes:
        names: of the matrices.
        sides: the blocks over p and q, (L, b, p) and (L, b, q).
        tops: the vectors of σ, (L, p) and (L, q).
        directions: d on either side, (L, p) and (L, q).
        sigma: (L).
    """

    def __init__(self, matrices: Mapping[str, Tensor], generator: torch.Generator):
        some = next(iter(matrices.values()))
        self.names = list(matrices)
        self.tall = [len(matrix) > matrix.shape[1] for matrix in matrices.values()]
        self.shapes = [sorted(matrix.shape) for matrix in matrices.values()]
        self.small = self.shapes[0][0] <= BLOCK
        options: dict[str, Any] = {"dtype": torch.promote_types(some.dtype, torch.float32), "device": some.device}
        sizes = [max(column) for column in zip(*self.shapes, strict=True)]
        self.sides = [torch.zeros(len(matrices), BLOCK, size, **options) for size in sizes]
        self.images = [torch.zeros_like(side) for side in self.sides]
        eps = 100 * torch.finfo(options["dtype"]).eps
        self.one = torch.eye(BLOCK, **options)
        self.ridge = eps * self.one
        self.tops = [torch.zeros(len(matrices), size, **options) for size in sizes]
        self.directions = [torch.zeros(len(matrices), size, **options) for size in sizes]
        self.randoms = [torch.zeros(RANDOMS, len(matrices), size, **options) for size in sizes]
        self.sigma = torch.zeros(len(matrices), **options)
        self.level = torch.zeros(len(matrices), **options)
        for i, shape in enumerate(self.shapes):
            rows = torch.randn(shape[0], min(BLOCK, shape[0]), generator=generator, dtype=torch.float64)
            self.sides[0][i, : rows.shape[1], : shape[0]] = torch.linalg.qr(rows)[0].T
            for randoms, size in zip(self.randoms, shape, strict=True):
                draw = torch.randn(RANDOMS, size, generator=torch.Generator().manual_seed(size))
                randoms[:, i, :size] = RANDOM * normalize(draw, dim=1)

    def wide(self, matrices: Mapping[str, Tensor]) -> list[Tensor]:
        """The matrices of this batch as p × q."""
        found = [matrices[name].to(self.sigma.dtype) for name in self.names]
        return [x.T if tall else x for x, tall in zip(found, self.tall, strict=True)]

    def step(self, matrices: list[Tensor], count: int) -> None:
        """Take one step, from the side whose turn it is."""
        if self.small:
            self.sigma, *self.tops = self._exact(matrices)
            return
        side = count % 2
        basis, before = self.sides[side], self.sides[1 - side]
        basis[:, 0] = normalize(self.directions[side], dim=1).add_(self.randoms[side][count // 2 % RANDOMS])
        before[:, 0] = 0
        self.sigma, self.tops[side], self.tops[1 - side], self.sides[1 - side], self.sides[side], self.level = (
            self._advance(basis, before, matrices, side)
        )

    def look(self, matrices: list[Tensor], count: int) -> Tensor:
        """σ after two steps, (L), without taking them."""
        if self.small:
            return self._exact(matrices)[0]
        side = count % 2
        _, _, _, after, basis, _ = self._advance(self.sides[side], self.sides[1 - side], matrices, side)
        return self._advance(after, basis, matrices, 1 - side)[0]

    def _exact(self, matrices: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """σ, u and v of matrices with few rows, from the eigenvalues of their Gram matrices."""
        grams = self.sigma.new_zeros(len(matrices), BLOCK, BLOCK)
        for gram, matrix in zip(grams, matrices, strict=True):
            torch.mm(matrix, matrix.T, out=gram[: len(matrix), : len(matrix)])
        values, vectors = torch.linalg.eigh(torch.nan_to_num_(grams, 0.0, 0.0, 0.0))
        sigma = values[:, -1].clamp_min(0).sqrt_()
        left, right = vectors[:, : self.tops[0].shape[1], -1], torch.zeros_like(self.tops[1])
        for v, u, matrix in zip(right, left, matrices, strict=True):
            torch.mv(matrix.T, u[: len(matrix)], out=v[: matrix.shape[1]])
        right.mul_(torch.nan_to_num_(sigma.reciprocal(), posinf=0.0)[:, None])
        return sigma, left, right

    def _advance(self, basis: Tensor, before: Tensor, matrices: list[Tensor], side: int) -> tuple[Tensor, ...]:
        image = self.images[1 - side]
        for i, (matrix, shape) in enumerate(zip(matrices, self.shapes, strict=True)):
            rows, out = basis[i, :, : shape[side]], image[i, :, : shape[1 - side]]
            torch.mm(rows, matrix.T if side else matrix, out=out)
        return ritz(basis, image, before, self.ridge, self.one)

    def follow(self, gradients: Mapping[str, Tensor], count: int) -> None:
        """Set the directions of the next step, where there is a gradient."""
        if self.small:
            return
        side = count % 2
        total = self.sides[1 - side].sum(1)
        for i, (name, tall, shape) in enumerate(zip(self.names, self.tall, self.shapes, strict=True)):
            if name in gradients:
                gradient = gradients[name].to(total.dtype)
                out, seen = self.directions[side][i, : shape[side]], total[i, : shape[1 - side]]
                torch.mv(gradient.T if tall != side else gradient, seen, out=out)
        torch.nan_to_num_(self.directions[side], 0.0, 0.0, 0.0)


class Tracker:
    """The largest singular value of each of several matrices, with its pair of vectors; see the module.

    Computes in float32 where the matrices are in a narrower format.

    After orthogonal initialization all singular values are equal, and the first updates may raise any. So these take
    more steps: 2000/n in the n-th, at most 8. Later it is two while the largest singular values of some matrix are all
    within 5 %, as where a penalty has levelled them, else one; and if the last update changed no σ by more than 0.15 %,
    the pairs are held for the next.

    Args:
        matrices: by name, (out, in).
        generator: for the first vectors.
        longest: how many updates the pairs are held at most.

    Attributes:
        names: of the matrices, in the order of :attr:`sigma`, ``u`` and ``v``.
        updates: how many there were.
    """

    def __init__(self, matrices: Mapping[str, Tensor], generator: torch.Generator, longest: int = LONGEST):
        self.longest = longest
        self.updates, self._steps, self._held, self._next, self._usual = (new_counter() for _ in range(5))
        self._usual.fill_(2)
        groups: dict[tuple[object, ...], dict[str, Tensor]] = {}
        for name, matrix in matrices.items():
            p, q = sorted(matrix.shape)
            dtype = torch.promote_types(matrix.dtype, torch.float32)
            key = (matrix.device, dtype, p <= BLOCK, max(q, PADDED).bit_length() // 2)
            groups.setdefault(key, {})[name] = matrix
        self._batches = [Batch(group, generator) for group in groups.values()]
        self.names = [name for batch in self._batches for name in batch.names]
        self.settle(matrices)

    def settle(self, matrices: Mapping[str, Tensor]) -> None:
        """Take steps on matrices that stand still, until σ, a lower bound, rises no more."""
        best, still = self.sigma, 0
        for _ in range(WARM_UP // OVER if self.names else 0):
            self._step(matrices, OVER)
            rises = (self.sigma > best * (1 + OVER * CONVERGED)).any()
            best, still = torch.maximum(best, self.sigma), 0 if rises else still + 1
            if still == PATIENCE:
                break

    def _step(self, matrices: Mapping[str, Tensor], steps: int = 1) -> None:
        for batch in self._batches:
            wide = batch.wide(matrices)
            for step in range(1 if batch.small else steps):
                batch.step(wide, int(self._steps) + step)
        self._steps += steps

    def due(self) -> bool:
        """Count an update of the matrices. Whether :meth:`renew` is to be called."""
        self.updates += 1
        self._held += 1
        return int(self._held) >= int(self._next)

    def renew(self, matrices: Mapping[str, Tensor]) -> None:
        """Find the pairs of the matrices as they are now."""
        held, early = int(self._held), EARLY // int(self.updates)
        before = self.sigma
        self._step(matrices, max(int(self._usual), min(early, MOST)))
        change = ((self.sigma - before).abs() / before.clamp_min(1e-30)).max() / held
        level = torch.cat([batch.level for batch in self._batches]).nan_to_num_().max()
        self._usual.fill_(2 if float(level) > LEVEL else 1)  # waits for the device
        self._held.zero_()
        self._next.fill_(1 if early > 1 else min(int(DRIFT / max(float(change), 1e-9)), self.longest))

    def follow(self, gradients: Mapping[str, Tensor]) -> None:
        """Have the next update look where these gradients, (out, in) each, move the matrices. Some may be missing."""
        if int(self._held) + 1 >= int(self._next):
            for batch in self._batches:
                batch.follow(gradients, int(self._steps))

    @property
    def sigma(self) -> Tensor:
        """σ at the last step, of shape (L)."""
        return torch.cat([batch.sigma for batch in self._batches]) if self.names else torch.zeros(0)

    @property
    def u(self) -> list[Tensor]:
        """The left vectors."""
        return self._vectors(0)

    @property
    def v(self) -> list[Tensor]:
        """The right vectors."""
        return self._vectors(1)

    def _vectors(self, side: int) -> list[Tensor]:
        found = []
        for batch in self._batches:
            for i, (tall, shape) in enumerate(zip(batch.tall, batch.shapes, strict=True)):
                at = 1 - side if tall else side
                found.append(batch.tops[at][i, : shape[at]])
        return found

    def look(self, matrices: Mapping[str, Tensor]) -> Tensor:
        """σ of the matrices as they are now, of shape (L): two steps that are not kept."""
        found = [batch.look(batch.wide(matrices), int(self._steps)) for batch in self._batches]
        return torch.cat(found) if found else torch.zeros(0)

    def state(self) -> dict[str, Tensor]:
        """The live tensors that the next update depends on, without padding."""
        counters = {"updates": self.updates, "steps": self._steps, "held": self._held, "next": self._next}
        counters["usual"] = self._usual
        found = {f"tracker.{name}": counter for name, counter in counters.items()}
        for batch in self._batches:
            for i, (name, shape) in enumerate(zip(batch.names, batch.shapes, strict=True)):
                found[f"sigma.{name}"] = batch.sigma[i]
                for side, size in enumerate(shape):
                    found[f"block{side}.{name}"] = batch.sides[side][i, :, :size]
                    found[f"vector{side}.{name}"] = batch.tops[side][i, :size]
                    found[f"direction{side}.{name}"] = batch.directions[side][i, :size]
        return found
