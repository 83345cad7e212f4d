"""The optimizer of an agent's networks, configured by name and settings."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, get_type_hints

import torch
from pydantic import BeforeValidator, InstanceOf

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.plasticity.optimizers import OPTIMIZERS

#: Arguments that are not settings: they affect how torch's optimizers run, not the result, or are set elsewhere.
NOT_SETTINGS = ("params", "lr", "base", "foreach", "maximize", "capturable", "differentiable", "fused", "seed")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer by name. Subclasses, created by :func:`settings_of`, add its settings.

    Attributes:
        name: adam, muon, trac, upgd, or your own torch.optim.Optimizer as module:Class.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "arbitrary_types_allowed": True}

    name: str = "adam"

    @property
    def optimizer_class(self) -> type[torch.optim.Optimizer]:
        return configs.find_class("name", self.name, OPTIMIZERS, torch.optim.Optimizer)

    def policy_kwargs(self) -> dict[str, Any]:
        """Arguments of a stable-baselines3 policy. Adam runs fused: the same update in fewer, faster kernels."""
        cls = self.optimizer_class
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "name"}
        settings = {name: value for name, value in given.items() if (name, value) != ("eps", None)}
        if issubclass(cls, torch.optim.Adam):
            settings["fused"] = True
        return {"optimizer_class": cls, "optimizer_kwargs": settings}

    def with_eps(self, eps: float) -> OptimizerConfig:
        """The same optimizer; if it is Adam and its ε was not given, with this one."""
        unset = self.optimizer_class is torch.optim.Adam and getattr(self, "eps", eps) is None
        return dataclasses.replace(self, eps=eps) if unset else self  # type: ignore[call-arg]


@functools.cache
def settings_of(cls: type[torch.optim.Optimizer]) -> type[OptimizerConfig]:
    """The dataclass of an optimizer's settings: its constructor's keyword arguments, without the learning rate.

    Adam's ε is None unless given, for :meth:`OptimizerConfig.with_eps`.
    """
    hints = get_type_hints(cls.__init__)
    taken = inspect.signature(cls.__init__).parameters.values()
    fields = [
        (p.name, hints.get(p.name, Any), dataclasses.field(default=p.default))
        for p in list(taken)[1:]
        if p.name not in NOT_SETTINGS and p.default is not p.empty
    ]
    if cls is torch.optim.Adam:
        fields = [("eps", float | None, dataclasses.field(default=None)) if f[0] == "eps" else f for f in fields]
    return dataclasses.make_dataclass(cls.__name__, fields, bases=(OptimizerConfig,), frozen=True)


def parse_optimizer(value: object) -> OptimizerConfig:
    """An optimizer from YAML: its name, or a mapping of ``name`` and its settings.

    Raises:
        ConfigError: there is no optimizer of this name, or a setting is unknown or invalid.
    """
    if isinstance(value, OptimizerConfig):
        return value
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or "name" not in given:
        known = ", ".join(OPTIMIZERS)
        raise ConfigError(f"an optimizer is a name ({known}) or a mapping with the key 'name', got {value!r}")
    name = str(given["name"])
    cls = configs.find_class("name", name, OPTIMIZERS, torch.optim.Optimizer)
    config = configs.build(settings_of(cls), given, name)
    try:
        cls([torch.zeros(1, 1, requires_grad=True)], lr=1e-3, **config.policy_kwargs()["optimizer_kwargs"])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    return config


#: The type of an optimizer setting, parsed by :func:`parse_optimizer`.
OptimizerSetting = Annotated[InstanceOf[OptimizerConfig], BeforeValidator(parse_optimizer)]
#: Created without a trial optimizer, for which torch would load its compiler (about a second).
ADAM = settings_of(torch.optim.Adam)()
