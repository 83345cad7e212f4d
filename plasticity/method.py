"""The base classes of all methods, which act through torch's optimizer hooks.

A method is attached to a ``(module, optimizer)`` pair. It acts when the optimizer steps, so it works in any training
loop without changes to the loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.layers import NOT_SUPPORTED, Heads, Layer, coverage, select_layers
from neoteny.plasticity.seeding import own_seed


class Removable(Protocol):
    """Anything that can be removed again, such as a torch hook handle."""

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
    """A plasticity method: it changes gradients or weights to keep a network trainable.

    Subclasses are dataclasses whose fields are the settings. They override any of :meth:`setup`, :meth:`connect`,
    :meth:`before_step`, :meth:`after_step` and :meth:`on_switch`. ``name`` is the method's name in YAML.

    Attributes:
        heads: ``exempt`` skips output heads, ``include`` treats them like any other layer, a list gives the names of
            the layers that are heads.
        layers: the layers acted on, once attached.
        optimizer: the optimizer that trains them, once attached.
        generator: the random generator for all draws, once attached.
    """

    name: ClassVar[str]
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "arbitrary_types_allowed": True}

    heads: Heads = "exempt"
    layers: list[Layer] = field(default_factory=list, init=False, repr=False)
    optimizer: Optimizer = field(init=False, repr=False)
    generator: torch.Generator = field(default_factory=torch.Generator, init=False, repr=False)
    _coverage: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def attach(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        only: Callable[[str], bool] | None = None,
        output_layers: Collection[str] | None = None,
    ) -> Handle:
        """Act on the layers of ``module`` that ``optimizer`` trains, at every step, until the handle is removed.

        Args:
            module: the network.
            optimizer: trains the network. Only layers with parameters in it are used, so no target networks and no
                frozen layers.
            seed: the method's own generator is seeded from it. Global random state is neither read nor written.
            only: a filter on layer names.
            output_layers: the names of the network's output heads, which ``heads: exempt`` skips; None to find them.

        Raises:
            ValueError: there is no layer to act on, or the method is already attached.
        """
        if self.layers:
            raise ValueError(f"{self.name}: this instance is attached already; make one per network")
        self.layers = select_layers(module, optimizer, self.heads, only, output_layers)
        self._coverage = coverage(module, optimizer, self.layers, only)
        self.optimizer = optimizer
        self.generator.manual_seed(own_seed(type(self).__qualname__, seed))
        with torch.no_grad():
            self.setup()
            connections = self.connect(module) if self.layers else []
        if not self.layers:
            raise ValueError(f"{self.name}: the optimizer trains no layer of this module that it acts on")
        self._warn_of_gaps(module)
        before, after = optimizer.register_step_pre_hook, optimizer.register_step_post_hook
        return Handle([before(self._pre_hook), after(self._post_hook), *connections])

    def coverage(self) -> dict[str, str]:
        """What the method does with each parameter of matrix shape that its optimizer trains, by the parameter's name.

        Returns:
            ``acted on``, or why not: ``output head`` (see ``heads``), ``not supported`` with the module's type, or
            ``no layer for this method``.
        """
        names = {f"{layer.name}.weight".removeprefix(".") for layer in self.layers}
        return {
            name: skipped or ("acted on" if name in names else "no layer for this method")
            for name, skipped in self._coverage.items()
        }

    def _warn_of_gaps(self, module: nn.Module) -> None:
        """Warn if parameters of matrix shape are skipped because their module's type is not supported."""
        gaps = [name for name, skipped in self._coverage.items() if skipped.startswith(NOT_SUPPORTED)]
        if not gaps:
            return
        sizes = {name: module.get_parameter(name).numel() for name in self._coverage}
        share = sum(sizes[name] for name in gaps) / sum(sizes.values())
        listed = ", ".join(f"{name} ({self._coverage[name].partition('(')[2].rstrip(')')})" for name in gaps[:5])
        more = f" and {len(gaps) - 5} more" if len(gaps) > 5 else ""
        warnings.warn(
            f"{self.name} leaves out {share:.1%} of the weights that its optimizer trains, since it does not support "
            f"their modules: {listed}{more}. coverage() lists all",
            stacklevel=3,
        )

    def _pre_hook(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call :meth:`before_step`, or, for ``step(closure)``, make the closure call it after its backward pass."""
        _, *positional = args
        closure = positional[0] if positional else kwargs.get("closure")
        if closure is None:
            unscale_(optimizer)
            self.before_step()
            return None

        def with_method() -> Any:
            return self.after_closure(closure())

        if positional:
            return (args[0], with_method, *positional[1:]), kwargs
        return args, kwargs | {"closure": with_method}

    def _post_hook(self, *_: Any) -> None:
        self.after_step()

    def setup(self) -> None:
        """Drop the layers this method does not act on, and create the state for the others. Called once."""

    def connect(self, module: nn.Module) -> list[Removable]:
        """Change or hook the network itself, if needed. What is returned is removed together with the handle."""
        return []

    def before_step(self) -> None:
        """Called when the gradients are final, after clipping: add to them here."""

    def after_closure(self, loss: Any) -> Any:
        """The same inside ``step(closure)``, each time the closure has computed ``loss``; the loss as it then is."""
        self.before_step()
        return loss

    def after_step(self) -> None:
        """Called after the weights were updated: project, perturb or reset them here."""

    def on_switch(self) -> None:
        """Called when the task switches, by training loops that know about tasks."""

    def scalars(self) -> dict[str, Tensor]:
        """Values to log, by name. Called when logging, not at every update."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """The live tensors that training depends on, by name."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to resume exactly, as tensors. Settings are not included."""
        return {"generator": self.generator.get_state(), **{k: t.clone() for k, t in self.state().items()}}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the output of :meth:`state_dict`.

        Raises:
            ValueError: the names or shapes in ``state`` do not match this method's state.
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
    """A regularizer λ·R(θ). Its gradient is added to the task's gradient just before the optimizer steps.

    It is added *after* gradient clipping: where the task's gradient is clipped, λ weighs more against it. Without
    clipping this is the same as adding λ·R(θ) to the loss.

    Attributes:
        strength: λ ≥ 0. At 0, training is bit for bit the same as without the penalty.

    Raises:
        ValueError: ``strength`` is negative or not finite.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength: a finite number of at least 0 is needed, got {self.strength}")

    def value(self) -> Tensor:
        """R(θ), without λ, as a differentiable scalar. :meth:`add_grad_` must add the gradient of exactly this."""
        raise NotImplementedError

    def add_grad_(self) -> None:
        """Add λ·∇R(θ) to the gradients. The default uses autograd; subclasses use a closed form where there is one."""
        if parameters := self.trainable():
            with torch.enable_grad():
                value = self.value()
            gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(gradients_of(parameters), gradients, alpha=self.strength)

    def before_step(self) -> None:
        if self.strength:
            with torch.no_grad():
                self.add_grad_()

    def after_closure(self, loss: Any) -> Any:
        """The loss with λ·R(θ) added: a line search compares losses."""
        if not self.strength:
            return loss
        self.before_step()
        with torch.no_grad():
            return loss + self.strength * self.value() if isinstance(loss, (Tensor, float, int)) else loss

    def trainable(self) -> list[Tensor]:
        """The parameters of :attr:`layers` that are not frozen at the moment."""
        both = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        return [p for p in both if p is not None and p.requires_grad]


@torch.no_grad()
def unscale_(optimizer: Optimizer) -> None:
    """Divide the gradients by a GradScaler's scale, where the optimizer would do that itself inside ``step``.

    ``GradScaler.step`` unscales beforehand, except for optimizers that can do it on their own (``fused=True``), which
    it gives the scale as ``grad_scale``. A penalty that joins before that would be divided by it.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    torch._foreach_div_(gradients, scale.to(gradients[0].device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]


def gradients_of(parameters: list[Tensor]) -> list[Tensor]:
    """The gradients of ``parameters``. A parameter without a gradient gets one of zeros, for the penalty to add to."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in parameters]  # type: ignore[misc]
