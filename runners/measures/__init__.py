"""What is measured of a run: returns as learning curves, and what is read off the networks."""

from neoteny.runners.measures.metrics import METRICS, Metric, find_metric, measure
from neoteny.runners.measures.returns import Returns

__all__ = ["METRICS", "Metric", "Returns", "find_metric", "measure"]
