"""Registers environments of other packages on demand, and names the extra or the system package they need."""

from __future__ import annotations

from importlib import import_module

import gymnasium as gym

from neoteny.configs import ConfigError

#: By id prefix: the module that registers the environments, and the extra that installs its dependencies.
FAMILIES = {
    "ALE/": ("ale_py", ""),
    "MinAtar/": ("neoteny.envs.suites.minatar", "minatar"),
    "Meta-World/": ("neoteny.envs.suites.metaworld", "metaworld"),
    "Vizdoom/": ("neoteny.envs.suites.vizdoom", "vizdoom"),
}

#: The extra that Gymnasium's own environments need, by a substring of their entry point.
GYMNASIUM = {"mujoco": "mujoco"}

#: The system packages (of Debian and Ubuntu) that environments need, by a word of the error that misses them: Procgen
#: in EnvPool draws with Qt.
SYSTEM = {"Qt": "libqt5gui5"}


def need(env_id: str, extra: str) -> str:
    """The error message for an environment whose extra is not installed."""
    return f"env: {env_id!r} needs the extra {extra!r}: pip install 'neoteny[{extra}]'"


def prepare(env_id: str) -> None:
    """Register the environment family of ``env_id``, if it is not registered by default.

    Raises:
        ConfigError: the extra that it needs is not installed.
    """
    for beginning, (module, extra) in FAMILIES.items():
        if env_id.startswith(beginning):
            try:
                import_module(module)
            except ImportError as error:
                missing = f"env: {env_id!r} needs the package {error.name!r}, which is not installed"
                raise ConfigError(need(env_id, extra) if extra else missing) from error


def explain(env_id: str, error: Exception) -> str:
    """The error message if a dependency of ``env_id`` is not installed: a package or a library of the system."""
    spec = gym.registry.get(env_id.rpartition(":")[2])
    for part, extra in GYMNASIUM.items():
        if part in str(spec.entry_point if spec else ""):
            return need(env_id, extra)
    for word, package in SYSTEM.items():
        if word in str(error):
            return f"env: {env_id!r} needs the system package {package!r}: apt-get install {package}"
    return f"env: {env_id} cannot be made: {error}"
