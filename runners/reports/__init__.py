"""What finished runs say: read from their folders, over seeds, as tables and plots."""

from neoteny.runners.reports.plots import plot
from neoteny.runners.reports.scores import Runs, interval, read_runs, scores
from neoteny.runners.reports.tables import measured, solved_table, table, transfer_table, write_rows

__all__ = [
    "Runs",
    "interval",
    "measured",
    "plot",
    "read_runs",
    "scores",
    "solved_table",
    "table",
    "transfer_table",
    "write_rows",
]
