"""What a run shows in TensorBoard and on wandb, beside the plain numbers of ``progress.csv``."""

from neoteny.runners.dashboards.answers import forgotten
from neoteny.runners.dashboards.events import Events
from neoteny.runners.dashboards.mirror import Mirror
from neoteny.runners.dashboards.pictures import draw_matrix, plain_numbers
from neoteny.runners.dashboards.writing import (
    DASHBOARD,
    TABLE,
    Switches,
    numbered,
    only_dashboards,
    record_look,
)

__all__ = [
    "DASHBOARD",
    "TABLE",
    "Events",
    "Mirror",
    "Switches",
    "draw_matrix",
    "forgotten",
    "numbered",
    "only_dashboards",
    "plain_numbers",
    "record_look",
]
