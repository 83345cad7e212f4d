"""The versions of Neoteny and of what it stands on."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

#: What the numbers of a run may depend on, and what a bug report should name.
PARTS = (
    *("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "minigrid", "ale-py", "envpool"),
    *("numpy", "scikit-learn"),
)


@cache
def versions() -> dict[str, str]:
    """The version of each part by its name; of those that are installed, when it is first asked for."""
    found = {part: _version(part) for part in PARTS}
    own = {"neoteny": _version("neoteny") + commit(), "python": platform.python_version()}
    return {part: version for part, version in (own | found).items() if version}


def _version(part: str) -> str:
    """Of an installed package; nothing, if it is none, as in a checkout that is used without installing it."""
    try:
        return metadata.version(part)
    except metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """In a checkout its commit, as ``" (1a2b3c4d5e6f)"``, with ``-dirty`` if files have been changed since."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return f" ({subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()})"
    except (OSError, subprocess.CalledProcessError):
        return ""
