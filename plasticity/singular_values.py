"""Tracks the largest singular value of several matrices, and its pair of vectors, from update to update.

For a matrix W (m × n) two blocks of b orthonormal rows are kept, U (b × m) and V (b × n): approximate singular vectors
of its b largest singular values. A step starts from U or from V in turn. From U it is

    d = g Σ_i v_i, and the least important row of U is replaced by d, made orthonormal to the others;
    Y = U W;  Y Yᵀ = Q Λ Qᵀ (b × b);  u = (Qᵀ U)_b;  V ← Λ^(−1/2) Qᵀ Y,

and from V the same with Wᵀ and gᵀ. This is half a step of subspace iteration with Rayleigh–Ritz. It passes over W once,
as one matrix-vector product would. σ = √λ_b = uᵀWv is the largest singular value of W within the block, so σ ≤ σ₁.

W moves along the gradient g of the update before, hence d. A tenth of a random direction is added to it; that is what
is left of d where the gradient points nowhere new.

Of equal singular values, u and v are the pair that the block happens to hold: one subgradient of σ₁, not an average.

A matrix with at most b rows or columns is not tracked: its σ₁ is computed from the smaller Gram matrix.

Cost of a step: per matrix 2·b·m·n operations for Y, 2·m·n for d and about 4·b²·(m + n) for the rest, and for all
matrices together the eigenvalues of b × b matrices. On a GPU these wait for the device.

Worst case: a direction that neither the block nor the gradient has, as after weights have been replaced. Its share then
grows by σ₁/σ_b per step, starting from the random direction.
"""

from __future__ import annotations

from collections.abc import Mapping

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
#: Rows of Y with a smaller share of the largest λ than this become 0: divided by √λ they would be rounding errors.
SMALLEST = 1e-4
#: The n-th update takes 400/n steps.
EARLY = 400
#: Steps until a newly attached tracker must have converged, and the relative change per step that counts as that.
WARM_UP, CONVERGED = 2000, 1e-7
#: Matrices of no more rows or columns than this share a batch; larger ones share one with those of like size.
PADDED = 4096


def steps_at(update: int, every: int) -> int:
    """How many steps the n-th update takes, n = 1, 2, …: 400/n, rounded down, then one at every N-th update.

    After orthogonal initialization all singular values are equal. Any vector is then a singular vector, and the first
    updates may raise the singular value of any other.
    """
    return EARLY // update or int(update % every == 0)


def ritz_(basis: Tensor, image: Tensor) -> Tensor:
    """Turn a basis X and its image Y = XW into approximate singular vectors of W, in place.

    With Y Yᵀ = Q Λ Qᵀ, λ ascending: Y ← Λ^(−1/2) QᵀY, where rows with λ ≤ 1e-4·λ_b become 0. The last row of Y is then
    v, and the last row of X becomes u = (QᵀX)_b. What is not finite counts as 0.

    Args:
        basis: X, (L, b, p), with rows that are orthonormal or 0.
        image: Y, (L, b, q).

    Returns:
        σ = √λ_b, of shape (L).
    """
    torch.nan_to_num_(image, 0.0, 0.0, 0.0)
    gram = torch.nan_to_num_(image @ image.mT, 0.0, 0.0, 0.0)
    values, vectors = torch.linalg.eigh(gram)
    largest = values[:, -1:].clamp_min(0)
    factors = torch.where(values > SMALLEST * largest, values.rsqrt(), 0.0)
    basis[:, -1:] = vectors[:, :, -1:].mT @ basis
    image.copy_((vectors * factors.unsqueeze(1)).mT @ image)
    return largest.squeeze(1).sqrt_()


def insert_(basis: Tensor, direction: Tensor, random: Tensor) -> None:
    """Replace the first row of each basis, the least important, by a new direction orthonormal to the other rows.

    Args:
        basis: X, (L, b, p).
        direction: d, (L, p), of any length, or 0 for none.
        random: (L, p), of length :data:`RANDOM`.
    """
    others, new = basis[:, 1:], (normalize(direction, dim=1) + random).unsqueeze(1)
    new = torch.baddbmm(new, new @ others.mT, others, alpha=-1)
    basis[:, :1] = normalize(new, dim=2)


