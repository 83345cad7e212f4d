"""How much of the gap to a fresh agent each intervention takes, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

#: Bootstrap samples.
DRAWS = 10_000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number with its 95 % interval; of nothing, all are NaN."""

    middle: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        return "—" if math.isnan(self.middle) else f"{self.middle:.2f} [{self.low:.2f}, {self.high:.2f}]"


def student(p: float, freedom: int) -> float:
    """The quantile of Student's t: with f degrees of freedom x = √f · tan θ, where θ has a density ∝ cos^(f − 1) θ."""
    edges = np.linspace(-np.pi / 2, np.pi / 2, 100_001)
    mass = np.cumsum([0, *np.cos((edges[1:] + edges[:-1]) / 2) ** (freedom - 1)])
    return math.sqrt(freedom) * math.tan(float(np.interp(p * mass[-1], mass, edges)))


def stretch(count: int) -> float:
    """How much wider than the bootstrap's percentiles an interval of ``count`` seeds has to be.

    √(n/(n − 1)) t/z, with t and z the quantiles of Student's distribution with n − 1 degrees of freedom and of the
    normal one: 1.6 for five seeds, 2.7 for three. The percentile interval of few is too short by about this factor, see
    Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician 2015 (arXiv 1411.5279). It is
    remedied there by percentiles that lie further out; of three seeds none lies out as far.
    """
    p = (1 + LEVEL) / 2
    return math.sqrt(count / (count - 1)) * student(p, count - 1) / NormalDist().inv_cdf(p)


def estimate(statistic: Callable[..., Any], *samples: Array) -> Estimate:
    """A statistic of means over seeds, with its interval: seeds are drawn anew, the same for all samples.

    The 2.5th and 97.5th percentiles of what is found so, moved away from the statistic by the factor :func:`stretch`.

    Args:
        statistic: of as many means as there are samples; takes arrays.
        samples: (seeds) each. Seeds of which not all are finite are left out.
    """
    together = np.stack(samples)
    together = together[:, np.isfinite(together).all(0)]
    count = together.shape[1]
    if not count:
        return Estimate(math.nan, math.nan, math.nan)
    middle = float(statistic(*together.mean(1)))
    if count == 1:
        return Estimate(middle, -math.inf, math.inf)
    drawn = np.random.default_rng(0).integers(0, count, (DRAWS, count))
    found = statistic(*together[:, drawn].mean(2))
    ends = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = middle + stretch(count) * (ends - middle)
    return Estimate(middle, float(low), float(high))


class Attribution(NamedTuple):
    """What the trials of one switch say.

    Attributes:
        areas: the mean of the learning curve after each intervention.
        gap: that of ``everything`` minus that of ``nothing``.
        shares: of the gap, by intervention: (area − nothing) / gap. Empty if the gap's interval includes 0.
    """

    areas: dict[str, Estimate]
    gap: Estimate
    shares: dict[str, Estimate]


def attribute(areas: Mapping[str, Array]) -> Attribution:
    """From the areas under the learning curves: by intervention, also ``nothing`` and ``everything``, (seeds) each."""
    nothing, everything = areas["nothing"], areas["everything"]
    gap = estimate(np.subtract, everything, nothing)
    shares = {}
    if gap.sign:
        parts = [name for name in areas if name not in ("nothing", "everything")]
        shares = {name: estimate(_share, areas[name], nothing, everything) for name in parts}
    return Attribution({name: estimate(lambda x: x, values) for name, values in areas.items()}, gap, shares)


def _share(part: Any, nothing: Any, everything: Any) -> Any:
    return (part - nothing) / (everything - nothing)
