"""What finished runs say: read from their folders, over seeds, as tables and plots."""

from neoteny.runners.reports.plots import plot
from neoteny.runners.reports.reference import plasticity_tables, reference_of, references, write_plasticity
from neoteny.runners.reports.scores import Runs, interval, read_runs, scores
from neoteny.runners.reports.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from neoteny.runners.reports.tables import measured, solved_table, table, transfer_table, write_rows

__all__ = [
    "Runs",
    "interquartile_mean",
    "interval",
    "measured",
    "performance_profile",
    "plasticity_tables",
    "plot",
    "probability_of_improvement",
    "read_runs",
    "reference_of",
    "references",
    "scores",
    "solved_table",
    "stratified_interval",
    "table",
    "transfer_table",
    "write_plasticity",
    "write_rows",
]
