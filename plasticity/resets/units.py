"""Units: observes the activations of a layer's units in training passes, and resets units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.layers import Layer
from neoteny.plasticity.method import Method, Removable
from neoteny.plasticity.resets.initial import draw, initial_scale
from neoteny.plasticity.resets.wiring import Link, feeds, link_of
from neoteny.plasticity.schedule import new_counter
from neoteny.plasticity.survey import select_layers
from neoteny.plasticity.views import MATRICES, NORMS


def put_(tensor: Tensor, axis: int, units: Tensor, value: Tensor | float) -> None:
    """Write ``value`` at ``units`` along ``axis``: a mask (with values for all units) or indices (values for these)."""
    if units.dtype == torch.bool:
        mask = units.view(-1, *[1] * (tensor.ndim - axis - 1))
        tensor.copy_(torch.where(mask, value, tensor))
    elif isinstance(value, Tensor):
        tensor.index_copy_(axis, units, value)
    else:
        tensor.index_fill_(axis, units, value)


def moments(optimizer: Optimizer, parameter: Tensor) -> list[Tensor]:
    """The optimizer state per entry of ``parameter`` (Adam: both moments), without step counts."""
    state = optimizer.state.get(parameter, {})
    return [t for t in state.values() if isinstance(t, Tensor) and t.shape == parameter.shape and t.ndim > 0]


def forget_(optimizer: Optimizer, parameter: Tensor) -> None:
    """Reset the optimizer state of ``parameter``: moments and step count become 0."""
    for kept in optimizer.state.get(parameter, {}).values():
        if isinstance(kept, Tensor):
            kept.zero_()


@torch.no_grad()
def reset_units_(
    layer: Layer,
    successors: list[Link],
    units: Tensor,
    scale: Tensor,
    generator: torch.Generator,
    optimizer: Optimizer,
    norms: list[Layer] | None = None,
) -> None:
    """Re-initialize incoming weights and bias, set outgoing weights to 0, and clear the moments of these entries.

    Args:
        layer: the layer of the units.
        successors: where the units enter other layers.
        units: a mask over the units, or indices of the units to reset. Its contents are not read on the host.
        scale: the layer's initialization, see :func:`initial_scale`.
        generator: the weights are drawn from it. With a mask, weights are drawn for all units, whatever the mask.
        optimizer: trains all of them. Its step counts are not reset.
        norms: normalization layers of the units. Their scales become 1 and their shifts 0.
    """
    count = len(units)
    incoming: list[tuple[Tensor | None, Tensor | float]] = [
        (layer.weight, draw((count, *layer.weight.shape[1:]), scale[0], generator, layer.weight))
    ]
    if layer.bias is not None:
        incoming.append((layer.bias, draw((count,), scale[1], generator, layer.bias)))
    for norm in norms or []:
        incoming += [(norm.weight, 1.0), (norm.bias, 0.0)]
    for parameter, value in incoming:
        if parameter is not None and parameter.requires_grad:
            put_(parameter, 0, units, value)
            for moment in moments(optimizer, parameter):
                put_(moment, 0, units, 0.0)
    for link in successors:
        weight: Tensor = link.consumer.weight  # type: ignore[assignment]
        for tensor in (weight, *moments(optimizer, weight)):
            put_(link.outgoing(tensor), 1, units, 0.0)


@dataclass(kw_only=True, eq=False)
class UnitMethod(Method):
    """A method that acts on units: the outputs of Linear layers and the channels of convolutions.

    :mod:`neoteny.plasticity.resets.wiring` finds the layers that a unit feeds, in the forward passes before the first
    update. A unit is not changed if these cannot be determined (residual sums, recurrent layers), if one of them is
    frozen or trained by another optimizer, or if it is an output. All outgoing weights of a unit belong to it, in
    whichever layer: ``heads`` and ``only`` select the layers whose units are acted on.

    A unit's activation is what the next layer receives, after activation function, normalization and pooling. With a
    concatenated activation (CReLU) a unit enters the next layer several times; all of these are its activations, and
    their outgoing weights all belong to it.

    Only passes of the network itself in training mode with gradients enabled are observed: not rollouts, target
    networks or copies. For SAC's critics these are the pass for their own loss and the one for the actor's loss. The
    latter comes after their update and so counts towards the next, so what was noted since the last update is state.
    """

    _scales: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _modules: dict[str, nn.Module] = field(default_factory=dict, init=False, repr=False)
    _norms: dict[str, Layer] = field(default_factory=dict, init=False, repr=False)
    _links: dict[str, list[Link]] = field(default_factory=dict, init=False, repr=False)
    _norms_of: dict[str, list[Layer]] = field(default_factory=dict, init=False, repr=False)
    _lost: set[str] = field(default_factory=set, init=False, repr=False)
    _outputs: dict[Any, tuple[str, bool]] = field(default_factory=dict, init=False, repr=False)
    _successors: dict[str, set[str]] = field(default_factory=dict, init=False, repr=False)
    _tracing: list[Any] = field(default_factory=list, init=False, repr=False)
    _watching: list[tuple[str, Any]] = field(default_factory=list, init=False, repr=False)
    _resets: Tensor = field(default_factory=lambda: torch.zeros(()), init=False, repr=False)
    _notes: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _passes: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def refuse(self, layer: Layer) -> str:
        if layer.is_norm or isinstance(layer.owner, MATRICES):
            return super().refuse(layer)
        return f"units of {type(layer.owner).__name__}"

    def setup(self) -> None:
        self.layers = [layer for layer in self.layers if not layer.is_norm]
        self._scales = {layer.name: initial_scale(layer) for layer in self.layers}
        if self.layers:
            self._resets = torch.zeros((), device=self.layers[0].weight.device)
        self._notes = {layer.name: self.blank(layer.weight.detach().flatten(1)[:, 0]) for layer in self.layers}
        self._passes = {name: new_counter() for name in self._notes}

    def connect(self, module: nn.Module) -> list[Removable]:
        everything = select_layers(module, self.optimizer, "include")
        self._norms = {layer.name: layer for layer in everything if layer.is_norm}
        names = {id(layer.weight): layer.name for layer in everything}
        for child in module.modules():
            owned = next(child.parameters(recurse=False), None)
            if owned is None:
                continue
            name = names.get(id(getattr(child, "weight", None)), "")
            is_norm = isinstance(child, NORMS)
            if name and not is_norm:
                self._modules.setdefault(name, child)
            if name:
                self._tracing.append(child.register_forward_hook(self._on_output(child, name, is_norm)))
            if not is_norm:
                self._watching.append((name, child.register_forward_pre_hook(self._on_input(child, name))))
        return [*self._tracing, *(hook for _, hook in self._watching)]

    # Closures over one module: copies of the network copy the hooks, which then do nothing.

    def _on_output(self, child: nn.Module, name: str, is_norm: bool) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if module is child and _counts(module) and isinstance(output, Tensor) and output.grad_fn is not None:
                self._outputs[output.grad_fn] = (name, is_norm)
                self._successors.setdefault(name, set())

        return hook

    def _on_input(self, child: nn.Module, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if module is child and _counts(module) and args and isinstance(args[0], Tensor):
                if self._tracing:
                    self._trace(child, name, args[0])
                if name and self.watching():
                    self._observe(name, args[0].detach())

        return hook

    def _trace(self, child: nn.Module, name: str, inputs: Tensor) -> None:
        width = getattr(child, "in_features", getattr(child, "in_channels", 1))
        mine = {layer.name for layer in self.layers}
        for feed in feeds(inputs.grad_fn, self._outputs, 0, width):
            if feed.name not in mine:
                continue
            self._successors[feed.name].add(name)
            link = link_of(feed, self._modules[feed.name], name, child, inputs) if name else None
            if link is None:
                self._lost.add(feed.name)
            elif link not in self._links.setdefault(feed.name, []):
                self._links[feed.name].append(link)
                norms = [self._norms[norm] for norm in feed.norms if norm in self._norms]
                self._norms_of[feed.name] = [n for n in norms if n.weight.shape == (link.units,)]

    def _observe(self, name: str, inputs: Tensor) -> None:
        for layer, links in self._links.items():
            if links[0].name == name and layer not in self._lost and self._all_trained(layer):
                parts = [link.activations(inputs) for link in links if link.name == name]
                self.observe(layer, _together(parts))

    def watching(self) -> bool:
        """Whether to observe the passes before the next update."""
        return True

    def observe(self, name: str, activations: Tensor) -> None:
        """Called with a layer's ``activations``, (samples, units, entries, positions), in each observed pass.

        There is one entry per time that a unit enters the next layer: two after CReLU.
        """

    def blank(self, units: Tensor) -> Tensor:
        """A tensor like those given to :meth:`note`, for a layer with as many units as ``units`` has entries."""
        return units.new_zeros(0)

    def note(self, name: str, values: Tensor, join: Callable[[Tensor, Tensor], Tensor] = torch.add) -> None:
        """Keep ``values`` for the next update, joined with those of earlier passes since the last update."""
        self._notes[name] = join(self._notes[name], values) if self._passes[name] else values
        self._passes[name] += 1

    def noted(self) -> dict[str, tuple[Tensor, int]]:
        """By layer, the values noted since the last call, and the number of passes."""
        found = {name: (self._notes[name], int(count)) for name, count in self._passes.items() if count}
        for name in found:
            self._passes[name].zero_()
        return found

    def after_step(self) -> None:
        if self._tracing and self._successors:
            self._end_trace()
        self._outputs.clear()  # it keeps the autograd graph of the passes alive
        with torch.no_grad():
            self.after_update()

    def _end_trace(self) -> None:
        """The wiring is known: keep only the hooks that observe activations."""
        sources = {links[0].name for layer, links in self._links.items() if layer not in self._lost}
        if type(self).observe is UnitMethod.observe:
            sources = set()
        for hook in [*self._tracing, *(hook for name, hook in self._watching if name not in sources)]:
            hook.remove()
        self._tracing = []
        self.traced()

    def traced(self) -> None:
        """Called once, when it is known which layer feeds which."""

    def after_update(self) -> None:
        """Called after the optimizer has stepped."""

    def ready(self) -> list[Layer]:
        """The layers whose units may be reset now, last layer first.

        In this order an outgoing weight stays 0 even if the unit it leads to is reset too.
        """
        by_name = {layer.name: layer for layer in self.layers}
        known = [by_name[name] for name in reversed(self._links) if name not in self._lost]
        return [layer for layer in known if self._all_trained(layer.name)]

    def _all_trained(self, name: str) -> bool:
        """Whether neither the layer nor a layer that it feeds is frozen at the moment."""
        modules = [self._modules[name], *(link.consumer for link in self._links[name])]
        return all(module.weight.requires_grad for module in modules)

    def reset_(self, layer: Layer, units: Tensor) -> None:
        """Reset ``units`` of ``layer``, see :func:`reset_units_`."""
        links, norms = self._links[layer.name], self._norms_of.get(layer.name, [])
        reset_units_(layer, links, units, self._scales[layer.name], self.generator, self.optimizer, norms)
        self._resets += units.sum() if units.dtype == torch.bool else len(units)

    def scalars(self) -> dict[str, Tensor]:
        return {"resets": self._resets.clone()}

    def state(self) -> dict[str, Tensor]:
        kept = {"scale": self._scales, "notes": self._notes, "passes": self._passes}
        tensors = {f"{kind}.{name}": t for kind, of in kept.items() for name, t in of.items()}
        return super().state() | {"resets": self._resets} | tensors


def _together(parts: list[Tensor]) -> Tensor:
    """Stack activations of several entries, (samples, units, positions), to (samples, units, entries, positions).

    Entries with different positions (a feature map and its pooled version) are merged into one entry.
    """
    if len(parts) == 1:
        return parts[0].unsqueeze(2)
    alike = len({part.shape for part in parts}) == 1
    return torch.stack(parts, 2) if alike else torch.cat(parts, 2).unsqueeze(2)


def _counts(module: nn.Module) -> bool:
    return module.training and torch.is_grad_enabled()
