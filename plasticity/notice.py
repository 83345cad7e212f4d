"""Warnings that point to the line of the user's that led to them."""

from __future__ import annotations

import sys
import warnings

#: Code that is not the user's: the packages in between.
INSIDE = ("neoteny.", "torch.", "stable_baselines3.", "sb3_contrib.")


def warn(message: str) -> None:
    """Warn, with the innermost line outside of this package, torch and stable-baselines3 as its place."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
