"""Which layers of a network feed which, read off a symbolic pass: no data, and nothing of the network is touched."""

from __future__ import annotations

import copy
import inspect
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

#: Activations of hidden layers, as modules and as functions: what passes through one is no output as it stands.
HIDDEN = {"celu", "elu", "gelu", "hardswish", "leaky_relu", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "silu"}
#: What else changes more than the shape, offset and scale of an output.
BENT = HIDDEN | {
    "batch_norm", "cos", "group_norm", "hardtanh", "instance_norm", "layer_norm", "log_softmax", "normalize",
    "rms_norm", "sigmoid", "sin", "softmax", "softplus", "softsign", "tanh",
}  # fmt: skip
#: Modules that hand on what they get, if it comes through them at all.
PLAIN = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
#: Functions that multiply by a matrix, which may be a layer's weight.
APPLY = ("addmm", "baddbmm", "bilinear", "bmm", "conv", "einsum", "embedding", "linear", "matmul", "mm", "tensordot")
#: Functions that put values side by side.
JOIN = ("cat", "concat", "concatenate", "hstack", "stack", "vstack")
#: What is read of a tensor but its values.
SHAPES = ("device", "dim", "dtype", "ndim", "numel", "shape", "size")


@dataclass(frozen=True)
class Pass:
    """What a pass through a module shows.

    Attributes:
        seen: the layers it went through, by dotted name within the module.
        whole: those of ``seen`` that were called, with all that is inside them, not only their weights used.
        starts: those that take the module's input.
        ends: those whose output no other layer takes, or that return it as it stands.
        closed: those of ``ends`` whose output only leaves through an activation of hidden layers.
        dark: those of ``seen`` that could not be looked into: modules with layers inside.
    """

    seen: frozenset[str]
    whole: frozenset[str]
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    closed: frozenset[str]
    dark: frozenset[str]


def trace(module: nn.Module, owners: Collection[nn.Module]) -> Pass | None:
    """A pass through ``module``; None where its ``forward`` cannot be followed without data.

    Args:
        module: has a ``forward`` of its own or, like a container, none.
        owners: the modules to be taken as one layer each. So are torch's own modules, other than ``Sequential``.
    """
    for with_defaults in (True, False):
        try:
            with _nothing_else_changes():
                twin, same = _twin(module)
                tracer = _Tracer({same[id(m)] for m in owners if id(m) in same})
                return _Graph(tracer.trace(twin, _defaults(twin) if with_defaults else None), twin, tracer).read()
        except Exception:  # whatever a stranger's code raises when it meets no data
            continue
    return None


def _defaults(module: nn.Module) -> dict[str, Any]:
    """The arguments of ``forward`` that need not be given."""
    taken = inspect.signature(type(module).forward).parameters.values()
    return {p.name: p.default for p in taken if p.default is not p.empty}


@contextmanager
def _nothing_else_changes() -> Iterator[None]:
    """Restores all random states and the gradient mode, and silences warnings."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    numpy = sys.modules.get("numpy")
    state, numpys = random.getstate(), numpy.random.get_state() if numpy else None
    with torch.random.fork_rng(devices), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(state)
            if numpy:
                numpy.random.set_state(numpys)


def _twin(module: nn.Module) -> tuple[nn.Module, dict[int, nn.Module]]:
    """A copy without weights, hooks and optimizers, and its modules by the ids of their originals."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.optim.Optimizer):
                memo[id(value)] = object()
            elif isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif name.endswith("_hooks") or "_hooks_" in name:
                memo[id(value)] = OrderedDict()
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    twin = copy.deepcopy(module, memo)
    return twin, {id(part): memo[id(part)] for part in module.modules()}


class _Tracer(fx.Tracer):
    """Follows ``forward`` without hooks. What cannot be followed becomes one node."""

    def __init__(self, owners: set[nn.Module]):
        super().__init__(param_shapes_constant=True)
        self.owners = owners

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str = "") -> bool:
        own = parametrize.type_before_parametrizations(m)
        torchs = own.__module__.startswith(("torch.nn.modules.", "torch.nn.utils."))
        return m in self.owners or (torchs and not issubclass(own, nn.Sequential))

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.submodule_paths is None or m not in self.submodule_paths:  # called by others while this pass goes on
            return forward(*args, **kwargs)
        if not self.is_leaf_module(m):
            try:
                return m.forward(*args, **kwargs)
            except Exception:  # then it is dark
                pass
        return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


