"""Parameters of environments: that they are found, drawn, ramped, and that the physics obey."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from shift_site import site

from neoteny.envs import ConfigError
from neoteny.envs.shifts import Draw, Dynamics, get_parameter, parse_draw, parse_shift, set_parameters

CHANGED = {"gravity": 5.0, "masscart": 2.0, "masspole": 0.5, "length": 1.5, "force_mag": 20.0}


def dynamics(ramp: int = 0, **parameters: Any) -> Dynamics:
    shift = parse_shift({"shift": "dynamics", "set": parameters, "ramp": ramp})
    assert isinstance(shift, Dynamics)
    return shift


def own(name: str) -> float:
    """An environment whose parameters are 10, whatever they are called."""
    return 10.0


def cartpole_accelerations(theta: float, theta_dot: float, p: dict[str, float]) -> np.ndarray:
    """Of the cart and of the angle, from the equations of motion of a cart and a uniform pole of length 2 l.

    (M + m) x″ + m l cos θ θ″ = F + m l θ′² sin θ  and  m l cos θ x″ + 4/3 m l² θ″ = m g l sin θ.
    """
    ml = p["masspole"] * p["length"]
    mass = np.array(
        [
            [p["masscart"] + p["masspole"], ml * np.cos(theta)],
            [ml * np.cos(theta), 4 / 3 * ml * p["length"]],
        ]
    )
    force = [p["force_mag"] + ml * theta_dot**2 * np.sin(theta), ml * p["gravity"] * np.sin(theta)]
    return np.linalg.solve(mass, force)


def test_cartpole_moves_as_computed_by_hand() -> None:
    env: Any = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    set_parameters(env, CHANGED)
    env.state = np.array([0.0, 0.0, 0.1, 0.5])
    env.step(1)
    np.testing.assert_allclose(env.state[[1, 3]], [0, 0.5] + 0.02 * cartpole_accelerations(0.1, 0.5, CHANGED))


def test_vectorised_cartpole_moves_as_computed_by_hand() -> None:
    env: Any = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point").unwrapped
    env.reset(seed=0)
    set_parameters(env, CHANGED)
    env.state = np.array([[0, 0], [0, 0], [0.1, -0.05], [0.5, 0]])
    env.step(np.array([1, 1]))
    for i, (theta, theta_dot) in enumerate([(0.1, 0.5), (-0.05, 0.0)]):
        expected = [0, theta_dot] + 0.02 * cartpole_accelerations(theta, theta_dot, CHANGED)
        np.testing.assert_allclose(env.state[[1, 3], i], expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_one_parameter_changes_only_itself(name: str) -> None:
    env = gym.make("CartPole-v1").unwrapped
    before = {other: get_parameter(env, other) for other in CHANGED}
    set_parameters(env, {name: CHANGED[name]})
    assert {other: get_parameter(env, other) for other in CHANGED} == {**before, name: CHANGED[name]}


def test_any_number_of_an_environment_is_a_parameter() -> None:
    env: Any = gym.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    set_parameters(env, {"m": 2.0, "l": 0.5, "g": 3.0})
    env.state = np.array([0.3, 0.0])
    env.step(np.array([1.0], np.float32))
    # θ″ = 3 g / (2 l) sin θ + 3 / (m l²) u, and Δt = 0.05
    np.testing.assert_allclose(env.state[1], 0.05 * (3 * 3 / (2 * 0.5) * np.sin(0.3) + 3 / (2 * 0.25) * 1.0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gravty", r"CartPoleEnv has no parameter 'gravty'; it has force_mag, gravity, .*did you mean 'gravity'\?"),
        ("total_mass", r"CartPoleEnv has no parameter 'total_mass'"),  # it follows from the others
        ("np_random", r"CartPoleEnv has no parameter 'np_random'"),
        ("_sutton_barto_reward", r"CartPoleEnv has no parameter '_sutton_barto_reward'"),
    ],
)
def test_unknown_parameters_are_refused(name: str, message: str) -> None:
    env: Any = gym.make("CartPole-v1").unwrapped
    with pytest.raises(ConfigError, match=f"^{message}"):
        get_parameter(env, name)
    with pytest.raises(ConfigError, match=f"^{message}"):
        set_parameters(env, {name: 1.0})
    with pytest.raises(ConfigError, match=rf"^dynamics\.set: {message}"):
        dynamics(**{name: 1.0}).bind(site(parameter=lambda asked: get_parameter(env, asked)))
    assert env._np_random is None  # looking for parameters seeds nothing


def test_refused_where_the_backend_cannot() -> None:
    with pytest.raises(ConfigError, match=r"^dynamics\.set: gravity: this backend cannot change it"):
        dynamics(gravity=1).bind(site())


# What is drawn


def test_drawn_once_per_visit_in_order_of_names() -> None:
    shift = dynamics(
        b={"uniform": [1, 2]}, a={"normal": [0, 3]}, d={"choice": [4, 5, 6]}, c={"log-uniform": [0.1, 10]}, e=7
    )
    where = site(seed=5, parameter=own)
    bound = shift.bind(where)
    assert bound.parameters is not None
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 3), rng.uniform(1, 2)
    c = np.exp(rng.uniform(np.log(0.1), np.log(10)))
    d = [4, 5, 6][rng.integers(3)]
    for where.clock.steps in (0, 1000):
        assert bound.parameters() == pytest.approx({"a": a, "b": b, "c": c, "d": d, "e": 7}, rel=1e-12)
    assert where.rng.bit_generator.state == rng.bit_generator.state
    again, other = (shift.bind(site(seed=seed, parameter=own)).parameters for seed in (5, 6))
    assert again is not None
    assert other is not None
    assert again() == bound.parameters() != other()


def test_log_uniform_is_uniform_in_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    logs = np.log10([Draw("log-uniform", (0.02, 2)).sample(rng) for _ in range(4000)])
    assert np.log10(0.02) <= logs.min() < logs.max() <= np.log10(2)
    np.testing.assert_allclose(np.histogram(logs, 4)[0] / 4000, 0.25, atol=0.03)


def test_a_number_takes_nothing_from_the_generator() -> None:
    rng = np.random.default_rng(0)
    assert parse_draw(3).sample(rng) == 3
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_ramp_goes_from_the_environments_own_value_to_the_new_one() -> None:
    where = site(parameter=own)
    bound = dynamics(ramp=400, gravity=20, length=0).bind(where)
    assert bound.parameters is not None
    seen = []
    for where.clock.steps in (0, 100, 200, 400, 1000):
        seen.append(bound.parameters())
    assert [values["gravity"] for values in seen] == [10, 12.5, 15, 20, 20]
    assert [values["length"] for values in seen] == [10, 7.5, 5, 0, 0]


# MuJoCo


@pytest.fixture
def ant() -> Any:
    pytest.importorskip("mujoco")
    env = gym.make("Ant-v5").unwrapped
    env.reset(seed=0)
    return env


def lift(ant: Any, height: float) -> None:
    """The ant at rest, in its initial pose, moved to a height."""
    ant.set_state(np.concatenate([[0, 0, height], ant.init_qpos[3:]]), np.zeros(ant.model.nv))


def rest(ant: Any, seconds: float) -> None:
    for _ in range(round(seconds / ant.dt)):
        ant.step(np.zeros(8, np.float32))


def centre_of_mass(ant: Any) -> np.ndarray:
    import mujoco

    mujoco.mj_forward(ant.model, ant.data)
    return ant.data.subtree_com[0].copy()


def test_ant_as_built(ant: Any) -> None:
    built = {"gravity": 9.81, "friction": 1.0, "actuator_strength": 1.0, "mass": 1.0}
    assert {name: get_parameter(ant, name) for name in built} == pytest.approx(built)


@pytest.mark.parametrize("gravity", [9.81, 2.0])
def test_ant_falls_by_half_g_t_squared(ant: Any, gravity: float) -> None:
    set_parameters(ant, {"gravity": gravity})
    lift(ant, 20)
    before = centre_of_mass(ant)
    rest(ant, 1.0)
    np.testing.assert_allclose(
        before[2] - centre_of_mass(ant)[2], gravity / 2, atol=2e-3
    )  # the joints' armature takes some


def test_ant_slides_on_where_it_is_slippery(ant: Any) -> None:
    slid = {}
    for friction in (2.0, 0.02):
        set_parameters(ant, {"friction": friction})
        assert get_parameter(ant, "friction") == friction
        lift(ant, 0.5)
        rest(ant, 1.0)  # it lands, and is then pushed with 1 m/s
        ant.set_state(ant.data.qpos.copy(), np.eye(ant.model.nv)[0])
        start = centre_of_mass(ant)[0]
        rest(ant, 2.0)
        slid[friction] = centre_of_mass(ant)[0] - start
    assert 0 < slid[2.0] < 0.6
    assert 1.5 < slid[0.02] < 2


def test_ant_is_as_strong_as_it_says(ant: Any) -> None:
    for strength in (0.5, 2.0, 1.0):  # each a factor on what was built, not on the one before
        set_parameters(ant, {"actuator_strength": strength})
        assert get_parameter(ant, "actuator_strength") == strength
        ant.step(np.ones(8, np.float32))
        np.testing.assert_allclose(ant.data.qfrc_actuator[6:], 150 * strength)


def test_ant_is_as_heavy_as_it_says(ant: Any) -> None:
    lift(ant, 20)
    weight = ant.data.qfrc_bias[2]
    for factor in (3.0, 2.0):
        pose = ant.data.qpos.copy()
        set_parameters(ant, {"mass": factor})
        np.testing.assert_array_equal(ant.data.qpos, pose)
        centre_of_mass(ant)
        assert get_parameter(ant, "mass") == pytest.approx(factor)
        assert ant.data.qfrc_bias[2] == pytest.approx(factor * weight)
        assert ant.model.body_subtreemass[0] == pytest.approx(ant.model.body_mass.sum())


def test_two_environments_are_told_apart(ant: Any) -> None:
    other = gym.make("Ant-v5").unwrapped
    set_parameters(ant, {"gravity": 1.0, "actuator_strength": 3.0})
    assert get_parameter(other, "gravity") == 9.81
    assert get_parameter(other, "actuator_strength") == 1.0
