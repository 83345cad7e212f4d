"""The seam through which every method reaches a network: torch's own optimizer hooks.

A method is bound to a ``(module, optimizer)`` pair. It acts when the optimizer steps, so it works in any training
loop, and nobody's loop is copied to make room for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.layers import Heads, Layer, select_layers
from neoteny.plasticity.seeding import own_seed


class Removable(Protocol):
    """What torch's hooks, and whatever else attaching leaves behind, have in common."""

    def remove(self) -> None: ...


class Handle:
    """Detaches a method from its optimizer: call :meth:`remove`, or use it as a context manager."""

    def __init__(self, hooks: list[Removable]):
        self._hooks = hooks

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


@dataclass(kw_only=True, eq=False)
class Method:
    """Something that is done to weights to keep them trainable.

    Subclasses are dataclasses, whose fields are their settings, and override any of :meth:`setup`, :meth:`connect`,
    :meth:`before_step`, :meth:`after_step` and :meth:`on_switch`. ``name`` is what YAML calls them.

    Attributes:
        heads: whether output heads are left alone (``exempt``), treated as any layer (``include``), or which
            layers they are (their names).
        layers: the layers acted on, once attached.
        optimizer: the one that trains them, once attached.
        generator: what every random draw comes from, once attached.
    """

    name: ClassVar[str]
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "arbitrary_types_allowed": True}

    heads: Heads = "exempt"
    layers: list[Layer] = field(default_factory=list, init=False, repr=False)
    optimizer: Optimizer = field(init=False, repr=False)
    generator: torch.Generator = field(default_factory=torch.Generator, init=False, repr=False)

    def attach(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        only: Callable[[str], bool] | None = None,
    ) -> Handle:
        """Act on the layers of ``module`` that ``optimizer`` trains, whenever it steps, until the handle is removed.

        Args:
            module: the network.
            optimizer: the one that trains it. Its parameters decide: target networks and frozen layers are out.
            seed: from which that of the method's own generator is made. No global random state is read or written.
            only: restricts the choice to layers whose name it accepts.

        Raises:
            ValueError: there is nothing to act on, or the method is attached already.
        """
        if self.layers:
            raise ValueError(f"{self.name}: this instance is attached already; make one per network")
        self.layers = select_layers(module, optimizer, self.heads, only)
        self.optimizer = optimizer
        self.generator.manual_seed(own_seed(type(self).__qualname__, seed))
        with torch.no_grad():
            self.setup()
            connections = self.connect(module) if self.layers else []
        if not self.layers:
            raise ValueError(f"{self.name}: the optimizer trains no layer of this module that it acts on")
        before, after = optimizer.register_step_pre_hook, optimizer.register_step_post_hook
        return Handle([before(self._pre_hook), after(self._post_hook), *connections])

    def _pre_hook(self, *_: Any) -> None:
        self.before_step()

    def _post_hook(self, *_: Any) -> None:
        self.after_step()

    def setup(self) -> None:
        """Drop the layers it leaves alone, and make the state that belongs to the others; called once."""

    def connect(self, module: nn.Module) -> list[Removable]:
        """Change or watch the network itself, where weights are not enough. What is returned goes with the handle."""
        return []

    def before_step(self) -> None:
        """Gradients are final, clipping included: add to them."""

    def after_step(self) -> None:
        """Weights have moved: project, perturb or reset them."""

    def on_switch(self) -> None:
        """Another task begins. Only training loops that know of tasks call this."""

    def scalars(self) -> dict[str, Tensor]:
        """What is worth plotting, by name; called when something is logged, not every update."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """The live tensors that training depends on, by name."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly as before, as tensors; settings are not state."""
        return {"generator": self.generator.get_state(), **{k: t.clone() for k, t in self.state().items()}}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: the names and shapes in ``state`` are not those of this method's state.
        """
        self._check(state)
        self.generator.set_state(state["generator"].cpu())
        for key, tensor in self.state().items():
            tensor.copy_(state[key])

    def _check(self, state: dict[str, Tensor]) -> None:
        mine = self.state_dict()
        odd = state.keys() ^ mine.keys()
        odd |= {key for key in mine.keys() - odd if state[key].shape != mine[key].shape}
        if odd:
            names = ", ".join(sorted(odd))
            raise ValueError(f"{self.name}: this state is of another method or network (differs in: {names})")


@dataclass(kw_only=True, eq=False)
class Penalty(Method):
    """A regularizer λ·R(θ), whose gradient joins the task's just before the optimizer steps.

    It joins *after* gradient clipping, so λ means the same whether or not the task's gradient was clipped; where
    nothing is clipped this is the same as adding λ·R(θ) to the loss.

    Attributes:
        strength: λ ≥ 0. At 0 training is bit for bit what it is without the penalty.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength: a finite number of at least 0 is needed, got {self.strength}")

    def value(self) -> Tensor:
        """R(θ), without λ, as a differentiable scalar. This is the definition that :meth:`add_grad_` is held to."""
        raise NotImplementedError

    def add_grad_(self) -> None:
        """Add λ·∇R(θ) to the gradients. By autograd here; subclasses have a closed form where there is one."""
        if parameters := self.trainable():
            with torch.enable_grad():
                value = self.value()
            gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(gradients_of(parameters), gradients, alpha=self.strength)

    def before_step(self) -> None:
        if self.strength:
            with torch.no_grad():
                self.add_grad_()

    def trainable(self) -> list[Tensor]:
        """The parameters of :attr:`layers` that are not frozen just now."""
        both = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        return [p for p in both if p is not None and p.requires_grad]


def gradients_of(parameters: list[Tensor]) -> list[Tensor]:
    """Their gradients; a parameter that the loss did not reach gets one of zeros, for the penalty to add to."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in parameters]  # type: ignore[misc]


@dataclass(kw_only=True, eq=False)
class Compose(Method):
    """Several methods on one network, acting in the order given."""

    name: ClassVar[str] = "compose"

    heads: Heads = field(default="exempt", init=False, repr=False)  # each method has its own
    methods: tuple[Method, ...]

    def attach(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        only: Callable[[str], bool] | None = None,
    ) -> Handle:
        seeds = [own_seed(str(i), seed) for i in range(len(self.methods))]
        handles = [m.attach(module, optimizer, seed=s, only=only) for s, m in zip(seeds, self.methods, strict=True)]
        return Handle([hook for handle in handles for hook in handle._hooks])

    def on_switch(self) -> None:
        for method in self.methods:
            method.on_switch()

    def scalars(self) -> dict[str, Tensor]:
        names = [m.name for m in self.methods]
        labels = [f"{n}.{names[:i].count(n) + 1}" if names.count(n) > 1 else n for i, n in enumerate(names)]
        parts = zip(labels, self.methods, strict=True)
        return {f"{label}.{key}": value for label, m in parts for key, value in m.scalars().items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{i}.{key}": t for i, m in enumerate(self.methods) for key, t in m.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._check(state)
        for i, method in enumerate(self.methods):
            mine = {k.removeprefix(f"{i}."): t for k, t in state.items() if k.startswith(f"{i}.")}
            method.load_state_dict(mine)
