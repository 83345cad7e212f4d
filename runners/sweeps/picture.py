"""One picture: learning task by task, the largest singular value, and what the loss sits in."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from neoteny.runners.measures import in_words
from neoteny.runners.reports.plots import CURVES, NORM, curves, plain_numbers
from neoteny.runners.reports.wording import in_its_words
from neoteny.runners.sweeps.explanation import Attributed, Explanation, sentences

#: What bars are called, in place of the interventions' names.
CALLED = {
    "heads": "both heads",
    "torsos": "both torsos",
    "rescale": "σ₁ of the hidden layers",
    "spectrum": "directions of the hidden layers",
    "optimizer": "optimizer's state",
    "everything": "everything",
    "nothing": "nothing",
}


def explained(this: Explanation, name: str, folder: Path) -> list[Path]:
    """Write ``explained.png`` and, with the sentences, ``explained.md``."""
    picture, text = folder / "explained.png", folder / "explained.md"
    title = f"{name}, {this.agent}"
    draw(this, title, picture)
    lines = sentences(this)
    text.write_text("\n\n".join([f"# {title}", *lines, f"![{title}]({picture.name})"]) + "\n")
    return [picture, text]


def draw(this: Explanation, title: str, file: Path) -> None:
    """Write the picture: returns, and beside them what was measured and attributed."""
    panels = 1 + this.has_norms + (this.attributed is not None)
    figure, (axes,) = plt.subplots(1, panels, figsize=(max(7, 4.6 * panels), 4), layout="constrained", squeeze=False)
    following = iter(axes)
    called = {name: in_its_words(name, this.measure) for name in this.runs}
    fresh = [in_its_words("fresh agents", this.measure)]
    axis = next(following)
    curves(axis, {called[name]: this.values(name) for name in this.runs}, f"mean {in_words(this.measure)}", fresh)
    axis.set_title("how well each task is learned", fontsize="medium")
    axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
    if len(this.runs) > CURVES:
        figure.set_figwidth(figure.get_figwidth() + 2.4)
        figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    else:
        axis.legend(frameon=False, fontsize="small")
    if this.has_norms:
        axis = next(following)
        curves(axis, {called[name]: this.values(name, NORM) for name in this.runs}, "σ₁ at the task's end", fresh)
        axis.set_title("the largest singular value of a layer", fontsize="medium")
        axis.set_yscale("log")
        plain_numbers(axis.yaxis)
    if this.attributed is not None:
        bars(next(following), this.attributed)
    for axis in axes:
        axis.grid(alpha=0.25)
    figure.suptitle(title)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def bars(axis: Axes, attributed: Attributed) -> None:
    """How much of the gap to a fresh agent is gone; where there is no gap to be explained, what was reached."""
    found = attributed.found
    values = found.shares or found.areas
    for number, value in enumerate(values.values()):
        axis.barh(-number, value.middle, color="C0", alpha=0.6, height=0.7)
        axis.plot([value.low, value.high], [-number] * 2, color="black", linewidth=1.5)
    axis.set_yticks(-np.arange(len(values)), [CALLED.get(name, name.replace("-", "'s ")) for name in values])
    if found.shares:
        axis.axvline(1, color="black", linestyle="--", linewidth=1)
        axis.set(xlabel="share of the gap to a fresh agent")
        about = "what alone is made fresh"
    else:
        axis.set(xlabel=f"mean {in_words(attributed.measure)}")
        about = "no sure gap; what is made fresh"
    axis.set_title(f"{about}, {attributed.where}", fontsize="medium")
