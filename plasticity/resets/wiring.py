"""Finds which layers feed which, from the autograd graphs of normal training passes.

Names and widths are not used: of two parallel hidden layers of 64 units, each feeds its own successor only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neoteny.plasticity.method import Removable
from neoteny.plasticity.resets.graph import Graph, Place, Source, Tag
from neoteny.plasticity.resets.link import Link, is_plain, unit_axis
from neoteny.plasticity.views import MATRICES, NORMS

#: Modules of which each output belongs to the input at the same place.
THROUGH = (*NORMS, nn.PReLU, nn.Softsign, nn.AlphaDropout, nn.FeatureAlphaDropout)

#: Why a layer's units are left alone, although nothing is odd about it.
OUTPUT, FROZEN, NOT_SEEN = "output", "frozen", "not seen in a training pass"


class Wiring:
    """The routes of units between the layers of a network, as seen in its training passes so far.

    Each layer's forward hook compares the operations before its input with those seen before. A new route is followed
    at once, so no graph is kept. Only passes of the network itself (no copies) in training mode with gradients enabled
    count.

    Attributes:
        links: by layer, where its units enter others, in the order of first use.
        problems: by layer, why its units cannot be told apart, or their outgoing weights not be found.
        successors: by layer or other module with parameters, the names of those that it feeds directly.
        into: by layer, those with links to it.
        changes: how many new routes were found.
    """

    def __init__(self, module: nn.Module, on_input: Callable[[str, Tensor], None]):
        self.links: dict[str, list[Link]] = {}
        self.problems: dict[str, str] = {}
        self.successors: dict[str, dict[str, None]] = {}
        self.into: dict[str, dict[str, None]] = {}
        self.changes, self._late = 0, False
        self.modules: dict[str, nn.Module] = {}
        self._norm_users: dict[str, dict[str, None]] = {}
        self._shown: dict[str, None] = {}
        self._bare: dict[str, list[tuple[int, int]]] = {}
        self._tied: dict[int, str] = {}
        self._root, self._on_input = module, on_input
        self._graph, self._routes = Graph(), set[tuple[Any, ...]]()

    def connect(self) -> list[Removable]:
        """Hook the modules that have parameters of their own, and the network's output."""
        on_end = self._hook(self._root, "", self._end)
        hooks: list[Removable] = [self._root.register_forward_hook(on_end, with_kwargs=True)]
        names: dict[int, str] = {}  # one name for a weight that two modules share
        for name, child in self._root.named_modules():
            if ".parametrizations." in f".{name}.":
                continue
            if isinstance(child, nn.MultiheadAttention):
                self.problems[f"{name}.out_proj".lstrip(".")] = f"part of {_described(name, child)}"
            if not child._parameters and not isinstance(child, THROUGH):
                continue
            on_call: Callable[..., None] = self._through
            if not is_plain(child):
                self._tied |= {id(p): _described(name, child) for p in child._parameters.values() if p is not None}
            if not isinstance(child, THROUGH):
                on_call = self._layer if is_plain(child) else self._other
                name = names.setdefault(id(child.weight), name) if is_plain(child) else name
                self.modules.setdefault(name, child)
            hooks.append(child.register_forward_hook(self._hook(child, name, on_call), with_kwargs=True))
        return hooks

    def _hook(self, child: nn.Module, name: str, on_call: Callable[..., None]) -> Callable[..., None]:
        """A closure over one module: copies of the network copy the hooks, which then do nothing."""

        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if module.training and torch.is_grad_enabled() and module is child and not torch.compiler.is_compiling():
                on_call(child, name, args, kwargs, output)

        return hook

    def _layer(self, child: nn.Module, name: str, args: Any, kwargs: Any, output: Any) -> None:
        inputs = args[0] if args else kwargs.get("input")
        if not isinstance(inputs, Tensor) or not isinstance(output, Tensor):
            return
        if self._is_new(name, inputs) or (inputs.grad_fn is None and name in self.into):
            axis = unit_axis(child, inputs.ndim)
            place = Place(inputs.grad_fn, inputs.output_nr, axis, 0, inputs.shape[axis])
            self._record(name, child, self._graph.sources(place))
        if output.grad_fn is not None and name not in self.successors:
            self.successors[name] = {}
            self.changes += 1
        self._graph.tag(output, Tag(name))
        self._on_input(name, inputs)

    def _through(self, _: nn.Module, name: str, args: Any, kwargs: Any, output: Any) -> None:
        inputs = args[0] if args else kwargs.get("input")
        if isinstance(output, Tensor) and isinstance(inputs, Tensor) and output.grad_fn not in (None, inputs.grad_fn):
            self._graph.tag(output, Tag(name, True, (inputs.grad_fn, inputs.output_nr)))

    def _other(self, child: nn.Module, name: str, args: Any, kwargs: Any, output: Any) -> None:
        """Any other module with parameters of its own: layers before it have outgoing weights that are not known."""
        for given in tensors((args, kwargs)):
            if given.grad_fn is not None and self._is_new(name, given):
                for source in self._graph.before([given.grad_fn]):
                    self.successors.setdefault(source, {})[name] = None
                    self.problems.setdefault(source, f"feeds {_described(name, child)}")
        inner = not isinstance(child, nn.MultiheadAttention) and any(is_plain(module) for module in child.modules())
        if not inner:  # else its layers are called one by one
            self.successors.setdefault(name, {})
            for result in tensors(output):
                self._graph.tag(result, Tag(name))

    def _end(self, _: nn.Module, __: str, ___: Any, ____: Any, output: Any) -> None:
        for result in tensors(output):
            if result.grad_fn is not None and self._is_new("", result):
                for source in self._graph.before([result.grad_fn]):
                    self._shown[source] = None

    def _is_new(self, name: str, inputs: Tensor) -> bool:
        route = (name, self._graph.signature(inputs.grad_fn))
        if route in self._routes:
            return False
        self._routes.add(route)
        self.changes += 1
        return True

    def _record(self, name: str, child: nn.Module, found: list[Source]) -> None:
        """Keep where the inputs of layer ``name`` come from in one pass."""
        known = [(producer, link) for producer in self.into.get(name, ()) for link in self._between(producer, name)]
        for source in found:
            for norm in source.norms:
                self._norm_users.setdefault(norm, {})[source.name] = None
            if source.name:
                self.successors[source.name][name] = None
            else:
                self._bare.setdefault(name, []).append((source.offset, source.span))
        for source, link in [(source, self._link(source, name, child)) for source in found]:
            self._find_shared(source, link, name, known)

    def _link(self, source: Source, name: str, consumer: nn.Module) -> Link | None:
        """How the units of a layer enter ``consumer``; None, and a problem, if that cannot be determined."""
        producer = self.modules.get(source.name)
        if not source.name or producer is None or not is_plain(producer):
            return None
        units = len(producer.weight)  # type: ignore[arg-type]
        problem = source.problem
        if not problem and (source.span != units * source.repeat or source.axis != unit_axis(producer, 0)):
            problem = f"reordered before {name}"
        if not problem and getattr(consumer, "groups", 1) != 1:
            problem = f"feeds {name} (a grouped convolution)"
        if problem:
            self.problems.setdefault(source.name, problem)
            return None
        link = Link(name, consumer, units, source.offset, source.repeat)
        if link not in self.links.get(source.name, ()):
            self._late |= source.name not in self.links and name in self.links
            self.links.setdefault(source.name, []).append(link)
            self.into.setdefault(name, {})[source.name] = None
            if any(link.overlaps(*bare) for bare in self._bare.get(name, ())):
                self.problems.setdefault(source.name, f"shares weights of {name} with other inputs")
        return link

    def _find_shared(self, source: Source, link: Link | None, name: str, known: list[tuple[str, Link]]) -> None:
        """Weights of layer ``name`` that take a layer's units in one pass, and something else in another."""
        for producer, other in known:
            if (producer, other) == (source.name, link) or not other.overlaps(source.offset, source.span):
                continue
            if not source.name and not self.modules[producer].weight.requires_grad:  # frozen: these are its own units
                continue
            self.problems.setdefault(producer, f"shares weights of {name} with {source.name or 'other inputs'}")
            if link is not None:
                self.problems.setdefault(source.name, f"shares weights of {name} with {producer}")

    def _between(self, producer: str, name: str) -> list[Link]:
        return [link for link in self.links[producer] if link.name == name]

    def norms_of(self, name: str) -> list[str]:
        """The normalization layers that take the units of layer ``name``, and nothing else."""
        return [norm for norm, users in self._norm_users.items() if list(users) == [name]]

    def end_update(self) -> None:
        self._bare.clear()

    def refusal(self, name: str, trained: set[int]) -> str:
        """Why the units of layer ``name`` cannot be reset now; empty if they can.

        Args:
            trained: the ids of the parameters that the optimizer has.
        """
        path = name.split(".")
        owners = [".".join(path[:end]) for end in range(len(path), -1, -1)]
        owner = next((owner for owner in owners if owner in self.modules), "")
        if owner != name or not is_plain(self.modules[name]):
            return f"part of {_described(owner, self.modules.get(owner, self._root))}"
        if problem := self.problems.get(name):
            return problem
        if not self.modules[name].weight.requires_grad:
            return FROZEN
        if not self.links.get(name):
            return OUTPUT if name in self.successors else NOT_SEEN
        if name in self._shown:
            return "also an output of the network"
        if tied := self._tied.get(id(self.modules[name].weight)):
            return f"shares its weight with {tied}"
        for link in self.links[name]:
            if tied := self._tied.get(id(link.consumer.weight)):
                return f"feeds {link.name}, which shares its weight with {tied}"
            if not link.consumer.weight.requires_grad:
                return f"feeds {link.name}, which is frozen"
            if id(link.consumer.weight) not in trained:
                return f"feeds {link.name}, which this optimizer does not train"
        return ""

    def order(self) -> list[str]:
        """The layers with links, none before one that it feeds."""
        names = list(reversed(self.links))
        if not self._late:
            return names
        heights = self.heights(set(names))
        return sorted(names, key=lambda name: heights[name])

    def heights(self, counted: set[str]) -> dict[str, int]:
        """By layer that was seen, how many of ``counted`` come after it on the longest path to an output."""
        known: dict[str, int] = {}
        opened, stack = set[str](), list(self.successors)
        while stack:
            name = stack.pop()
            after = self.successors.get(name, {})
            if name in opened:  # what comes after is known, unless it leads back here
                known.setdefault(name, max(((n in counted) + known.get(n, 0) for n in after if n != name), default=0))
            else:
                opened.add(name)
                stack += [name, *(n for n in after if n not in opened)]
        return known


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from tensors(value)


def _described(name: str, module: nn.Module) -> str:
    old_style = isinstance(module, MATRICES) and module._parameters.get("weight") is None
    computed = "parametrized " if old_style and not parametrize.is_parametrized(module) else ""
    return f"{name or 'the network'} ({computed}{type(module).__name__})"
