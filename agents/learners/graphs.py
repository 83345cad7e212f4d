"""Updates recorded as CUDA graphs: on a GPU most of a small update is the launching of its operations, one by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

#: What has to be done before an update goes on; and its result, with the last of these.
Pause = tuple[Callable[[], None] | None, Tensor | None]
#: So many recordings are kept: minibatches come in two sizes.
MOST = 4


class Recorded:
    """An update whose operations are recorded once, and from then on launched together.

    The first call with tensors of some shapes computes as usual, the second records. Optimizers step between the parts
    of a recording, so their hooks run as ever. On other devices, and where something cannot be recorded, as it waits
    for the device, every call computes as usual.

    Args:
        update: computes, and yields wherever something has to be done outside of the recording, at the end at least.
            Its arguments are (nested) tensors, which it reads where the recording has them, and settings, for whose
            values it is recorded anew.
        device: where it computes.
    """

    def __init__(self, update: Callable[..., Iterator[Pause]], device: torch.device):
        self._update = update
        self._recordings: dict[Hashable, Recording | None] = {}
        self._can = device.type == "cuda"

    def __call__(self, *arguments: Any) -> Tensor:
        if not self._can:
            return _finish(self._update(*arguments))
        leaves, shape = _pytree.tree_flatten(arguments)
        key = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        if key not in self._recordings:
            self._recordings[key] = None
            if len(self._recordings) > MOST:
                del self._recordings[next(iter(self._recordings))]
            return _finish(self._update(*arguments))
        recording = self._recordings[key]
        if recording is None:
            copies = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            held = [leaf for leaf in copies if isinstance(leaf, Tensor)]
            try:
                recording = Recording(self._update(*_pytree.tree_unflatten(copies, shape)), held)
            except RuntimeError:  # nothing has been computed
                self._can = False
                generator = torch.cuda.default_generators[held[0].get_device()]
                generator.graphsafe_set_state(generator.clone_state())  # the old one takes the recording to go on
                return _finish(self._update(*arguments))
            self._recordings[key] = recording
        return recording([leaf for leaf in leaves if isinstance(leaf, Tensor)])


class Recording:
    """The parts of an update as CUDA graphs.

    Args:
        update: is recorded, not computed.
        inputs: the tensors that it reads.

    Raises:
        RuntimeError: it waits for the device.
    """

    def __init__(self, update: Iterator[Pause], inputs: list[Tensor]):
        self._inputs = inputs
        self._parts: list[tuple[torch.cuda.CUDAGraph, Callable[[], None] | None]] = []
        result: Tensor | None = None
        while result is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                between, result = next(update)
            self._parts.append((graph, between))
        self._result = result

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        """Compute, with inputs of the same shapes."""
        torch._foreach_copy_(self._inputs, inputs)
        for graph, between in self._parts:
            graph.replay()
            if between is not None:
                between()
        return self._result.clone()


def _finish(update: Iterator[Pause]) -> Tensor:
    """Compute as usual."""
    for between, result in update:
        if between is not None:
            between()
        if result is not None:
            return result
    raise AssertionError("an update yields its result")
