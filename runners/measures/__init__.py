"""What is measured of a run: returns as learning curves, and what is read off the networks."""

from neoteny.runners.measures.evaluation import evaluate_visit, generators_kept
from neoteny.runners.measures.groups import GROUPS, summary
from neoteny.runners.measures.metrics import METRICS, Metric, find_metric, measure
from neoteny.runners.measures.panel import DEFAULT, OF_NETWORKS, Panel, chosen
from neoteny.runners.measures.probing import Prober, probe_agent
from neoteny.runners.measures.recent import Recent
from neoteny.runners.measures.schedule import looks_per_task
from neoteny.runners.measures.visit import HEADLINES, VisitMeasures, in_words, logged, shown, steps_of

__all__ = [
    "DEFAULT",
    "GROUPS",
    "HEADLINES",
    "METRICS",
    "OF_NETWORKS",
    "Metric",
    "Panel",
    "Prober",
    "Recent",
    "VisitMeasures",
    "chosen",
    "evaluate_visit",
    "find_metric",
    "generators_kept",
    "in_words",
    "logged",
    "looks_per_task",
    "measure",
    "probe_agent",
    "shown",
    "steps_of",
    "summary",
]