class Batch:
    """The blocks of several matrices, padded with zeros to one size. Each matrix is seen as wide: p × q with p ≤ q.

    Attributes:
        names: of the matrices.
        sides: the blocks over p and q, (L, b, p) and (L, b, q).
        directions: d on either side, (L, p) and (L, q).
        sigma: (L).
    """

    def __init__(self, matrices: Mapping[str, Tensor], generator: torch.Generator):
        some = next(iter(matrices.values()))
        self.names = list(matrices)
        self.tall = [len(matrix) > matrix.shape[1] for matrix in matrices.values()]
        self.shapes = [sorted(matrix.shape) for matrix in matrices.values()]
        self.small = self.shapes[0][0] <= BLOCK
        options = {"dtype": torch.promote_types(some.dtype, torch.float32), "device": some.device}
        sizes = [max(column) for column in zip(*self.shapes, strict=True)]
        self.sides = [torch.zeros(len(matrices), BLOCK, size, **options) for size in sizes]
        self.directions = [torch.zeros(len(matrices), size, **options) for size in sizes]
        self.randoms = [torch.zeros(RANDOMS, len(matrices), size, **options) for size in sizes]
        self.sigma = torch.zeros(len(matrices), **options)
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
        side = count % 2
        if not self.small:
            insert_(self.sides[side], self.directions[side], self.randoms[side][count // 2 % RANDOMS])
            self.directions[side].zero_()
        self.sigma.copy_(self._advance(self.sides, matrices, side))

    def look(self, matrices: list[Tensor], count: int) -> Tensor:
        """σ after two steps, (L), without taking them."""
        sides = [side.clone() for side in self.sides]
        for step in (count, count + 1):
            sigma = self._advance(sides, matrices, step % 2)
        return sigma

    def _advance(self, sides: list[Tensor], matrices: list[Tensor], side: int) -> Tensor:
        if self.small:
            sides[0].copy_(torch.eye(BLOCK, sides[0].shape[2]))
            sides[1].zero_()
            for rows, matrix in zip(sides[1], matrices, strict=True):
                rows[: len(matrix), : matrix.shape[1]] = matrix
            return ritz_(*sides)
        basis, image = sides[side], sides[1 - side]
        for i, (matrix, shape) in enumerate(zip(matrices, self.shapes, strict=True)):
            torch.mm(basis[i, :, : shape[side]], matrix.T if side else matrix, out=image[i, :, : shape[1 - side]])
        return ritz_(basis, image)

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

    Args:
        matrices: by name, (out, in).
        generator: for the first vectors.
        every: N; from the 400th update on, a step is taken at every N-th, and the pairs stay as they are in between.

    Attributes:
        names: of the matrices, in the order of :attr:`sigma`, ``u`` and ``v``.
    """

    def __init__(self, matrices: Mapping[str, Tensor], generator: torch.Generator, every: int = 1):
        self.every = every
        self._updates, self._steps = new_counter(), new_counter()
        groups: dict[tuple[object, ...], dict[str, Tensor]] = {}
        for name, matrix in matrices.items():
            p, q = sorted(matrix.shape)
            dtype = torch.promote_types(matrix.dtype, torch.float32)
            key = (matrix.device, dtype, p <= BLOCK, max(q, PADDED).bit_length() // 2)
            groups.setdefault(key, {})[name] = matrix
        self._batches = [Batch(group, generator) for group in groups.values()]
        self.names = [name for batch in self._batches for name in batch.names]
        self._warm_up(matrices)

    def _warm_up(self, matrices: Mapping[str, Tensor]) -> None:
        sigma = self.sigma
        for step in range(WARM_UP if self.names else 0):
            self._step(matrices)
            before, sigma = sigma, self.sigma
            if step > 15 and not ((sigma - before).abs() > CONVERGED * sigma).any():
                break

    def _step(self, matrices: Mapping[str, Tensor], steps: int = 1) -> None:
        for batch in self._batches:
            wide = batch.wide(matrices)
            for step in range(1 if batch.small else steps):
                batch.step(wide, int(self._steps) + step)
        self._steps += steps

    def update(self, matrices: Mapping[str, Tensor]) -> None:
        """Follow the matrices to where they are now. To be called once per update."""
        self._updates += 1
        if steps := steps_at(int(self._updates), self.every):
            self._step(matrices, steps)

    def follow(self, gradients: Mapping[str, Tensor]) -> None:
        """Have the next update look where these gradients, (out, in) each, move the matrices. Some may be missing."""
        if steps_at(int(self._updates) + 1, self.every):
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
                found.append(batch.sides[at][i, -1, : shape[at]])
        return found

    def look(self, matrices: Mapping[str, Tensor]) -> Tensor:
        """σ of the matrices as they are now, of shape (L): two steps that are not kept."""
        found = [batch.look(batch.wide(matrices), int(self._steps)) for batch in self._batches]
        return torch.cat(found) if found else torch.zeros(0)

    def state(self) -> dict[str, Tensor]:
        """The live tensors that the next update depends on, without padding."""
        found = {"updates": self._updates, "steps": self._steps}
        for batch in self._batches:
            for i, (name, shape) in enumerate(zip(batch.names, batch.shapes, strict=True)):
                found[f"sigma.{name}"] = batch.sigma[i]
                for side, size in enumerate(shape):
                    found[f"block{side}.{name}"] = batch.sides[side][i, :, :size]
                    found[f"direction{side}.{name}"] = batch.directions[side][i, :size]
        return found
