"""What finished runs say: read from their folders, over seeds, as a page, tables and plots."""

from neoteny.runners.reports.board import compare
from neoteny.runners.reports.environment import Environment, environments
from neoteny.runners.reports.page import page
from neoteny.runners.reports.plots import plot
from neoteny.runners.reports.reference import plasticity_tables, reference_of, references, write_plasticity
from neoteny.runners.reports.scores import Runs, interval, read_runs, scores
from neoteny.runners.reports.section import Section
from neoteny.runners.reports.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from neoteny.runners.reports.tables import measured, solved_table, table, transfer_table, write_rows
from neoteny.runners.reports.writing import FIGURES, write

__all__ = [
    "FIGURES",
    "Environment",
    "Runs",
    "Section",
    "compare",
    "environments",
    "interquartile_mean",
    "interval",
    "measured",
    "page",
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
    "write",
    "write_plasticity",
    "write_rows",
]
