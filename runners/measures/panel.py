"""The instruments that a run has chosen, and when they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from neoteny import configs
from neoteny.agents.attached import Attached
from neoteny.runners.measures.instruments import INSTRUMENTS, Look
from neoteny.runners.measures.switches import first_rollout

log = logging.getLogger(__name__)

#: What is measured once in each visit, when its first rollout has ended and before it is learned from, by the name that
#: ``--instruments`` takes. Given the look that begins there, and the steps of one environment since the visit began.
SWITCH_INSTRUMENTS: dict[str, Callable[[Look, int], Mapping[str, float]]] = {"switch": first_rollout}

#: Those that ``default`` stands for.
DEFAULT = (*INSTRUMENTS, "switch")


#: Those that a network has which is no agent's.
OF_NETWORKS = ("spectra", "units", "gradients", "updates")


def chosen(names: Sequence[str], all_of: Sequence[str] = DEFAULT) -> frozenset[str]:
    """The instruments that ``--instruments`` names: ``default``, ``none``, or some by their names.

    Args:
        names: as given.
        all_of: all that there are, which ``default`` stands for.

    Raises:
        ConfigError: there is no such instrument, or ``none`` stands beside others.
    """
    known = {"default": tuple(all_of), "none": (), **{name: (name,) for name in all_of}}
    found = [configs.choose("instruments", name, known) for name in names]
    if "none" in names and len(names) > 1:
        raise configs.ConfigError(f"none: it cannot stand beside others, got {' '.join(names)}")
    return frozenset(name for group in found for name in group)


class Panel:
    """Reads the chosen instruments. They leave the agent and all random states as they are.

    Args:
        names: of the instruments, see :func:`chosen`.
        seed: of the run: what is drawn depends on it and on the agent's step.
        all_of: see :func:`chosen`.

    Attributes:
        spectra: all singular values of each trained matrix at the last look, by the layer's name.
    """

    def __init__(self, names: Sequence[str], seed: int, all_of: Sequence[str] = DEFAULT):
        self.names, self.seed = chosen(names, all_of), seed
        self.spectra: Mapping[str, Tensor] = {}
        self._look: Look | None = None
        self._told: set[str] = set()

    @property
    def begun(self) -> bool:
        """Whether a look waits for the updates on a rollout."""
        return self._look is not None

    def forget(self) -> None:
        """A look that has begun will not be ended."""
        self._look = None

    def begin(self, agent: Attached) -> None:
        """A rollout has ended, and what follows are the updates on it: a look begins."""
        if self.names & INSTRUMENTS.keys():
            self._look = self._begin(agent)
            if "updates" in self.names:
                self._look.keep_weights()

    def end(self, agent: Attached) -> dict[str, float]:
        """The updates are done: what the instruments read, as ``group/name``."""
        look, self._look = self._look, None
        found: dict[str, float] = {}
        if look is not None:
            for name, instrument in INSTRUMENTS.items():
                if name in self.names:
                    found |= instrument(look)
            self.spectra = look.spectra
            self._tell(look)
        return found

    def at_switch(self, agent: Attached, steps: int) -> dict[str, float]:
        """The first rollout of a visit has ended: what is read of it.

        Args:
            agent: who learns.
            steps: of one environment since the visit began.
        """
        names = self.names & SWITCH_INSTRUMENTS.keys()
        if not names:
            return {}
        look = self._begin(agent)
        found = {key: value for name in sorted(names) for key, value in SWITCH_INSTRUMENTS[name](look, steps).items()}
        self._tell(look)
        return found

    def _begin(self, agent: Attached) -> Look:
        return Look.begin(agent, np.random.default_rng([self.seed, agent.num_timesteps]))

    def _tell(self, look: Look) -> None:
        """Say, once each, what is left out."""
        new = {what: why for what, why in look.left_out.items() if what not in self._told}
        self._told |= new.keys()
        if new:
            log.warning("Not measured: %s", "; ".join(f"{what} ({why})" for what, why in new.items()))
