"""The base classes of all methods, which act through torch's optimizer hooks.

A method is attached to a ``(module, optimizer)`` pair. It acts when the optimizer steps, so it works in any training
loop without changes to the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.joining import is_nested, is_skipped, unscale_
from neoteny.plasticity.late_weights import Watch
from neoteny.plasticity.layers import Computed, Layer
from neoteny.plasticity.notice import warn
from neoteny.plasticity.own_state import own_state, prefix, restore_
from neoteny.plasticity.seeding import own_seed
from neoteny.plasticity.survey import Heads, Survey, share, survey


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
        adds_layers: whether attaching adds layers to the network.
        writes_weights: whether it writes weights, so that it cannot act on those that are computed (``weight_norm``).
        acts_on_norms: whether it acts on normalization layers.
        heads: ``exempt`` skips output heads, ``include`` treats them like any other layer, a list gives the names of
            the layers that are heads.
        layers: the layers acted on, once attached.
        optimizer: the optimizer that trains them, once attached.
        generator: the random generator for all draws, once attached.
    """

    name: ClassVar[str]
    adds_layers: ClassVar[bool] = False
    writes_weights: ClassVar[bool] = True
    acts_on_norms: ClassVar[bool] = True
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "arbitrary_types_allowed": True}

    heads: Heads = "exempt"
    layers: list[Layer] = field(default_factory=list, init=False, repr=False)
    optimizer: Optimizer = field(init=False, repr=False)
    generator: torch.Generator = field(default_factory=torch.Generator, init=False, repr=False)
    _survey: Survey = field(default_factory=Survey, init=False, repr=False)
    _refused: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _computed: list[Computed] = field(default_factory=list, init=False, repr=False)
    _watch: Watch = field(init=False, repr=False)
    _skipped: bool = field(default=False, init=False, repr=False)

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
            optimizer: trains the network. Only layers with parameters in it are used, so no target networks. A layer
                that is frozen is left alone as long as it is.
            seed: the method's own generator is seeded from it. Global random state is neither read nor written.
            only: a filter on layer names.
            output_layers: the names of the network's output heads, which ``heads: exempt`` skips; None to find them.

        Raises:
            ValueError: there is no layer to act on, or the method is already attached.
        """
        if self.layers:
            raise ValueError(f"{self._label}: this instance is attached already; make one per network")
        self._survey = survey(module, optimizer, self.heads, only, output_layers)
        self._refused = {layer.name: why for layer in self._survey.chosen if (why := self.refuse(layer))}
        chosen = [layer for layer in self._survey.chosen if layer.name not in self._refused]
        self.layers = chosen if any(layer.weights.live for layer in chosen) else []
        self.optimizer = optimizer
        self.generator.manual_seed(own_seed(type(self).__qualname__, seed))
        with torch.no_grad():
            if self.layers:
                self.setup()
            connections = self.connect(module) if self.layers else []
        if not self.layers:
            raise ValueError(f"{self._label}: the optimizer trains no layer of this module that it acts on")
        if self._survey.question:
            warn(self._survey.question)
        if gaps := self._survey.gaps(self.refusals()):
            warn(f"{self._label} does not support {gaps}. coverage() lists all")
        self._computed = [layer.weights for layer in self.layers if isinstance(layer.weights, Computed)]
        self._watch = Watch(
            self._label, optimizer, self._survey, lambda: survey(module, optimizer, self.heads, only, output_layers)
        )
        before, after = optimizer.register_step_pre_hook, optimizer.register_step_post_hook
        return Handle([before(self._pre_hook), after(self._post_hook), self._watch, *connections])

    @property
    def _label(self) -> str:
        """What messages call the method."""
        return getattr(self, "name", type(self).__name__)

    def refuse(self, layer: Layer) -> str:
        """Why the method does not act on ``layer``, or an empty string: asked once for every layer, when attached."""
        if layer.is_norm and not self.acts_on_norms:
            return "normalization"
        if isinstance(layer.weights, Computed):
            return "its weight is computed, and this method writes it" if self.writes_weights else ""
        return "its gradients are sparse" if getattr(layer.owner, "sparse", False) is True else ""

    def refusals(self) -> dict[str, str]:
        """The layers that the method leaves out although neither ``heads`` nor ``only`` says so, with the reason."""
        return dict(self._refused)

    def coverage(self) -> dict[str, str]:
        """What the method does with each matrix that its optimizer trains.

        Returns:
            By the layer's name (by that of the parameter, if it belongs to no layer) ``acted on``, or why not:
            ``output head`` (see ``heads``), ``frozen`` at the moment, ``not supported`` with the module's type,
            ``no layer for this method``, or what :meth:`refusals` says.
        """
        return self._survey.coverage({layer.name for layer in self.layers}, self.refusals())

    def matrix_sizes(self) -> dict[str, int]:
        """The number of weights of each matrix in :meth:`coverage` that is not frozen at the moment."""
        return self._survey.sizes()

    def share(self) -> float:
        """The share of the trained matrices' weights that the method acts on."""
        return share(self.matrix_sizes(), self.coverage())

    def _pre_hook(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call :meth:`before_step`, or, for ``step(closure)``, make the closure call it after its backward pass."""
        if is_nested(optimizer):
            return None
        self._watch.begin_step()
        self._skipped = is_skipped(optimizer)
        if self._skipped:
            return None
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

    def _post_hook(self, optimizer: Optimizer, *_: Any) -> None:
        if is_nested(optimizer):
            return
        self._watch.end_step()
        if not self._skipped:
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

    def weights_replaced(self) -> None:
        """Called when other weights were written from outside: find anew what follows from the weights as they are."""

    def scalars(self) -> dict[str, Tensor]:
        """Values to log, by name. Called when logging, not at every update."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """The live tensors that training depends on, by name.

        By default these are the attributes that a class of your own has set: see :mod:`neoteny.plasticity.own_state`.
        """
        return own_state(self)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to resume exactly, as tensors. Settings are not included."""
        return {"generator": self.generator.get_state(), **{k: t.clone() for k, t in self.state().items()}}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the output of :meth:`state_dict`.

        Raises:
            ValueError: the names or shapes in ``state`` do not match this method's state, or :meth:`state` gives
                copies, which cannot be restored.
        """
        self._check(state)
        self.generator.set_state(state["generator"].cpu())
        restore_(self, state)
        for key, tensor in self.state().items():
            if key in state:
                tensor.copy_(state[key])
        stale = [key for key, tensor in self.state().items() if key in state and not _same(tensor, state[key])]
        if stale:
            raise ValueError(f"{self.name}: state() gives a copy of {', '.join(stale)}; give the tensors it keeps")

    def _check(self, state: dict[str, Tensor]) -> None:
        mine = self.state_dict()
        odd = state.keys() ^ mine.keys()
        odd |= {key for key in mine.keys() - odd if state[key].shape != mine[key].shape}
        odd = {key for key in odd if not key.startswith(prefix(self))}  # attributes may come and go
        if odd:
            names = ", ".join(sorted(odd))
            raise ValueError(f"{self._label}: this state is of another method or network (differs in: {names})")


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.to(one).nan_to_num())
