"""The same on Weights & Biases, of a run with ``--wandb PROJECT``."""

from __future__ import annotations

import html
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Figure, Image, KVWriter
from torch import Tensor

from neoteny.configs import ConfigError

#: The file in a run's folder with the id that the run has on wandb.
ID = "wandb-id.txt"


class Mirror(KVWriter):
    """Writes what TensorBoard gets to a run on wandb: scalars, pictures, histograms, texts, and the settings.

    A run that goes on in its folder goes on under its id. Steps that wandb has already are not sent again: those
    between the last checkpoint and where the run was killed, whose numbers are the same.

    Args:
        project: on wandb.
        folder: of the run.
        plain: the run's settings.

    Raises:
        ConfigError: wandb does not begin: nobody is logged in, or it cannot be reached.
    """

    def __init__(self, project: str, folder: Path, plain: Mapping[str, Any]):
        import wandb

        self._wandb = wandb
        self._complete = False
        if not (file := folder / ID).exists():
            file.write_text(uuid.uuid4().hex[:8])
        try:
            self._run = wandb.init(
                project=project,
                id=file.read_text().strip(),
                resume="allow",
                dir=folder,
                name="/".join(folder.parts[-3:]),
                group="/".join(folder.parts[-3:-1]),
                settings=wandb.Settings(console="off"),
            )
            self._run.config.update(dict(plain), allow_val_change=True)
        except (wandb.errors.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"--wandb: {project!r} cannot be written to: {reason} (wandb login, or WANDB_MODE=offline)"
            ) from error

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """stable-baselines3's logger writes here."""
        if step < self._run.step:
            return
        shown = {key: value for key, value in key_values.items() if "tensorboard" not in (key_excluded[key] or ())}
        theirs = {key: self._as_theirs(value) for key, value in shown.items()}
        self._run.log({key: value for key, value in theirs.items() if value is not None}, step=step)

    def _as_theirs(self, value: Any) -> Any:
        """A value as wandb takes it; None, if it is of none of the kinds that are mirrored."""
        if isinstance(value, (Tensor, np.ndarray)):
            return self._wandb.Histogram(np.asarray(value).tolist())
        if isinstance(value, Image):
            return self._wandb.Image(np.asarray(value.image))
        if isinstance(value, Figure):
            return self._wandb.Image(value.figure)
        if isinstance(value, str):
            return self._wandb.Html(f"<pre>{html.escape(value)}</pre>")
        return value if isinstance(value, np.ScalarType) else None

    def finish(self) -> None:
        """The run is complete."""
        self._complete = True

    def close(self) -> None:
        self._run.finish(exit_code=0 if self._complete else 1)
