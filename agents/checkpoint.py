"""Checkpoints of agents: tensors and JSON in one safetensors file, without pickle.

Loading a file cannot run code from it. A class named in the file is looked up in modules that are already imported, and
must be one of the allowed kinds.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from stable_baselines3.common.buffers import BaseBuffer
from torch import Tensor, nn

from neoteny.agents.durable import put_in_place
from neoteny.plasticity import Compose, Method

#: Base classes of what a file may name: networks and their parts, optimizers, buffers, methods.
CLASSES = (nn.Module, torch.optim.Optimizer, BaseBuffer, Method)


#: Metadata key of the JSON. Files of 0.1.0 have only the first word as key; the classes they name no longer exist.
FORMAT = "neoteny 2"


class CheckpointError(ValueError):
    """An agent cannot be saved to or loaded from a file. The message says why."""


def encode(value: Any, tensors: dict[str, Tensor], key: str) -> Any:
    """``value`` as JSON. Its tensors are moved into ``tensors``, with names that start with ``key``.

    Raises:
        CheckpointError: the value, or something in it, is not data (for example, a function).
    """
    match value:
        case bool() | int() | float() | str() | None:
            return value
        case np.bool() | np.integer() | np.floating():
            return value.item()
        case Tensor():
            while key in tensors:  # {"a": {"b.c": …}} and {"a.b": {"c": …}} are not the same
                key += "'"
            tensors[key] = value.detach().cpu().contiguous().clone()
            return {"tensor": key}
        case np.ndarray() if value.dtype.kind in "biuf" and value.dtype.isnative and value.itemsize <= 8:
            return {"array": encode(torch.from_numpy(value.copy(order="C")), tensors, key)["tensor"]}
        case list() | tuple():
            items = [encode(item, tensors, f"{key}.{i}") for i, item in enumerate(value)]
            return {"tuple": items} if isinstance(value, tuple) else items
        case spaces.Space():  # before Mapping, since a Dict space is one too
            return {"space": _encode_space(value, tensors, key)}
        case Mapping():
            pairs = [[encode(k, tensors, key), encode(item, tensors, f"{key}.{k}")] for k, item in value.items()]
            return {"map": pairs}
        case Compose():
            return {"compose": [encode(m, tensors, key) for m in value.methods]}
        case Method():
            settings = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            return {"method": _name(type(value)), "settings": encode(settings, tensors, key)}
        case type() if issubclass(value, CLASSES):
            return {"class": _name(value)}
        case torch.device():
            return str(value)
    raise CheckpointError(f"{key}: {value!r} is not data that can be written")


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of :func:`encode`.

    Raises:
        CheckpointError: a named class is not imported, or is not of an allowed kind.
    """
    match value:
        case list():
            return [decode(item, tensors) for item in value]
        case {"tensor": key}:
            return tensors[key]
        case {"array": key}:
            return tensors[key].numpy()
        case {"tuple": items}:
            return tuple(decode(item, tensors) for item in items)
        case {"map": pairs}:
            return {decode(k, tensors): decode(item, tensors) for k, item in pairs}
        case {"compose": methods}:
            return Compose(methods=tuple(decode(m, tensors) for m in methods))
        case {"method": name, "settings": settings}:
            return _find(name, (Method,))(**decode(settings, tensors))
        case {"class": name}:
            return _find(name, CLASSES)
        case {"space": space}:
            return _decode_space(space, tensors)
    return value


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find(name: str, kinds: tuple[type, ...]) -> type:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise CheckpointError(f"the file needs {name}; import {module} before loading, if you trust it")
    return found


def _encode_space(space: spaces.Space[Any], tensors: dict[str, Tensor], key: str) -> Any:
    match space:
        case spaces.Box():
            bounds = {"low": space.low, "high": space.high}
            return {"box": encode(bounds, tensors, key), "dtype": str(space.dtype)}
        case spaces.Discrete():
            return {"discrete": [int(space.n), int(space.start)], "dtype": str(space.dtype)}
        case spaces.MultiDiscrete():
            return {"multi-discrete": [space.nvec.tolist(), space.start.tolist()], "dtype": str(space.dtype)}
        case spaces.MultiBinary():
            return {"multi-binary": space.n}
        case spaces.Dict():
            return {"dict": {k: _encode_space(s, tensors, f"{key}.{k}") for k, s in space.spaces.items()}}
    raise CheckpointError(f"{key}: a space of type {type(space).__name__} cannot be written")


def _decode_space(space: Any, tensors: Mapping[str, Tensor]) -> spaces.Space[Any]:
    match space:
        case {"box": bounds, "dtype": dtype}:
            return spaces.Box(**decode(bounds, tensors), dtype=np.dtype(dtype).type)
        case {"discrete": [n, start], "dtype": dtype}:
            return spaces.Discrete(n, start=start, dtype=np.dtype(dtype).type)
        case {"multi-discrete": [nvec, start], "dtype": dtype}:
            return spaces.MultiDiscrete(nvec, start=start, dtype=np.dtype(dtype).type)
        case {"multi-binary": n}:
            return spaces.MultiBinary(n)
        case {"dict": parts}:
            return spaces.Dict([(k, _decode_space(s, tensors)) for k, s in parts.items()])  # a dict would be sorted
    raise CheckpointError(f"unknown space {space!r}")


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` (nested data with tensors) to ``path``: whole and on disk, or not at all."""
    tensors: dict[str, Tensor] = {}
    plain = {key: encode(value, tensors, key) for key, value in record.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={FORMAT: json.dumps(plain)})
    put_in_place(part, path)


def read(path: Path, leave: Collection[str] = ()) -> dict[str, Any]:
    """Read a record written by :func:`write`, but for the entries to ``leave``, whose tensors stay on disk.

    Raises:
        CheckpointError: the file is missing, damaged, or not a saved agent.
    """
    try:
        with safe_open(path, "pt") as file:
            written = file.metadata() or {}
            if FORMAT not in written and FORMAT.split()[0] in written:
                raise CheckpointError(
                    "this agent was saved by Neoteny 0.1, which this version cannot load; train it anew"
                )
            plain = {key: value for key, value in json.loads(written[FORMAT]).items() if key not in leave}
            kept = [key for key in file.keys() if key.partition(".")[0] not in leave]  # noqa: SIM118
            tensors = {key: file.get_tensor(key) for key in kept}
        return {key: decode(value, tensors) for key, value in plain.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (
        OSError,
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CheckpointError(f"{path}: not a saved agent ({error})") from error
