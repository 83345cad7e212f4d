"""Examples as arrays."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from neoteny.configs import ConfigError

Array = np.ndarray[Any, Any]

#: How many channels pictures have.
CHANNELS = (1, 3, 4)


class Data(NamedTuple):
    """Training and test examples.

    Attributes:
        x: inputs, (n, features) or (n, channels, height, width) of float32.
        y: classes, (n) of int64 from 0 on; or numbers, (n, outputs) of float32, each of variance 1.
        test_x, test_y: the same of test examples; None where there are none, or where they would say nothing.
        outputs: of a network: the number of classes, or of the numbers.
    """

    x: Array
    y: Array
    test_x: Array | None
    test_y: Array | None
    outputs: int

    @property
    def has_classes(self) -> bool:
        return bool(self.y.dtype.kind == "i")

    def checked(self, shape: tuple[int, ...], outputs: int) -> Data:
        """The same, of the types that are promised above.

        Args:
            shape: of an input.
            outputs: of a network.

        Raises:
            ConfigError: the shapes or the classes are others.
        """
        if (self.test_x is None) != (self.test_y is None):
            raise ConfigError("test_x and test_y go together")
        x, y = self._checked("", self.x, self.y, shape, outputs)
        if self.test_x is None or self.test_y is None:
            return Data(x, y, None, None, self.outputs)
        return Data(x, y, *self._checked("test_", self.test_x, self.test_y, shape, outputs), self.outputs)

    def _checked(self, which: str, x: Array, y: Array, shape: tuple[int, ...], outputs: int) -> tuple[Array, Array]:
        wanted = () if self.has_classes else (outputs,)
        if x.shape[1:] != shape or y.shape[1:] != wanted or len(x) != len(y):
            needed = f"{('n', *shape)} and {('n', *wanted)} are needed".replace("'", "")
            raise ConfigError(f"{which}x has the shape {x.shape} and {which}y {y.shape}; {needed}")
        if self.has_classes and len(y) and not 0 <= y.min() <= y.max() < outputs:
            raise ConfigError(f"{which}y has others than the classes 0 to {outputs - 1}")
        kind = np.int64 if self.has_classes else np.float32
        return np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, kind)

    def with_labels(self, y: Array, test_y: Array | None) -> Data:
        """Other labels, and no test examples where these have none."""
        return self._replace(y=y, test_y=test_y, test_x=None if test_y is None else self.test_x)

    def fingerprint(self) -> str:
        """A hash of all of it."""
        found = hashlib.sha256()
        for array in self:
            if isinstance(array, np.ndarray):
                found.update(f"{array.dtype}{array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()[:12]


def prepared(x: Array, y: Array, test_x: Array | None, test_y: Array | None, every_y: Array) -> Data:
    """Raw arrays as examples: inputs of mean 0 and variance 1 over the training examples, classes counted from 0.

    Pictures have one mean and one variance for each channel, vectors for each feature. What does not vary stays 0.

    Args:
        x, test_x: (n, features), (n, height, width) or (n, channels, height, width).
        y, test_y: classes, (n) or (n, 1), whole numbers; or real numbers, (n) or (n, outputs).
        every_y: also of training examples that are not used; says which classes there are.

    Raises:
        ConfigError: the shapes do not go together, a number is not finite, or a test class is in no training example.
    """
    _check("", x, y)
    if test_x is not None and test_y is not None:
        _check("test_", test_x, test_y)
        if test_x.shape[1:] != x.shape[1:] or test_y.shape[1:] != y.shape[1:]:
            raise ConfigError(
                f"data: test examples have the shapes {test_x.shape} and {test_y.shape}, others than x and y"
            )
    x = x[:, None] if x.ndim == 3 else x
    test_x = test_x[:, None] if test_x is not None and test_x.ndim == 3 else test_x
    over = (0,) if x.ndim == 2 else (0, 2, 3)
    x, test_x = _standardized("x", x, test_x, over)
    if y.dtype.kind in "iub" and y.shape[1:] == (1,):
        y, every_y, test_y = y[:, 0], every_y[:, 0], None if test_y is None else test_y[:, 0]
    if y.dtype.kind in "iub" and y.ndim == 1:
        classes = np.unique(every_y)
        test = None if test_y is None else _places(test_y, classes)
        return Data(x, _places(y, classes), test_x, test, len(classes))
    y = y[:, None] if y.ndim == 1 else y
    test_y = test_y[:, None] if test_y is not None and test_y.ndim == 1 else test_y
    y, test_y = standardized(y, test_y)
    return Data(x, y, test_x, test_y, y.shape[1])


def _check(which: str, x: Array, y: Array) -> None:
    """Raises:
    ConfigError: these cannot be examples.
    """
    if x.ndim not in (2, 3, 4) or y.ndim not in (1, 2) or len(x) != len(y) or not x.size:
        raise ConfigError(f"data: {which}x has the shape {x.shape} and {which}y {y.shape}; (n, …) and (n) are needed")
    for name, array in ((f"{which}x", x), (f"{which}y", y)):
        if array.dtype.kind not in "iubf":
            raise ConfigError(f"data: {name} is of {array.dtype}; numbers are needed, of classes too")
        if not np.isfinite(array).all():
            raise ConfigError(f"data: {name} has entries that are not finite numbers")
    if x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
        raise ConfigError(f"data: {which}x has the shape {x.shape}; channels come first: x.transpose(0, 3, 1, 2)")
    if y.dtype.kind in "iub" and y.ndim == 2 and y.shape[1] > 1 and (np.sort(y) == [0] * (y.shape[1] - 1) + [1]).all():
        raise ConfigError(f"data: {which}y has one-hot rows; classes are needed, (n): y.argmax(1)")


def _places(y: Array, classes: Array) -> Array:
    """Classes, counted from 0."""
    if unknown := sorted({*y.tolist()} - {*classes.tolist()}):
        raise ConfigError(f"data: class {unknown[0]} is in the test examples and in no training example")
    return np.searchsorted(classes, y).astype(np.int64)


def standardized(y: Array, test_y: Array | None) -> tuple[Array, Array | None]:
    """Targets of mean 0 and variance 1 over the training examples, (n, outputs) of float32."""
    return _standardized("y", y, test_y, (0,))


def _standardized(name: str, train: Array, test: Array | None, over: tuple[int, ...]) -> tuple[Array, Array | None]:
    """Of mean 0 and variance 1 over the training examples, computed in float64; what is constant there is 0.

    Raises:
        ConfigError: the numbers are too large.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        least, most = train.min(over, keepdims=True), train.max(over, keepdims=True)
        mean = np.where(least == most, least, train.mean(over, keepdims=True, dtype=np.float64))
        std = np.where(least == most, 1.0, train.std(over, keepdims=True, dtype=np.float64))
        found = ((train - mean) / std).astype(np.float32)
        of_test = None if test is None else ((test - mean) / std).astype(np.float32)
    if not np.isfinite(found).all() or (of_test is not None and not np.isfinite(of_test).all()):
        raise ConfigError(f"data: {name} has numbers that are too large to be standardized")
    return found, of_test
