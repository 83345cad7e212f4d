"""Continual SAC and its configuration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator
from pydantic.dataclasses import dataclass

from neoteny.agents.closed_form import ClosedForm
from neoteny.agents.config import STRICT, Network, OffPolicyConfig
from neoteny.agents.continual import Continual
from neoteny.agents.learners import SACUpdate
from neoteny.agents.networks import SoftActorCritic
from neoteny.agents.switch import ReplayAtSwitch


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SACAtSwitch(ReplayAtSwitch):
    """What SAC does at a switch.

    Attributes:
        exploration: restart resets a learned entropy coefficient to its initial value, and clears its optimizer state.
    """

    exploration: Literal["restart", "keep"] = "keep"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SACConfig(OffPolicyConfig):
    """Settings of :class:`SAC`, named as in stable-baselines3.

    Attributes:
        ent_coef: entropy coefficient: a number, auto to learn it starting at 1, auto_0.1 to learn it starting at 0.1.
        closed_form: compute updates in closed form where the network allows it; false for stable-baselines3's own,
            which are slower and differ by rounding.
        at_switch: what to do at a task switch.
    """

    policy: ClassVar[Any] = "SoftActorCritic"

    learning_rate: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = 3e-4
    network: Network = Network(hidden=(256, 256))
    buffer_size: PositiveInt = 1_000_000
    learning_starts: NonNegativeInt = 10_000
    batch_size: PositiveInt = 256
    tau: Annotated[float, Field(gt=0, le=1)] = 0.005
    train_freq: PositiveInt = 1
    ent_coef: float | str = "auto"
    closed_form: bool = True
    at_switch: SACAtSwitch = SACAtSwitch()

    @field_validator("ent_coef")
    @classmethod
    def _is_coefficient(cls, value: float | str) -> float | str:
        text = str(value)
        number = "1" if text == "auto" else text.removeprefix("auto_")
        try:
            positive = 0 < float(number) < float("inf")
        except ValueError:
            positive = False
        if not positive:
            raise ValueError(f"a positive number, auto or auto_<positive number> is needed, got {value!r}")
        return value


class SAC(ClosedForm, Continual, sb3.SAC):
    """Soft actor-critic (Haarnoja et al., 2018, arXiv 1812.05905) with plasticity methods.

    Takes every argument of ``stable_baselines3.SAC``, and those of :class:`~neoteny.agents.continual.Continual`.
    """

    Config: ClassVar[type] = SACConfig
    stock = sb3.SAC
    SwitchPolicy = SACAtSwitch
    needs = spaces.Box
    instead = "dqn or ppo"

    policy_aliases: ClassVar[dict[str, Any]] = {**sb3.SAC.policy_aliases, "SoftActorCritic": SoftActorCritic}

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.log_ent_coef is not None:
            self._initial_log_ent_coef = self.log_ent_coef.detach().clone()

    def make_update(self) -> SACUpdate:
        return SACUpdate(self)

    def restart_exploration(self) -> None:
        """Reset the entropy coefficient and its optimizer state, if it is learned."""
        if self.log_ent_coef is not None and self.ent_coef_optimizer is not None:
            with torch.no_grad():
                self.log_ent_coef.copy_(self._initial_log_ent_coef)
            self.ent_coef_optimizer.state.clear()
