"""What finished runs say: read from their folders, over seeds, as tables and plots."""

from neoteny.runners.reports.plots import plot
from neoteny.runners.reports.reference import plasticity_tables, reference_of, references, write_plasticity
from neoteny.runners.reports.scores import Runs, interval, read_runs, scores
from neoteny.runners.reports.tables import measured, solved_table, table, transfer_table, write_rows

__all__ = [
    "Runs",
    "interval",
    "measured",
    "plasticity_tables",
    "plot",
    "read_runs",
    "reference_of",
    "references",
    "scores",
    "solved_table",
    "table",
    "transfer_table",
    "write_plasticity",
    "write_rows",
]
