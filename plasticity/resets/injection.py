"""Plasticity injection: adds new layers beside the old, frozen ones, without changing the output at first.

Nikishin, Oh, Ostrovski, Lyle, Pascanu, Dabney & Barreto, "Deep Reinforcement Learning with Plasticity Injection",
NeurIPS 2023 (arXiv 2305.15555).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.layers import layers_of
from neoteny.plasticity.method import Removable
from neoteny.plasticity.resets.initial import draw, fresh, initial_scale
from neoteny.plasticity.resets.occasional import Occasional
from neoteny.plasticity.schedule import new_counter
from neoteny.plasticity.survey import Heads
from neoteny.plasticity.views import MATRICES


class Injected(nn.Sequential):
    """A ``Sequential`` h_θ that can become h_θ(x) + Σ_i h_θi(x) − h_θi'(x). Its own submodules keep their names.

    Attributes:
        added: the h_θi, which are trained.
        removed: the h_θi', frozen copies of the h_θi at injection.
        injections: how many of them are active.
    """

    added: nn.ModuleList
    removed: nn.ModuleList
    injections: int = 0

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([part for name, part in self._modules.items() if name not in ("added", "removed")])

    def __len__(self) -> int:
        return len([*iter(self)])

    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        for i in range(self.injections):
            output = output + (self.added[i](input) - self.removed[i](input))  # exactly 0 at first
        return output


def prepare_(head: nn.Sequential, times: int) -> Injected:
    """Turn ``head`` into an :class:`Injected` with the same output, in place.

    It stays the same object, since networks may refer to it under several names (SAC's critics are also in a list).
    """
    twins = [copy.deepcopy(head).requires_grad_(False) for _ in range(2 * times)]
    head.__class__ = Injected
    assert isinstance(head, Injected)
    head.added, head.removed = nn.ModuleList(twins[:times]), nn.ModuleList(twins[times:])
    head.injections = 0
    return head


class _Detach:
    """Removes what attaching added to networks and optimizer, unless something was injected."""

    def __init__(self, method: PlasticityInjection):
        self.method = method

    def remove(self) -> None:
        if int(self.method._injections):
            return
        added = {id(p) for generation in self.method._generations() for p in generation}
        for group in self.method.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in added]
        for head in self.method.all_heads():
            del head.added, head.removed
            head.__class__ = nn.Sequential  # type: ignore[assignment]
        self.method._heads.clear()
        self.method._targets.clear()


@dataclass(kw_only=True, eq=False)
class PlasticityInjection(Occasional):
    """h_θ(x) ← h_θ(x) + h_θ1(x) − h_θ1'(x): θ is frozen, θ1 is new and trained, θ1' is a frozen copy of θ1.

    A head is an outermost ``Sequential`` that has Linear layers and no convolution:
    ``q_net`` of a DQN, ``qf0`` and ``qf1`` of SAC's critics, ``latent_pi`` of its actor, ``policy_net`` and
    ``value_net`` of an actor-critic, and any in your own network. Convolutions stay trainable, and so do single Linear
    layers (``action_net``), since a sum of Linear layers is again a Linear layer. So the last layer of an actor-critic
    stays trainable, while the paper freezes everything up to the output.

    Attaching turns each head into an :class:`Injected` with the same output, and adds the parameters of all future
    injections to the optimizer's group of the old ones. So the names and shapes of weights and optimizer state are the
    same before and after an injection, and an agent is saved and loaded like any other. The target network of a head
    (``critic_target`` for ``critic``) gets the same submodules, and its output does not change either; its weights are
    updated as usual. :meth:`Handle.remove` undoes all of this, unless something was injected; injections stay.

    Cost: nothing until injection, then two more passes through the head, one of them without gradients to weights. The
    memory of 2 · ``times`` heads is used from the start.

    Attributes:
        heads: ``include`` by default; excluded layers are still frozen together with their head.
        times: maximum number of injections, at least 1. The paper uses 1.

    Raises:
        ValueError: ``times`` is not an integer of at least 1; when attaching, the network has no head.
    """

    name: ClassVar[str] = "plasticity-injection"
    adds_layers: ClassVar[bool] = True

    heads: Heads = "include"
    times: int = 1
    _injections: Tensor = field(default_factory=new_counter, init=False, repr=False)
    _scales: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _heads: dict[str, Injected] = field(default_factory=dict, init=False, repr=False)
    _targets: list[tuple[Injected, Injected]] = field(default_factory=list, init=False, repr=False)
    _own: list[nn.Parameter] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.times >= 1 or self.times % 1:
            raise ValueError(f"times: an integer of at least 1 is needed, got {self.times}")

    def connect(self, module: nn.Module) -> list[Removable]:
        chosen = [layer.name for layer in self.layers if not layer.is_norm]
        names = [name for name in _sequentials(module) if any(_within(layer, name) for layer in chosen)]
        if not names:
            self.layers = []  # as attach leaves it that finds none
            raise ValueError(
                f"{self._label}: it acts on a Sequential of Linear layers without convolutions, and none of the layers "
                f"chosen in this {type(module).__name__} is in one"
            )
        self.layers = [layer for layer in self.layers if any(_within(layer.name, name) for name in names)]
        self._scales = {layer.name: initial_scale(layer) for layer in self.layers if not layer.is_norm}
        for name in names:
            head = self._heads[name] = prepare_(module.get_submodule(name), self.times)  # type: ignore[arg-type]
            self._own += _join(self.optimizer, head)
            for target in _targets_of(module, name):
                self._targets.append((head, prepare_(target, self.times)))
        return [_Detach(self)]

    def act(self) -> None:
        """Inject into every head, unless there were :attr:`times` injections already."""
        index = int(self._injections)
        if index >= self.times:
            return
        self._injections += 1
        for name, head in self._heads.items():
            self._begin_anew_(name, head.added[index])
            head.removed[index].load_state_dict(head.added[index].state_dict())
        for head, target in self._targets:
            for part in (target.added[index], target.removed[index]):
                part.load_state_dict(head.added[index].state_dict())
        self._freeze_()

    def _begin_anew_(self, name: str, part: nn.Module) -> None:
        """Draw new weights like a head's initial ones. Layers not acted on keep their weights from attaching."""
        for layer in layers_of(part):
            if layer.is_norm:
                layer.weight.fill_(1)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif (scale := self._scales.get(f"{name}.{layer.name}".lstrip("."))) is not None:
                layer.weight.copy_(fresh(layer.weight.shape, scale, self.generator, layer.weight))
                if layer.bias is not None:
                    layer.bias.copy_(draw(layer.bias.shape, scale[1], self.generator, layer.bias))

    def _freeze_(self) -> None:
        """Make only the newest submodules trainable; before any injection, those trainable when attached."""
        count = int(self._injections)
        for head in self.all_heads():
            head.injections = count
        for i, generation in enumerate([self._own, *self._generations()]):
            for parameter in generation:
                parameter.requires_grad_(i == count)
                if i != count:
                    parameter.grad = None

    def all_heads(self) -> list[Injected]:
        """The trained heads and their targets."""
        return [*self._heads.values(), *(target for _, target in self._targets)]

    def _generations(self) -> list[list[nn.Parameter]]:
        return [[p for h in self._heads.values() for p in h.added[i].parameters()] for i in range(self.times)]

    def scalars(self) -> dict[str, Tensor]:
        return {"injections": self._injections.clone()}

    def state(self) -> dict[str, Tensor]:
        scales = {f"scale.{name}": scale for name, scale in self._scales.items()}
        return super().state() | {"injections": self._injections, **scales}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        before = int(self._injections)
        super().load_state_dict(state)
        if before or int(self._injections):  # else keep parameters frozen that the user has frozen
            self._freeze_()


def _within(layer: str, head: str) -> bool:
    return not head or layer.startswith(f"{head}.")


def _sequentials(module: nn.Module) -> list[str]:
    """The outermost Sequentials of ``module`` that have Linear layers and no convolution."""
    found: list[str] = []
    for name, child in module.named_modules():
        if type(child) is nn.Sequential and not any(_within(name, outer) for outer in found):
            matrices = [part for part in child.modules() if isinstance(part, MATRICES)]
            if matrices and all(isinstance(part, nn.Linear) for part in matrices):
                found.append(name)
    return found


def _join(optimizer: Optimizer, head: Injected) -> list[nn.Parameter]:
    """Add the parameters of future injections to ``optimizer``, each to the group of the parameter it is a copy of.

    Returns the parameters of the head that the optimizer already had.
    """
    own = list(nn.ModuleList(head).parameters())
    held = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    mine = [p for p in own if id(p) in held and p.requires_grad]
    for added in head.added if mine else ():
        for old, new in zip(own, added.parameters(), strict=True):
            held.get(id(old), held[id(mine[0])])["params"].append(new)
    return mine


def _targets_of(module: nn.Module, name: str) -> list[nn.Sequential]:
    """The counterparts of a head in target networks, where one part of its name ends in ``_target``."""
    parts = name.split(".")
    renamed = [".".join([*parts[:i], f"{part}_target", *parts[i + 1 :]]) for i, part in enumerate(parts)]
    present = dict(module.named_modules())
    return [twin for n in renamed if type(twin := present.get(n)) is nn.Sequential]
