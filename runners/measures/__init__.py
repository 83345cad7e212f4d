"""What is measured of a run: returns as learning curves, and what is read off the networks."""

from neoteny.runners.measures.evaluation import evaluate_visit, generators_kept
from neoteny.runners.measures.metrics import METRICS, Metric, find_metric, measure
from neoteny.runners.measures.visit import HEADLINES, VisitMeasures, in_words, shown

__all__ = [
    "HEADLINES", "METRICS", "Metric", "VisitMeasures", "evaluate_visit", "find_metric", "generators_kept",
    "in_words", "measure", "shown",
]  # fmt: skip
