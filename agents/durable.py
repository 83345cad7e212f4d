"""Files that a power cut leaves whole: what is put in place has reached the disk."""

from __future__ import annotations

import os
from pathlib import Path

_UMASK = os.umask(0)
os.umask(_UMASK)

#: What safetensors calls a file while it writes it.
SAFETENSORS = ".tmp??????"


def put_in_place(part: Path, path: Path) -> None:
    """Rename ``part`` to ``path``, once its bytes are on disk; the name is there too when this returns."""
    os.chmod(part, 0o666 & ~_UMASK)  # some writers make files that only their owner can read
    sync(part)
    os.replace(part, path)
    sync(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder in which none writes now: parts of files."""
    for pattern in ("*.part", SAFETENSORS):
        for part in folder.glob(pattern):
            part.unlink()


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
