"""What a file may make this process do: no more than its own size warrants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neoteny.agents.checkpoint import CheckpointError

#: Weights that may be made for each one that the file has: temporaries of initialization, copies that methods keep.
WEIGHTS = 64
#: And tensors. Agents need less than a quarter of both (tests/agents/test_mutated_checkpoints.py).
TENSORS = 60
#: And so many weights and tensors besides.
SPARE = (100_000, 500)


class Bounded(TorchDispatchMode):
    """Within it, tensors may be made in proportion to those in ``modules``: settings alone cannot ask for more.

    Raises:
        CheckpointError: more are made.
    """

    def __init__(self, modules: Any):
        super().__init__()
        found = tensors_in(modules)
        self._weights = SPARE[0] + WEIGHTS * sum(tensor.numel() for tensor in found)
        self._tensors = SPARE[1] + TENSORS * len(found)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not any(isinstance(arg, Tensor) for arg in args):
            self._weights -= made.numel()
            self._tensors -= 1
            if min(self._weights, self._tensors) < 0:
                raise CheckpointError("its settings ask for larger networks than it has weights of")
        return made


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested data."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]
