"""What is measured of a run: returns as learning curves, and what is read off the networks."""

from neoteny.runners.measures.metrics import METRICS, Metric, find_metric, measure
from neoteny.runners.measures.probing import Prober, probe_agent
from neoteny.runners.measures.visit import HEADLINES, VisitMeasures, in_words, shown

__all__ = [
    "HEADLINES",
    "METRICS",
    "Metric",
    "Prober",
    "VisitMeasures",
    "find_metric",
    "in_words",
    "measure",
    "probe_agent",
    "shown",
]
