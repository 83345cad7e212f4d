"""The state of a method that does not say what its state is: its attributes, as tensors by name.

Every tensor is saved, and with it numbers, text, None, torch generators, and lists, tuples and dicts of all these. A
module is saved unless it belongs to the network. References to the network (layers, its parameters, the optimizer) and
functions are not state.
"""

from __future__ import annotations

import ast
import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neoteny.plasticity.layers import Computed, Layer, Part
from neoteny.plasticity.notice import warn

#: What is never state: references to the network and its training, and code.
REFERENCES = (
    *(Layer, Part, Computed, torch.optim.Optimizer, RemovableHandle),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, type),
)
#: Values that are saved in one tensor, whose name ends in the kind: ``count:int``.
PLAIN: dict[str, type] = {kind.__name__: kind for kind in (bool, int, float)}
KINDS = (*PLAIN, "none", "str", "generator", "list", "tuple", "dict", "module")


def prefix(method: Any) -> str:
    """What the names of a method's own state begin with."""
    return f"{type(method).__name__}."


def own_state(method: Any) -> dict[str, Tensor]:
    """The attributes of a method as tensors, by name: ``MyMethod.mean``, ``MyMethod.means['fc.0']``.

    Fields that this package's classes declare are left out: these classes save them. Tensors are live, all else is
    copied. Warns of attributes that cannot be saved, unless they are settings.
    """
    optimizer = getattr(method, "optimizer", None)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer else set()
    settings = {f.name for f in dataclasses.fields(method) if f.init}
    found: dict[str, Tensor] = {}
    lost: list[str] = []
    for name, value in _attributes(method).items():
        unsaved: list[str] = []
        found |= _flatten(value, name, trained, unsaved)
        lost += [] if name in settings else unsaved
    if lost:
        warn(
            f"{method.name}: {', '.join(lost)} cannot be saved, so a resumed run will differ; keep tensors, numbers, "
            "text, torch.Generator, or lists and dicts of these, or override state()"
        )
    return {prefix(method) + name: tensor for name, tensor in found.items()}


def restore_(method: Any, state: Mapping[str, Tensor]) -> None:
    """Set the attributes of a method from the output of :func:`own_state`. Tensors that exist are written in place.

    Raises:
        ValueError: a module was saved that this method does not have.
    """
    mine = {name.removeprefix(prefix(method)): t for name, t in state.items() if name.startswith(prefix(method))}
    device = method.layers[0].weight.device if method.layers else torch.device("cpu")
    for name in dict.fromkeys(key.partition("[")[0].partition(":")[0] for key in mine):
        setattr(method, name, _restore(getattr(method, name, None), name, mine, device))


def _attributes(method: Any) -> dict[str, Any]:
    """What a method holds besides the fields declared by classes of this package."""
    package = __name__.rpartition(".")[0]
    ours = [cls for cls in type(method).__mro__ if cls.__module__.startswith(package) and dataclasses.is_dataclass(cls)]
    declared = {f.name for cls in ours for f in dataclasses.fields(cls)}
    return {name: value for name, value in vars(method).items() if name not in declared}


def _flatten(value: Any, key: str, trained: set[int], lost: list[str]) -> dict[str, Tensor]:
    """``value`` as tensors whose names begin with ``key``. Adds to ``lost`` what it cannot express."""
    match value:
        case Tensor():
            return {} if id(value) in trained else {key: value.detach()}
        case bool() | int() | float() if not isinstance(value, int) or abs(value) < 2**63:
            kind = next(name for name, cls in PLAIN.items() if isinstance(value, cls))
            return {f"{key}:{kind}": torch.tensor(value, dtype=torch.float64 if kind == "float" else None)}
        case None:
            return {f"{key}:none": torch.zeros(())}
        case str():
            return {f"{key}:str": _letters(value)}
        case torch.Generator():
            return {f"{key}:generator": value.get_state()}
        case nn.Module():
            if any(id(p) in trained for p in value.parameters()):
                return {}
            parts = {f"{key}[{name!r}]": t.detach() for name, t in value.state_dict().items()}
            return {f"{key}:module": torch.zeros(()), **parts}
        case list() | tuple() if type(value) in (list, tuple):
            header, items = torch.tensor(len(value)), dict(enumerate(value))
        case dict() if all(k is None or isinstance(k, str | int | float) for k in value):
            header, items = _letters(repr(list(value))), value
        case _:
            if not isinstance(value, REFERENCES):
                lost.append(f"{key} ({type(value).__name__})")
            return {}
    kind = next(cls.__name__ for cls in (list, tuple, dict) if isinstance(value, cls))
    found = {f"{key}:{kind}": header}
    for k, item in items.items():
        found |= _flatten(item, f"{key}[{k!r}]", trained, lost)
    return found


def _restore(mine: Any, key: str, state: Mapping[str, Tensor], device: torch.device) -> Any:
    """The inverse of :func:`_flatten`; ``mine`` is what is there already, and stays where nothing was saved."""
    if key in state:
        if isinstance(mine, Tensor) and (mine.shape, mine.dtype) == (state[key].shape, state[key].dtype):
            return mine.copy_(state[key])
        return state[key].clone().to(mine.device if isinstance(mine, Tensor) else device)
    kind = next((kind for kind in KINDS if f"{key}:{kind}" in state), "")
    saved = state.get(f"{key}:{kind}", torch.zeros(()))
    match kind:
        case "":
            return mine
        case "none":
            return None
        case "str":
            return _text(saved)
        case "generator":
            generator = mine if isinstance(mine, torch.Generator) else torch.Generator()
            return generator.set_state(saved.cpu())
        case "module":
            if not isinstance(mine, nn.Module):
                raise ValueError(f"{key}: a module was saved and there is none; create it in setup()")
            mine.load_state_dict({name: state[f"{key}[{name!r}]"] for name in mine.state_dict()})
            return mine
        case "dict":
            there = mine if isinstance(mine, dict) else {}
            items = {k: _restore(there.get(k), f"{key}[{k!r}]", state, device) for k in ast.literal_eval(_text(saved))}
            there.clear()
            there.update(items)
            return there
        case "list" | "tuple":
            old = list(mine) if isinstance(mine, list | tuple) else []
            old += [None] * (int(saved) - len(old))
            made = [_restore(old[i], f"{key}[{i}]", state, device) for i in range(int(saved))]
            if isinstance(mine, list):
                mine[:] = made
            return mine if isinstance(mine, list) else made if kind == "list" else tuple(made)
    return PLAIN[kind](saved.item())


def _letters(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _text(letters: Tensor) -> str:
    return bytes(letters.tolist()).decode()
