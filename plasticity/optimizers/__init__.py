"""Optimizers that keep networks trainable, for any torch training loop."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import Optimizer

from neoteny.plasticity.optimizers.muon import Muon
from neoteny.plasticity.optimizers.trac import TRAC
from neoteny.plasticity.optimizers.upgd import UPGD

#: All optimizers by their name in YAML and on the command line.
OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "muon": Muon, "trac": TRAC, "upgd": UPGD}


@runtime_checkable
class Prepared(Protocol):
    """An optimizer that needs the network as well as its parameters. Our agents call :meth:`prepare` before its first
    step."""

    def prepare(self, module: nn.Module, *, seed: int, output_layers: Collection[str] | None = None) -> None:
        """``module`` contains the parameters this optimizer trains; ``seed`` is for its random draws;
        ``output_layers`` are the names of the module's output heads, or None where nobody has named them."""


__all__ = ["OPTIMIZERS", "TRAC", "UPGD", "Muon", "Prepared"]
