"""Environments of other packages: registering them when they are asked for, and saying which extra they need."""

from __future__ import annotations

from importlib import import_module

import gymnasium as gym

from neoteny.configs import ConfigError

#: The module that registers the ids with this beginning, and the extra that installs what it needs.
FAMILIES = {
    "ALE/": ("ale_py", ""),
    "MinAtar/": ("neoteny.envs.suites.minatar", "minatar"),
    "Meta-World/": ("neoteny.envs.suites.metaworld", "metaworld"),
}

#: The extra that Gymnasium's own environments need, by a part of their entry point.
GYMNASIUM = {"mujoco": "mujoco"}


def need(env_id: str, extra: str) -> str:
    """The message for an environment whose extra is not installed."""
    return f"env: {env_id!r} needs the extra {extra!r}: pip install 'neoteny[{extra}]'"


def prepare(env_id: str) -> None:
    """Register the environments that ``env_id`` is one of, where that has to be asked for.

    Raises:
        ConfigError: the extra that they need is not installed.
    """
    for beginning, (module, extra) in FAMILIES.items():
        if env_id.startswith(beginning):
            try:
                import_module(module)
            except ImportError as error:
                missing = f"env: {env_id!r} needs the package {error.name!r}, which is not installed"
                raise ConfigError(need(env_id, extra) if extra else missing) from error


def explain(env_id: str, error: Exception) -> str:
    """What to say when Gymnasium misses a dependency of ``env_id``."""
    spec = gym.registry.get(env_id.rpartition(":")[2])
    for part, extra in GYMNASIUM.items():
        if part in str(spec.entry_point if spec else ""):
            return need(env_id, extra)
    return f"env: {env_id} cannot be made: {error}"