class _Graph:
    """The nodes of a pass, and the layers among them.

    Attributes:
        layers: the layer that a node applies, by its name.
        dark: see :class:`Pass`.
    """

    def __init__(self, graph: fx.Graph, module: nn.Module, tracer: _Tracer):
        self.nodes, self.module = list(graph.nodes), module
        weights = {name for name, p in module.named_parameters() if p.ndim > 1}
        self.layers: dict[fx.Node, str] = {}
        self.dark: set[str] = set()
        held: dict[fx.Node, str] = {}  # values that are computed of weights alone, and whose
        for node in self.nodes:
            inputs, name = node.all_input_nodes, str(node.target)
            if node.op == "call_module" and self._has_matrix(name) and inputs:
                self.layers[node] = name
                if not tracer.is_leaf_module(module.get_submodule(name)):
                    self.dark.add(name)
            elif node.op == "call_module" and self._has_matrix(name):
                held[node] = _owner(name)
            elif node.op == "get_attr" and name in weights:
                held[node] = _owner(name.rpartition(".")[0])
            elif inputs and all(each in held for each in inputs):
                held[node] = held[inputs[0]]
            elif _name(node).startswith(APPLY) and (used := [held[each] for each in inputs if each in held]):
                self.layers[node] = used[0]

    def _has_matrix(self, name: str) -> bool:
        return any(p.ndim > 1 for p in self.module.get_submodule(name).parameters())

    def read(self) -> Pass:
        """What :class:`Pass` holds."""
        order = list(dict.fromkeys(self.layers.values()))
        starts = self._fed(self._walk(node for node in self.nodes if node.op == "placeholder"))
        ways = {name: self._way_out(name) for name in order}
        return Pass(
            seen=frozenset(order),
            whole=frozenset(name for node, name in self.layers.items() if node.op == "call_module"),
            starts=tuple(name for name in order if name in starts),
            ends=tuple(name for name in order if ways[name]),
            closed=frozenset(name for name in order if ways[name] == "closed"),
            dark=frozenset(self.dark),
        )

    def _way_out(self, name: str) -> Literal["", "open", "closed"]:
        """How the output of a layer leaves the module: not at all, as it may be or behind an activation."""
        mine = [node for node, of in self.layers.items() if of == name]
        reached = self._walk(mine)
        takers = {node for node in reached if self.layers.get(node, name) != name}
        beyond = takers | self._walk(takers, through=True)
        if takers and not _leaves(self._walk(mine, lambda node: self._is_bent(node) or _merges(node, beyond))):
            return ""
        returned = _leaves(reached) and not _leaves(self._walk(mine, lambda node: self._kind(node) in HIDDEN))
        return "closed" if returned else "open"

    def _walk(
        self, nodes: Iterable[fx.Node], stop: Callable[[fx.Node], bool] = lambda node: False, through: bool = False
    ) -> set[fx.Node]:
        """The nodes that values of ``nodes`` get to: not past a layer, unless ``through``, nor into where they stop."""
        reached: set[fx.Node] = set()
        todo = list(nodes)
        while todo:
            for user in todo.pop().users:
                if user in reached or _is_shape(user) or stop(user):
                    continue
                reached.add(user)
                if through or user not in self.layers:
                    todo.append(user)
        return reached

    def _fed(self, reached: set[fx.Node]) -> set[str]:
        return {self.layers[node] for node in reached if node in self.layers}

    def _kind(self, node: fx.Node) -> str:
        """The node's function, for modules by the name of the function that they stand for."""
        if node.op == "call_module":
            name = type(self.module.get_submodule(str(node.target))).__name__
            return {"LeakyReLU": "leaky_relu", "PReLU": "prelu"}.get(name, name.lower())
        return _name(node).rstrip("_")

    def _is_bent(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return node not in self.layers and not isinstance(self.module.get_submodule(str(node.target)), PLAIN)
        return self._kind(node) in BENT


def _merges(node: fx.Node, beyond: set[fx.Node]) -> bool:
    """Whether ``node`` adds to a value what further layers made of it, as a skip connection does."""
    joins = node.op == "output" or _name(node) in JOIN or len(node.all_input_nodes) == 1
    return not joins and any(each in beyond for each in node.all_input_nodes)


def _leaves(reached: set[fx.Node]) -> bool:
    return any(node.op == "output" for node in reached)


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target)) if node.op in ("call_function", "call_method") else ""


def _is_shape(node: fx.Node) -> bool:
    read = str(node.args[1]) if _name(node) == "getattr" else _name(node)
    return read in SHAPES


def _owner(name: str) -> str:
    return name.split(".parametrizations")[0] if ".parametrizations" in f".{name}" else name
