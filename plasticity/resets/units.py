"""Units: observes the activations of a layer's units in training passes, and resets units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.layers import Layer
from neoteny.plasticity.method import Method, Removable
from neoteny.plasticity.notice import warn
from neoteny.plasticity.resets.initial import draw, initial_scale
from neoteny.plasticity.resets.link import Link
from neoteny.plasticity.resets.wiring import FROZEN, OUTPUT, Wiring
from neoteny.plasticity.schedule import new_counter
from neoteny.plasticity.survey import select_layers
from neoteny.plasticity.views import MATRICES


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

    :mod:`neoteny.plasticity.resets.wiring` finds the layers that a unit feeds, in the training passes so far. A unit is
    not changed if these cannot be determined (residual sums, recurrent layers), if one of them is frozen or trained by
    another optimizer, or if it is an output: :meth:`refusals` says so. All outgoing weights of a unit belong to it, in
    whichever layer: ``heads`` and ``only`` select the layers whose units are acted on.

    A unit's activation is what the next layer receives, after activation function, normalization and pooling. With a
    concatenated activation (CReLU) a unit enters the next layer several times; all of these are its activations, and
    their outgoing weights all belong to it.

    Only passes of the network itself in training mode with gradients enabled are observed: not rollouts, target
    networks or copies. For SAC's critics these are the pass for their own loss and the one for the actor's loss. The
    latter comes after their update and so counts towards the next, so what was noted since the last update is state.
    """

    wiring: Wiring = field(init=False, repr=False)
    _scales: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _norms: dict[str, Layer] = field(default_factory=dict, init=False, repr=False)
    _trained: set[int] = field(default_factory=set, init=False, repr=False)
    _watching: bool = field(default=False, init=False, repr=False)
    _observed: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _followed: int = field(default=0, init=False, repr=False)
    _told: set[str] = field(default_factory=set, init=False, repr=False)
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
        self.wiring = Wiring(module, self._on_input)
        self._prepare()
        return self.wiring.connect()

    def _prepare(self) -> None:
        """What holds until the next update."""
        self._trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        self._watching = self.watching()
        self._observed.clear()

    def _on_input(self, name: str, inputs: Tensor) -> None:
        """Observe the units that enter layer ``name``: once for a pass, where they enter several layers."""
        if self._watching:
            for layer in self.wiring.into.get(name, ()):
                mine = layer in self._passes and self._observed.setdefault(layer, name) == name
                if mine and not self.wiring.refusal(layer, self._trained):
                    links = [link for link in self.wiring.links[layer] if link.name == name]
                    self.observe(layer, _together([link.activations(inputs.detach()) for link in links]))

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

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._watching = self.watching()

    def after_step(self) -> None:
        acting = self.acting()
        self.wiring.end_update()
        if self.wiring.changes != self._followed:
            self._followed = self.wiring.changes
            self.rewired()
        with torch.no_grad():
            self.after_update()
        if acting:
            self._warn()
        self._prepare()

    def acting(self) -> bool:
        """Whether units are needed at the update that is under way."""
        return self._watching

    def rewired(self) -> None:
        """Called when new routes between layers have been found, before :meth:`after_update`."""

    def refusals(self) -> dict[str, str]:
        """Why units are not reset, by the layer's name. Before the first training pass little is known."""
        if not self.layers or not (self.wiring.successors or self._told):
            return super().refusals()
        found = {layer.name: self.wiring.refusal(layer.name, self._trained) for layer in self.layers}
        return super().refusals() | {name: reason for name, reason in found.items() if reason}

    def _warn(self) -> None:
        """Name, once each, the layers whose units are left alone."""
        if not self.wiring.successors and "" not in self._told:
            self._told.add("")
            warn(
                f"{self._label} has seen no units: no layer was called in training mode with gradients enabled. "
                "Call train() on the network, attach to the one that this optimizer trains, and do not compile it"
            )
        known = self._told | self._refused.keys()
        refused = {n: r for n, r in self.refusals().items() if r not in (OUTPUT, FROZEN) and n not in known}
        self._told |= refused.keys()
        if refused:
            listed = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
            warn(f"{self._label} leaves the units of these layers alone: {listed}")

    def after_update(self) -> None:
        """Called after the optimizer has stepped."""

    def ready(self) -> list[Layer]:
        """The layers whose units may be reset now, last layer first.

        In this order an outgoing weight stays 0 even if the unit it leads to is reset too.
        """
        by_name = {layer.name: layer for layer in self.layers}
        known = [by_name[name] for name in self.wiring.order() if name in by_name]
        return [layer for layer in known if not self.wiring.refusal(layer.name, self._trained)]

    def norms_of(self, layer: Layer) -> list[Layer]:
        """The normalization layers with a scale for each unit of ``layer``."""
        norms = [self._norms[name] for name in self.wiring.norms_of(layer.name) if name in self._norms]
        return [norm for norm in norms if norm.weight.shape == layer.weight.shape[:1]]

    def reset_(self, layer: Layer, units: Tensor) -> None:
        """Reset ``units`` of ``layer``, see :func:`reset_units_`."""
        links, scale = self.wiring.links[layer.name], self._scales[layer.name]
        reset_units_(layer, links, units, scale, self.generator, self.optimizer, self.norms_of(layer))
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
