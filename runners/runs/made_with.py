"""What the numbers of a run were computed with: versions and processor, from which step on.

The same configuration and seed give the same numbers with the same parts. On another processor, or with another
version of torch, sums are taken in another order, and what is learned from them drifts apart.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neoteny.configs import ConfigError, dump_yaml, read_yaml
from neoteny.runners.runs.tables import write_text
from neoteny.versions import versions

FILE = "made_with.yaml"

Parts = dict[str, str]


def parts(device: torch.device) -> Parts:
    """What numbers are computed with here: versions, the processor with the instructions torch takes, the device."""
    return {
        **versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def made_with(folder: Path) -> dict[int, Parts]:
    """What a run's file says: what it was made with, by the step from which on.

    Empty where there is no such file, as in runs of earlier versions, or none that can be read.
    """
    try:
        found: dict[Any, Any] = read_yaml(folder / FILE)
    except (ConfigError, UnicodeDecodeError):
        return {}
    return {step: known for step, known in found.items() if isinstance(step, int) and isinstance(known, dict)}


def goes_on(folder: Path, step: int, now: Parts) -> str:
    """Write down that a run goes on from ``step`` with the parts ``now``.

    Returns:
        What is different from what it was made with until then, in words; nothing, if it is the same.
    """
    recorded = made_with(folder)
    kept = {begun: known for begun, known in recorded.items() if begun < step}
    last = list(kept.values())[-1] if kept else now
    if not kept or last != now:
        kept[step] = now
    if kept != recorded:
        write_text(folder / FILE, dump_yaml(kept))
    return "; ".join(f"{name} was {last.get(name)}, is {now.get(name)}" for name in differing(last, now))


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The names of the parts that are not the same."""
    return [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
