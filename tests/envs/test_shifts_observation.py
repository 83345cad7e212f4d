"""Offset, noise and scale: their numbers, their ramps, and the spaces they declare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from shift_site import CELLS, PIXELS, real, site

from neoteny.envs import ConfigError
from neoteny.envs.shifts import NoiseObservation, OffsetObservation, ScaleObservation, Shift

OBSERVATIONS = np.array([[1, -2, 0], [0.5, 4, -1]], np.float32)
BOX = real([-1, 0, -np.inf], [1, 2, np.inf])


def declared(shift: Shift, space: spaces.Box, **kwargs: Any) -> list[list[float]]:
    """The bounds of the space a shift declares."""
    found = shift.bind(site(space, **kwargs)).observation_space
    assert isinstance(found, spaces.Box)
    assert found.dtype == space.dtype
    assert not np.signbit(found.low[found.low == 0]).any()  # numpy samples nothing from [0, −0]
    assert not np.signbit(found.high[found.high == 0]).any()
    return [found.low.tolist(), found.high.tolist()]


def test_offset_is_added() -> None:
    each = OffsetObservation(value=(1, 2, -3)).bind(site()).observation(OBSERVATIONS)
    assert each.dtype == np.float32
    np.testing.assert_array_equal(each, [[2, 0, -3], [1.5, 6, -4]])
    all_alike = OffsetObservation(value=0.5).bind(site()).observation(OBSERVATIONS)
    np.testing.assert_array_equal(all_alike, [[1.5, -1.5, 0.5], [1, 4.5, -0.5]])


def test_offset_is_drawn_once_per_visit() -> None:
    drawn = np.random.default_rng(7).normal(0, 2.0, (3,)).astype(np.float32)
    where = site(seed=7)
    shift = OffsetObservation(std=2.0).bind(where)
    for steps in (0, 5):
        where.clock.steps = steps
        np.testing.assert_array_equal(shift.observation(OBSERVATIONS), OBSERVATIONS + drawn)
    other = OffsetObservation(std=2.0).bind(site(seed=8)).observation(OBSERVATIONS)
    assert (other != OBSERVATIONS + drawn).all()


def test_scale_multiplies() -> None:
    scaled = ScaleObservation(factor=(2, -1, 0)).bind(site()).observation(OBSERVATIONS)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, [[2, 2, 0], [1, -4, 0]])


def test_noise_comes_from_the_segments_generator_anew_at_every_step() -> None:
    where, twin = site(noise=3), site(noise=3)
    before = where.rng.bit_generator.state
    shift = NoiseObservation(std=0.5).bind(where)
    for _ in range(2):
        noise = twin.noise.standard_normal((2, 3), np.float32)
        noisy = shift.observation(OBSERVATIONS)
        assert noisy.dtype == np.float32
        np.testing.assert_array_equal(noisy, OBSERVATIONS + np.float32(0.5) * noise)
    assert where.rng.bit_generator.state == before  # what defines the task is not touched by chance


def test_noise_has_the_standard_deviation_it_says() -> None:
    noisy = NoiseObservation(std=3.0).bind(site()).observation(np.zeros((50_000, 3), np.float32))
    np.testing.assert_allclose(noisy.std(axis=0), 3.0, rtol=0.02)
    np.testing.assert_allclose(noisy.mean(axis=0), 0.0, atol=0.05)


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (OffsetObservation(value=8, ramp=400), [1, 3, 5, 9, 9]),
        (OffsetObservation(value=-8, ramp=400), [1, -1, -3, -7, -7]),
        (ScaleObservation(factor=5, ramp=400), [1, 2, 3, 5, 5]),
        (ScaleObservation(factor=-1, ramp=400), [1, 0.5, 0, -1, -1]),
        (OffsetObservation(value=8), [9, 9, 9, 9, 9]),
        (ScaleObservation(factor=5), [5, 5, 5, 5, 5]),
    ],
    ids=["offset", "offset-down", "scale", "scale-through-zero", "offset-abrupt", "scale-abrupt"],
)
def test_ramps(shift: Shift, expected: list[float]) -> None:
    where = site(real([-2], [2]))
    bound = shift.bind(where)
    space = bound.observation_space
    assert space is not None
    for where.clock.steps, value in zip((0, 100, 200, 400, 1000), expected, strict=True):
        assert bound.observation(np.ones((1, 1), np.float32)).tolist() == [[value]]
        for edge in (-2, 2):
            assert bound.observation(np.full((1, 1), edge, np.float32))[0] in space


def test_noise_ramps() -> None:
    where = site()
    bound = NoiseObservation(std=2.0, ramp=100).bind(where)
    spreads = []
    for where.clock.steps in (0, 25, 50, 100, 200):
        spreads.append(bound.observation(np.zeros((20_000, 3), np.float32)).std())
    assert spreads[0] == 0
    np.testing.assert_allclose(spreads[1:], [0.5, 1, 2, 2], rtol=0.03)


def test_a_ramp_is_monotone_and_never_beyond_its_ends() -> None:
    """Also where 0.1 and 1.7 have no exact binary form; float64, where the least rounding error would show."""
    for shift, least, most in (
        (ScaleObservation(factor=1.7, ramp=997), 0.1, 0.1 * 1.7),
        (OffsetObservation(value=0.7, ramp=997), 0.1, 0.1 + 0.7),
    ):
        where = site(real([0.1], [0.1], np.float64))
        bound = shift.bind(where)
        values = []
        for where.clock.steps in range(1000):
            values.append(bound.observation(np.full((1, 1), 0.1))[0])
        assert all(value in bound.observation_space for value in values)  # type: ignore[operator]
        assert (np.diff(np.ravel(values)) >= 0).all()
        assert (values[0], values[-1]) == (least, most)


def test_a_ramp_between_neighbouring_numbers_stays_between_them() -> None:
    """In float32, (1 − level) + level · factor is less than both 1 and this factor after 27 of 49 steps."""
    where = site(real([1], [1]), steps=27)
    bound = ScaleObservation(factor=1 - 2**-24, ramp=49).bind(where)
    assert bound.observation(np.ones((1, 1), np.float32))[0] in bound.observation_space  # type: ignore[operator]


INF = np.inf


@pytest.mark.parametrize(
    ("shift", "low", "high"),
    [
        (OffsetObservation(value=(3, -3, 5)), [2, -3, -INF], [4, -1, INF]),
        (OffsetObservation(value=(3, -3, 5), ramp=9), [-1, -3, -INF], [4, 2, INF]),
        (ScaleObservation(factor=(2, 3, 4)), [-2, 0, -INF], [2, 6, INF]),
        (ScaleObservation(factor=-2), [-2, -4, -INF], [2, 0, INF]),
        (ScaleObservation(factor=-2, ramp=9), [-2, -4, -INF], [2, 2, INF]),
        (ScaleObservation(factor=0.5, ramp=9), [-1, 0, -INF], [1, 2, INF]),
        (ScaleObservation(factor=0), [0, 0, 0], [0, 0, 0]),
        (NoiseObservation(std=1), [-INF] * 3, [INF] * 3),
    ],
    ids=["offset", "offset-ramp", "scale", "negative", "negative-ramp", "shrinking-ramp", "zero", "noise"],
)
def test_declared_space(shift: Shift, low: list[float], high: list[float]) -> None:
    assert declared(shift, BOX) == [low, high]


def test_a_drawn_offset_moves_the_bounds() -> None:
    drawn = np.random.default_rng(4).normal(0, 2.0, (3,)).astype(np.float32)
    assert declared(OffsetObservation(std=2.0), BOX, seed=4) == [
        (BOX.low + drawn).tolist(),
        (BOX.high + drawn).tolist(),
    ]


@pytest.mark.parametrize(
    ("shift", "pixel", "shown"),
    [
        (OffsetObservation(value=100), [0, 100, 200], [100, 200, 255]),
        (OffsetObservation(value=(-50, 0, 50.6)), [0, 100, 200], [0, 100, 251]),
        (ScaleObservation(factor=0.5), [0, 101, 255], [0, 50, 128]),  # halves go to the even number
        (ScaleObservation(factor=2), [0, 100, 200], [0, 200, 255]),
        (ScaleObservation(factor=-1), [0, 100, 200], [0, 0, 0]),
        (NoiseObservation(std=0), [0, 100, 200], [0, 100, 200]),
    ],
    ids=["offset", "offsets", "scale-down", "scale-up", "negative", "no-noise"],
)
def test_pixels_stay_pixels(shift: Shift, pixel: list[int], shown: list[int]) -> None:
    bound = shift.bind(site(PIXELS))
    assert bound.observation_space is None
    pixels = np.broadcast_to(np.array(pixel, np.uint8), (2, 2, 2, 3))
    seen = bound.observation(pixels)
    assert (seen.dtype, seen.shape) == (np.uint8, (2, 2, 2, 3))
    np.testing.assert_array_equal(seen, np.broadcast_to(np.array(shown), (2, 2, 2, 3)))


def test_noise_on_pixels_is_clipped_and_does_not_wrap() -> None:
    bound = NoiseObservation(std=20).bind(site(PIXELS))
    dark, bright = (bound.observation(np.full((500, 2, 2, 3), value, np.uint8)).astype(int) for value in (0, 255))
    assert dark.max() < 128 < bright.min()
    assert (dark == 0).mean() == pytest.approx(0.5, abs=0.03)


ALL = [OffsetObservation(value=1), OffsetObservation(std=1), NoiseObservation(std=1), ScaleObservation(factor=2)]


@pytest.mark.parametrize("shift", ALL, ids=["offset", "offset-drawn", "noise", "scale"])
def test_what_the_environment_holds_is_left_alone(shift: Shift) -> None:
    for space, observations in ((BOX, OBSERVATIONS), (PIXELS, np.full((2, *PIXELS.shape), 7, np.uint8))):
        held = observations.copy()
        held.flags.writeable = False
        shift.bind(site(space)).observation(held)
        np.testing.assert_array_equal(held, observations)


@pytest.mark.parametrize(
    ("space", "why"),
    [
        (CELLS, "integers of other bounds stand for kinds of things"),
        (spaces.Box(0, 9, (3,), np.int64), "integers of other bounds stand for kinds of things"),
        (spaces.Discrete(5), r"a Box observation of real numbers or pixels is needed, the task has Discrete\(5\)"),
        (
            spaces.MultiBinary(5),
            r"a Box observation of real numbers or pixels is needed, the task has MultiBinary\(5\)",
        ),
    ],
    ids=["cells", "integers", "discrete", "multi-binary"],
)
@pytest.mark.parametrize("shift", ALL, ids=["offset", "offset-drawn", "noise", "scale"])
def test_refused_where_nothing_can_be_calculated(shift: Shift, space: spaces.Space[Any], why: str) -> None:
    with pytest.raises(ConfigError, match=f"^{shift.name}: .*{why}"):
        shift.bind(site(space))


@pytest.mark.parametrize("setting", ["offset-observation.value", "scale-observation.factor"])
def test_a_list_of_another_length_is_refused(setting: str) -> None:
    shift = OffsetObservation(value=(1, 2)) if "offset" in setting else ScaleObservation(factor=(1, 2))
    with pytest.raises(ConfigError, match=rf"^{setting}: one number.*of shape \(3,\), is needed; got 2$"):
        shift.bind(site())
