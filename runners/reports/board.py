"""The comparison of runs in TensorBoard, beside the runs: answers, figures, and curves with intervals over seeds."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from neoteny.runners.measures import in_words
from neoteny.runners.reports.drawn import save
from neoteny.runners.reports.environment import Environment, environments, means
from neoteny.runners.reports.section import Section

#: The folder, beside those of methods, and so the name among TensorBoard's runs.
BOARD = "comparison"
#: The group of its texts and pictures, which stands before those of runs.
GROUP = "all seeds"
#: The figures of a report that are pictures there.
SHOWN = (
    "learning-curves",
    "tasks-learned",
    "comparison",
    "plasticity-against-fresh",
    "drift",
    "evaluation-matrix",
    "attribution",
)


def compare(folder: Path) -> Path | None:
    """Compare all runs of an environment, in TensorBoard; what an earlier comparison said is replaced.

    Args:
        folder: of the environment, with a folder for each method.

    Returns:
        The folder with the events; None if no task is finished.
    """
    found = [env for env in environments([folder]) if env.runs]
    if not found:
        return None
    board = folder / BOARD
    for old in board.rglob("events.out.tfevents.*"):
        old.unlink(missing_ok=True)  # another program may compare them at the same time
    section = Section(found[0])
    with SummaryWriter(str(board)) as writer:
        how = {figure.key: figure.how for figure in section.figures}
        for number, answer in enumerate(section.answers, 1):
            text = "\n".join([f"**{answer.lead}**\n", *(f"- {line}" for line in answer.lines)])
            text += f"\n\n*{how[answer.key]}*" if answer.key in how else ""
            writer.add_text(f"{GROUP}/{number} {answer.question}", text)
        _draw(section, writer)
        chart = f"{in_words(section.env.headline).capitalize()} over each task: mean over seeds, and its 95 % interval"
        title = f"0 · Which method is better on {section.env.name}, over all seeds?"
        writer.add_custom_scalars({title: {chart: ["Multiline", ["^over_seeds/.*$"]]}})
    for method in [*section.env.ranked, *section.env.fresh]:
        _curves(section.env, method, board)
    return board


def _draw(section: Section, writer: SummaryWriter) -> None:
    figures = {figure.key: figure for figure in section.figures if figure.panels}
    for number, key in enumerate(SHOWN, 1):
        if key in figures:
            with tempfile.TemporaryDirectory() as place:
                (file,) = save(figures[key], Path(place), section.env.name, ["png"])
                picture = np.asarray(Image.open(file).convert("RGB"))
            writer.add_image(f"{GROUP}/{number} {figures[key].title}", picture, dataformats="HWC")


def _curves(env: Environment, method: str, board: Path) -> None:
    """The mean over seeds at each task's end, with its interval, as a run of its own, which so has its own colour."""
    with SummaryWriter(str(board / env.called[method])) as writer:
        found = means(env.scores(method, f"{env.headline}_mean"))
        for (_, end, _), numbers in zip(env.bands, zip(*found, strict=True), strict=False):
            for name, number in zip(("mean", "low", "high"), numbers, strict=True):
                if not math.isnan(number):
                    writer.add_scalar(f"over_seeds/{name}", number, int(end))
