"""One picture: learning task by task, the largest singular value, and what the loss sits in."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from neoteny.runners.measures import in_words
from neoteny.runners.reports.plots import curves, plain_numbers
from neoteny.runners.sweeps.explanation import Attributed, Explanation

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


def draw(this: Explanation, title: str, file: Path) -> None:
    """Write the picture: two panels, or three where something was attributed."""
    panels = 2 + (this.attributed is not None)
    figure, axes = plt.subplots(1, panels, figsize=(4.6 * panels, 4), layout="constrained")
    fresh = ["fresh agents"]
    curves(axes[0], {name: this.values(name) for name in this.runs}, f"mean {in_words(this.measure)}", fresh)
    axes[0].set_ylim(bottom=min(0, axes[0].get_ylim()[0]))
    axes[0].legend(frameon=False, fontsize="small")
    label = "largest singular value of a layer, at the task's end"
    curves(axes[1], {name: this.values(name, "spectral_norm_max") for name in this.runs}, label, fresh)
    axes[1].set_yscale("log")
    plain_numbers(axes[1].yaxis)
    if this.attributed is not None:
        bars(axes[2], this.attributed)
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
        about = "made fresh at the switch"
    else:
        axis.set(xlabel=f"mean {in_words(attributed.measure)}")
        about = "no sure gap; made fresh at the switch"
    axis.set_title(f"{about}\n{attributed.where}", fontsize="medium")
