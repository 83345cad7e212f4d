"""Reading and changing the parameters of any environment by name."""

from __future__ import annotations

import inspect
import numbers
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv

from neoteny.configs import ConfigError, suggestion
from neoteny.envs.shifts.base import Array

#: Initial masses, inertias and gears of MuJoCo models, by environment.
_BUILT: weakref.WeakKeyDictionary[Any, dict[str, Array]] = weakref.WeakKeyDictionary()


def _is_mujoco(env: Any) -> bool:
    return type(getattr(env, "model", None)).__module__.startswith("mujoco")


def _built(env: Any, field: str) -> Array:
    """The array ``field`` of the model, as it was at the first call."""
    arrays = _BUILT.setdefault(env, {})
    return arrays.setdefault(field, getattr(env.model, field).copy())


def _factor(env: Any, field: str) -> float:
    """The factor on the entries of ``field`` since the model was built."""
    built = _built(env, field)
    entry = np.unravel_index(np.abs(built).argmax(), built.shape)
    return float(getattr(env.model, field)[entry] / built[entry])


def _multiply(env: Any, field: str, factor: float) -> None:
    getattr(env.model, field)[:] = factor * _built(env, field)


def _set_gravity(env: Any, value: float) -> None:
    env.model.opt.gravity[2] = -value


def _set_friction(env: Any, value: float) -> None:
    env.model.geom_friction[:, 0] = value


def _set_mass(env: Any, factor: float) -> None:
    import mujoco

    _multiply(env, "body_mass", factor)
    _multiply(env, "body_inertia", factor)
    # Recompute quantities that the model derives from the masses, without touching the running state.
    mujoco.mj_setConst(env.model, mujoco.MjData(env.model))


#: Parameters of MuJoCo environments, each with a function to read and one to set it.
MUJOCO: dict[str, tuple[Callable[[Any], float], Callable[[Any, float], None]]] = {
    "actuator_strength": (
        lambda env: _factor(env, "actuator_gear"),
        lambda env, factor: _multiply(env, "actuator_gear", factor),
    ),
    "friction": (lambda env: float(env.model.geom_friction[:, 0].max()), _set_friction),
    "gravity": (lambda env: -float(env.model.opt.gravity[2]), _set_gravity),
    "mass": (lambda env: _factor(env, "body_mass"), _set_mass),
}

#: Attributes that CartPole computes from its parameters in its constructor.
CARTPOLE_DERIVED: dict[str, Callable[[Any], float]] = {
    "total_mass": lambda env: env.masspole + env.masscart,
    "polemass_length": lambda env: env.masspole * env.length,
}


def _derived(env: Any) -> dict[str, Callable[[Any], float]]:
    return CARTPOLE_DERIVED if isinstance(env, CartPoleEnv | CartPoleVectorEnv) else {}


def parameters(env: Any) -> list[str]:
    """The names of all parameters of an environment: public attributes that are numbers, and MuJoCo's."""

    def is_number(name: str) -> bool:
        value = inspect.getattr_static(env, name)  # runs no property: reading np_random would seed the environment
        return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)

    public = {name for name in dir(env) if not name.startswith("_") and is_number(name)}
    return sorted((public - set(_derived(env))) | (set(MUJOCO) if _is_mujoco(env) else set()))


def _check(env: Any, name: str) -> None:
    known = parameters(env)
    if name not in known:
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigError(f"{type(env).__name__} has no parameter {name!r}; {listed}{suggestion(name, known)}")


def get_parameter(env: Any, name: str) -> float:
    """The current value of a parameter of an unwrapped environment or vector environment.

    The parameters of every environment are its public attributes that are numbers. MuJoCo environments also have
    ``gravity`` (m/s², downwards), ``friction`` (the sliding friction coefficient of all geoms; the largest one is
    read), ``actuator_strength`` and ``mass`` (factors on the gears of the actuators, and on masses and inertias of the
    bodies; 1 is the initial model).

    Raises:
        ConfigError: the environment has no such parameter. The message lists the others.
    """
    _check(env, name)
    return MUJOCO[name][0](env) if name in MUJOCO and _is_mujoco(env) else getattr(env, name)


def set_parameters(env: Any, values: Mapping[str, float]) -> None:
    """Change parameters of an unwrapped environment or vector environment, see :func:`get_parameter`.

    CartPole's derived attributes are updated. An integer parameter stays an integer if the new value is one.

    Raises:
        ConfigError: the environment has no such parameter. The message lists the others.
    """
    for name, value in values.items():
        _check(env, name)
        if name in MUJOCO and _is_mujoco(env):
            MUJOCO[name][1](env, value)
        else:
            whole = isinstance(getattr(env, name), numbers.Integral) and float(value).is_integer()
            setattr(env, name, int(value) if whole else value)
    for name, derive in _derived(env).items():
        setattr(env, name, derive(env))
