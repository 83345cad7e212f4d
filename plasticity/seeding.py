"""Seeds for methods and optimizers."""

from __future__ import annotations

import hashlib


def own_seed(owner: str, seed: int) -> int:
    """A seed that depends on ``owner`` and ``seed``, and differs between owners.

    With ``seed`` itself, a reset would draw the same weights that the network was initialized with.
    """
    return int.from_bytes(hashlib.blake2b(f"{owner}:{seed}".encode(), digest_size=7).digest(), "big")
