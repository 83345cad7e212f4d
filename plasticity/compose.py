"""Several methods as one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from neoteny.plasticity.method import Handle, Method
from neoteny.plasticity.seeding import own_seed
from neoteny.plasticity.survey import ACTED_ON, Heads


@dataclass(kw_only=True, eq=False)
class Compose(Method):
    """Several methods on one network, applied in the order given.

    Those that add layers to the network are attached first, so that the others act on these layers too.
    """

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
        output_layers: Collection[str] | None = None,
    ) -> Handle:
        seeds = [own_seed(str(i), seed) for i in range(len(self.methods))]
        order = sorted(zip(seeds, self.methods, strict=True), key=lambda pair: not pair[1].adds_layers)
        handles = [
            method.attach(module, optimizer, seed=own, only=only, output_layers=output_layers) for own, method in order
        ]
        return Handle([hook for handle in handles for hook in handle._hooks])

    def coverage(self) -> dict[str, str]:
        """Acted on, if one of the methods does; else the first one's reason."""
        found: dict[str, str] = {}
        for method in self.methods:
            for name, what in method.coverage().items():
                if found.setdefault(name, what) != ACTED_ON and what == ACTED_ON:
                    found[name] = what
        return found

    def matrix_sizes(self) -> dict[str, int]:
        return {name: size for method in self.methods for name, size in method.matrix_sizes().items()}

    def on_switch(self) -> None:
        for method in self.methods:
            method.on_switch()

    def weights_replaced(self) -> None:
        for method in self.methods:
            method.weights_replaced()

    def scalars(self) -> dict[str, Tensor]:
        names = [m.name for m in self.methods]
        labels = [f"{n}.{names[:i].count(n) + 1}" if names.count(n) > 1 else n for i, n in enumerate(names)]
        parts = zip(labels, self.methods, strict=True)
        return {f"{label}.{key}": value for label, m in parts for key, value in m.scalars().items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{i}.{key}": t for i, m in enumerate(self.methods) for key, t in m.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._check(state)
        for method, part in self._parts(state):
            method.load_state_dict(part)

    def _check(self, state: dict[str, Tensor]) -> None:
        numbers = {str(i) for i in range(len(self.methods))}
        if odd := sorted(key for key in state if key.partition(".")[0] not in numbers):
            raise ValueError(f"{self.name}: this state is of another method or network (differs in: {', '.join(odd)})")
        for method, part in self._parts(state):
            method._check(part)

    def _parts(self, state: dict[str, Tensor]) -> list[tuple[Method, dict[str, Tensor]]]:
        """Each method with its part of the state."""
        numbered = [(f"{i}.", method) for i, method in enumerate(self.methods)]
        return [(m, {k.removeprefix(i): t for k, t in state.items() if k.startswith(i)}) for i, m in numbered]
