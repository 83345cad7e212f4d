"""What goes to dashboards when networks were looked at, and when a task is over."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from stable_baselines3.common.logger import Image, Logger, TensorBoardOutputFormat
from torch import Tensor

from neoteny.agents import Continual
from neoteny.runners.dashboards.answers import drifts, learned, overall
from neoteny.runners.dashboards.mirror import Mirror
from neoteny.runners.dashboards.pictures import draw_story
from neoteny.runners.measures.groups import OF_LAYERS, by_network
from neoteny.runners.measures.instruments import network_of
from neoteny.runners.measures.verdicts import Row

#: What is for tables only, and what is for dashboards only, in the words of stable-baselines3's logger.
TABLE, DASHBOARD = ("tensorboard",), ("csv",)


#: The share of a run's time that pictures may take, and the seconds that the first is expected to take.
SHARE, EXPECTED = 0.02, 0.3


def only_dashboards(logger: Logger) -> Logger:
    """A logger that writes to the dashboards of another."""
    return Logger(None, [each for each in logger.output_formats if isinstance(each, (TensorBoardOutputFormat, Mirror))])


def numbered(index: int, label: str) -> str:
    """A task in tags, by which they are in the order of the tasks; each visit has a tag of its own."""
    return f"{index + 1:02d} {label}"


def record_look(logger: Logger, agent: Continual, found: Mapping[str, float], spectra: Mapping[str, Tensor]) -> None:
    """Log what was read of an agent's networks.

    What is of a layer has its network before it on dashboards, ``actor_layers/spectral_norm/<layer>``, and is
    ``spectral_norm/<layer>`` in tables. The worst over a network's layers is added, and singular values as histograms.

    Args:
        logger: of the run.
        agent: whose networks.
        found: by ``group/name``.
        spectra: singular values, by layer.
    """
    network = functools.partial(network_of, agent)
    for key, value in found.items():
        group, _, layer = key.partition("/")
        if group in OF_LAYERS:
            logger.record(key, value, TABLE)
            logger.record(f"{network(layer)}_layers/{key}", value, DASHBOARD)
        else:
            logger.record(key, value)
    for key, value in by_network(found, network).items():
        logger.record(key, value)
    for layer, values in spectra.items():
        if bool(torch.isfinite(values).all()):
            logger.record(f"singular_values/{network(layer)}/{layer}", values.float().cpu(), DASHBOARD)


class Switches:
    """Shows on dashboards, when a task is over, what the run has come to.

    The picture and the texts are made where they take a small share of the time, and always at the end: two runs of
    the same settings can have others on the way, but have the same at last.

    Args:
        logger: of the run.
        headline: the measure that the sequence is judged by.
        title: what stands above pictures.
    """

    def __init__(self, logger: Logger, headline: str, title: str):
        self.logger = only_dashboards(logger)
        self.headline, self.title = headline, title
        self.free_from = time.perf_counter() + EXPECTED / SHARE

    def show(self, step: int, tasks: Sequence[Row], read: Callable[[], Sequence[Row]], last: bool) -> None:
        """A task is over.

        Args:
            step: environment steps done.
            tasks: the rows of tasks.csv.
            read: gives the rows of progress.csv.
            last: whether it is the last task.
        """
        for name, value in overall(tasks).items():
            self.logger.record(f"overall/{name}", value)
        began = time.perf_counter()
        if last or began >= self.free_from:
            progress = read()
            picture = draw_story(progress, tasks, self.headline, self.title)
            self.logger.record("answers/0 the run so far", Image(picture, "HWC"))
            self.logger.record("answers/1 which tasks were learned", learned(tasks))
            self.logger.record("answers/2 since when its networks drift, and which", drifts(tasks, progress))
            gc.collect()  # figures hold themselves, and would pile up
            self.free_from = (now := time.perf_counter()) + (now - began) / SHARE
        self.logger.dump(step)
