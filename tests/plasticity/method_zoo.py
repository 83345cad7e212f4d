"""Settings with which each method does something within a few updates, and with which it never does."""

from __future__ import annotations

from typing import Any

from neoteny.plasticity import METHODS, Compose, Method, Penalty

PENALTIES = [name for name, cls in METHODS.items() if issubclass(cls, Penalty)]

#: For methods that are no penalty.
ACTING: dict[str, dict[str, Any]] = {
    "continual-backprop": {"replacement_rate": 0.2, "maturity": 1},
    "layer-reset": {"every": 2},
    "plasticity-injection": {"every": 2},
    "redo": {"every": 2, "tau": 0.8},
    "self-normalized-resets": {"every": 1, "patience": 1},
    "shrink-and-perturb": {"every": 2},
    "weight-clipping": {"kappa": 0.5},
}
IDLE: dict[str, dict[str, Any]] = {
    "continual-backprop": {"replacement_rate": 0.0},
    "layer-reset": {"every": 0},
    "normalize-and-project": {"every": 0},
    "plasticity-injection": {"every": 0},
    "redo": {"every": 0},
    "self-normalized-resets": {"every": 0},
    "shrink-and-perturb": {"every": 0},
    "spectral-norm": {"bound": float("inf")},
    "weight-clipping": {"kappa": float("inf")},
}
#: Methods that leave alone what is as it was when they were attached.
RETURNING = {"l2-init", "normalize-and-project", "wasserstein"}
#: Methods that act on units or heads that are in use, and so on nothing in a branch that no pass goes through.
IN_USE = {"continual-backprop", "layer-reset", "plasticity-injection", "redo", "self-normalized-resets"}


def make(name: str, idle: bool = False, **settings: Any) -> Method:
    """A method by its name; ``compose`` for all at once, ``a+b`` for two."""
    if name == "compose" or "+" in name:
        names = METHODS if name == "compose" else name.split("+")
        return Compose(methods=tuple(make(part, idle, **settings) for part in names))
    if name in PENALTIES:
        settings = {"strength": 0.0 if idle else 0.05} | settings
    else:
        settings = (IDLE if idle else ACTING).get(name, {}) | settings
    return METHODS[name](**settings)


def parts(method: Method) -> list[Method]:
    """Those that are composed; or the one."""
    return list(method.methods) if isinstance(method, Compose) else [method]
