"""Attribution: which part of an agent its loss of plasticity sits in, by making one thing of it fresh at a time."""

from neoteny.runners.attribution.interventions import INTERVENTIONS, NotThereError
from neoteny.runners.attribution.reading import named, read
from neoteny.runners.attribution.shown import plot, print_table, write_table
from neoteny.runners.attribution.study import Study
from neoteny.runners.attribution.trials import Switch, find_switch, learn_after

__all__ = [
    "INTERVENTIONS",
    "NotThereError",
    "Study",
    "Switch",
    "find_switch",
    "learn_after",
    "named",
    "plot",
    "print_table",
    "read",
    "write_table",
]
