"""Saving, restoring and resetting the running statistics of a ``VecNormalize``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

PARTS = ("obs_rms", "ret_rms")


def _parts(env: VecNormalize) -> dict[str, RunningMeanStd]:
    """The statistics by name; for Dict observations ``obs_rms.<key>``."""
    found: dict[str, RunningMeanStd] = {}
    for name in PARTS:
        value = getattr(env, name, None)
        if isinstance(value, RunningMeanStd):
            found[name] = value
        elif isinstance(value, Mapping):
            found |= {f"{name}.{key}": part for key, part in value.items()}
    return found


def statistics(env: VecNormalize) -> dict[str, Any]:
    """Mean, variance and count of everything ``env`` normalizes."""
    return {
        name: {"mean": np.array(part.mean), "var": np.array(part.var), "count": float(part.count)}
        for name, part in _parts(env).items()
    }


def restore(env: VecNormalize, state: Mapping[str, Any]) -> None:
    """Restore the output of :func:`statistics`, for everything ``env`` normalizes."""
    for name, part in _parts(env).items():
        if name in state:
            saved = state[name]
            part.mean, part.var, part.count = np.array(saved["mean"]), np.array(saved["var"]), saved["count"]


def reset(env: VecNormalize) -> None:
    """Reset the statistics to mean 0 and variance 1."""
    restore(env, {name: vars(RunningMeanStd(shape=part.mean.shape)) for name, part in _parts(env).items()})


def see_again(env: VecNormalize) -> Any:
    """Count the last observations in the statistics, and normalize them by these: as at a reset of ``env``."""
    seen = env.get_original_obs()
    for name, part in _parts(env).items() if env.training and env.norm_obs else ():
        kind, _, key = name.partition(".")
        if kind == "obs_rms":
            part.update(seen[key] if key else seen)  # type: ignore[arg-type]
    return env.normalize_obs(seen)
