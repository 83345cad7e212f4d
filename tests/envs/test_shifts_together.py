"""Settings of all shifts, and any of them one after another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import event, given, settings
from hypothesis import strategies as st
from shift_site import CELLS, PIXELS, chain, real, site

from neoteny.envs import ConfigError
from neoteny.envs.shifts import SHIFTS, Shift, parse_shift


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("noise", "shift: 'noise' is not known; choose from dynamics, flip-reward"),
        ({"shift": "permute-obsrvation"}, "shift: .*did you mean 'permute-observation'?"),
        ({"std": 1}, "a shift is a name or a mapping with the key 'shift', got {'std': 1}"),
        ({"shift": "permute-action", "ramp": 9}, "permute-action.ramp: there is no such setting"),
        ({"shift": "offset-observation"}, "offset-observation.std: exactly one of std and value is needed"),
        (
            {"shift": "offset-observation", "std": 1, "value": 1},
            "offset-observation.std: exactly one of std and value is needed, got std=1.0, value=1.0",
        ),
        ({"shift": "offset-observation", "std": -1}, "offset-observation.std: .* equal to 0, got -1"),
        ({"shift": "offset-observation", "value": "x"}, "offset-observation.value: a number or a list .* got 'x'"),
        ({"shift": "offset-observation", "value": []}, "offset-observation.value: a number or a list"),
        ({"shift": "noise-observation", "std": -0.5}, "noise-observation.std: .* equal to 0, got -0.5"),
        ({"shift": "noise-observation", "std": float("nan")}, "noise-observation.std: .* finite number, got nan"),
        ({"shift": "noise-observation", "std": 1, "ramp": -1}, "noise-observation.ramp: .* equal to 0, got -1"),
        ({"shift": "noise-observation", "std": 1, "sd": 1}, "noise-observation.sd: .* std, ramp; did you mean 'std'?"),
        ({"shift": "scale-observation"}, "scale-observation.factor: this setting is required"),
        ({"shift": "scale-observation", "factor": [1, None]}, "scale-observation.factor: a number or a list"),
        ({"shift": "rotate-observation"}, "rotate-observation.scales: this setting is required"),
        ({"shift": "rotate-observation", "scales": "x"}, "rotate-observation.scales: a number or a list .* got 'x'"),
        ({"shift": "rotate-observation", "scales": 0}, "rotate-observation.scales: numbers other than 0 .*, got 0"),
        ({"shift": "rotate-observation", "scales": [1, 0]}, "rotate-observation.scales: numbers other than 0"),
        ({"shift": "rotate-observation", "scales": 1, "ramp": 9}, "rotate-observation.ramp: there is no such setting"),
        ({"shift": "sticky-actions", "probability": 1.5}, "sticky-actions.probability: .* equal to 1, got 1.5"),
        ({"shift": "sticky-actions", "probability": -0.5}, "sticky-actions.probability: .* equal to 0, got -0.5"),
        ({"shift": "slip", "probability": 1.01}, "slip.probability: .* equal to 1, got 1.01"),
        ({"shift": "slip", "probability": 1, "among": [0, 0]}, "slip.among: one or more different actions are needed"),
        ({"shift": "slip", "probability": 1, "among": []}, "slip.among: one or more different actions are needed"),
        ({"shift": "scale-reward", "factor": float("inf")}, "scale-reward.factor: .* finite number, got inf"),
        ({"shift": "goal", "goal": 1.5}, "goal.goal: .* integer"),
        ({"shift": "dynamics", "set": {}}, "dynamics.set: one or more parameters are needed"),
        ({"shift": "dynamics", "set": {"g": "x"}}, "dynamics.set.g: a number or a distribution .* got 'x'"),
        ({"shift": "dynamics", "set": {"g": {"uniform": [2, 1]}}}, "dynamics.set.g: uniform takes the lower bound"),
        ({"shift": "dynamics", "set": {"g": {"log-uniform": [0, 1]}}}, "dynamics.set.g: log-uniform takes positive"),
        ({"shift": "dynamics", "set": {"g": {"log-uniform": [2, 1]}}}, "dynamics.set.g: log-uniform takes the lower"),
        ({"shift": "dynamics", "set": {"g": {"normal": [0, -1]}}}, "dynamics.set.g: normal takes a standard deviation"),
        ({"shift": "dynamics", "set": {"g": {"normal": [0]}}}, "dynamics.set.g: normal takes 2 numbers, got "),
        ({"shift": "dynamics", "set": {"g": {"choice": []}}}, "dynamics.set.g: choice takes at least one number"),
        ({"shift": "dynamics", "set": {"g": {"per-seed": [1]}}}, "dynamics.set.g: per-seed takes a list of numbers"),
        ({"shift": "dynamics", "set": {"g": {"per-seed": [[1], []]}}}, "dynamics.set.g: per-seed takes a list of"),
        ({"shift": "dynamics", "set": {"g": {"per-seed": [[1, "x"]]}}}, "dynamics.set.g: per-seed takes finite .* 'x'"),
        ({"shift": "dynamics", "set": {"g": {"per-seed": "no.csv"}}}, "dynamics.set.g: no.csv cannot be read"),
        ({"shift": "dynamics", "set": {"g": {"per-sed": [[1]]}}}, "dynamics.set.g: a number or a distribution"),
        ({"shift": "dynamics", "set": {"g": {"unifrom": [1, 2]}}}, "dynamics.set.g: .* did you mean 'uniform'?"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(written: object, message: str) -> None:
    pattern = message.replace(".", r"\.").replace(r"\.*", ".*").replace("?", r"\?").replace("{", r"\{")
    with pytest.raises(ConfigError, match=f"^{pattern}"):
        parse_shift(written)


def test_shifts_alone_need_neither_torch_nor_mujoco() -> None:
    code = (
        "import sys, types; envs = types.ModuleType('neoteny.envs'); envs.__path__ = [sys.argv[1]]\n"
        "sys.modules['neoteny.envs'] = envs; import neoteny.envs.shifts\n"
        "print({'torch', 'stable_baselines3', 'mujoco', 'pygame', 'minigrid'} & set(sys.modules))"
    )
    folder = Path(__file__).parents[2] / "envs"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


# Any shifts, one after another, on any space

finite = st.floats(-100, 100, width=32).map(lambda value: value + 0.0)  # no −0: numpy samples nothing from [0, −0]
sizes = finite.filter(lambda value: abs(value) > 0.01)
ramps = st.sampled_from([0, 1, 40, 1000])
probabilities = st.floats(0, 1)
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "permute-observation": {},
    "rotate-observation": {"scales": sizes | st.lists(sizes, min_size=3, max_size=3)},
    "offset-observation": {"value": finite | st.lists(finite, min_size=3, max_size=3), "ramp": ramps},
    "noise-observation": {"std": st.floats(0, 50), "ramp": ramps},
    "scale-observation": {"factor": finite | st.lists(finite, min_size=3, max_size=3), "ramp": ramps},
    "permute-action": {},
    "sticky-actions": {"probability": probabilities, "ramp": ramps},
    "slip": {"probability": probabilities, "among": st.none() | st.just([1, 2]), "ramp": ramps},
    "scale-reward": {"factor": finite, "ramp": ramps},
    "flip-reward": {"ramp": ramps},
    "goal": {"goal": st.integers(0, 3)},
    "dynamics": {"set": st.just({"gravity": {"uniform": [1, 2]}, "length": 3}), "ramp": ramps},
}
DRAWN_OFFSET = st.fixed_dictionaries({"shift": st.just("offset-observation"), "std": st.floats(0, 9), "ramp": ramps})
shifts = st.one_of(
    DRAWN_OFFSET,
    *(st.fixed_dictionaries({"shift": st.just(name), **options}) for name, options in OPTIONS.items()),
).map(parse_shift)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    """Real-valued, with equal or different bounds, each of them finite or not."""
    shape = draw(st.sampled_from([(3,), (2, 3)]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    alike = draw(st.booleans())
    ends = [sorted([draw(finite), draw(finite)]) for _ in range(1 if alike else int(np.prod(shape)))]
    open_below, open_above = draw(st.booleans()), draw(st.booleans())
    low, high = np.broadcast_to(np.array(ends).T[:, :, None], (2, len(ends), 6 // len(ends)))
    size = int(np.prod(shape))
    low = np.full(size, -np.inf) if open_below else low.reshape(-1)[:size]
    high = np.full(size, np.inf) if open_above else high.reshape(-1)[:size]
    return real(low.reshape(shape), high.reshape(shape), dtype)


actions = st.sampled_from(
    [
        spaces.Discrete(4),
        spaces.Discrete(3, start=1),
        spaces.Box(-1, 1, (3,)),
        real([-1, 0], [1, 9]),
        spaces.MultiBinary(3),
    ]
)


def batch(space: spaces.Space[Any], n: int) -> np.ndarray:
    """Samples, and in a Box also its extreme corners."""
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Box):
        samples[:2] = [np.where(np.isfinite(b), b, 0).clip(space.low, space.high).astype(space.dtype)
                       for b in (space.low, space.high)]  # fmt: skip
    values = np.stack(samples)
    values.flags.writeable = False  # whoever writes into what they are given raises
    return values


def play(fitting: list[Shift], observed: Any, acted: Any, seed: int) -> list[Any]:
    """A few steps at random, held to the declared spaces; everything that happened."""
    n = 4
    where = site(observed, acted, num_envs=n, seed=seed, noise=seed, parameter=lambda name: 1.0)
    transforms, declared = chain(fitting, where)
    for space in (observed, acted, declared):
        space.seed(seed)
    assert declared.sample() in declared
    happened: list[Any] = []
    for where.clock.steps in (0, 4, 20, 39, 40, 990, 2000):
        observations = shown = batch(observed, n)
        chosen = done = batch(acted, n)
        rewards = np.linspace(-1, 1, n)
        for transform in transforms:
            shown = transform.observation(shown)
            rewards = transform.reward(rewards)
        for transform in reversed(transforms):
            done = transform.action(done)
        assert (shown.shape, shown.dtype) == (observations.shape, observations.dtype)
        assert (done.shape, done.dtype) == (chosen.shape, chosen.dtype)
        assert all(observation in declared for observation in shown), (shown, declared)
        assert all(action in acted for action in done), (done, acted)
        assert np.isfinite(rewards).all()
        for transform in transforms:
            if transform.restart:
                transform.restart(np.arange(n) % 2 == 0)
        parameters = [transform.parameters() for transform in transforms if transform.parameters]
        happened.append([shown.tolist(), done.tolist(), rewards.tolist(), parameters])
    return happened


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.lists(shifts, max_size=5),
    boxes() | st.sampled_from([PIXELS, CELLS, spaces.Discrete(5)]),
    actions,
    st.integers(0, 99),
)
def test_shifts_never_leave_the_declared_spaces(drawn: list[Shift], observed: Any, acted: Any, seed: int) -> None:
    fitting: list[Shift] = []
    refused: list[tuple[str, str]] = []
    for shift in drawn:
        try:
            chain([*fitting, shift], site(observed, acted, seed=seed, parameter=lambda name: 1.0))
        except ConfigError as error:
            refused.append((shift.name, str(error)))
        else:
            fitting.append(shift)
    assert all(message.startswith(name) for name, message in refused)
    event(f"{len(fitting)} shifts fit, {len(refused)} do not")
    before: Any = np.random.get_state()  # noqa: NPY002
    first = play(fitting, observed, acted, seed)
    assert play(fitting, observed, acted, seed) == first
    after: Any = np.random.get_state()  # noqa: NPY002
    assert (before[1] == after[1]).all()
    assert before[2:] == after[2:]


def test_every_shift_is_among_those_composed() -> None:
    assert set(OPTIONS) == set(SHIFTS)
