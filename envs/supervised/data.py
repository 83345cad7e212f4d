"""Examples as arrays."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from neoteny.configs import ConfigError

Array = np.ndarray[Any, Any]


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
        y, test_y: classes, (n), whole numbers; or real numbers, (n) or (n, outputs).
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
    x = x.astype(np.float32)
    mean, std = x.mean(over, keepdims=True, dtype=np.float64), x.std(over, keepdims=True, dtype=np.float64)
    std[std == 0] = 1.0
    x = ((x - mean) / std).astype(np.float32)
    test_x = None if test_x is None else ((test_x - mean) / std).astype(np.float32)
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
        if array.dtype.kind not in "iubf" or not np.isfinite(array).all():
            raise ConfigError(f"data: {name} has entries that are not finite numbers")


def _places(y: Array, classes: Array) -> Array:
    """Classes, counted from 0."""
    if unknown := sorted({*y.tolist()} - {*classes.tolist()}):
        raise ConfigError(f"data: class {unknown[0]} is in the test examples and in no training example")
    return np.searchsorted(classes, y).astype(np.int64)


def standardized(y: Array, test_y: Array | None) -> tuple[Array, Array | None]:
    """Targets of mean 0 and variance 1 over the training examples, (n, outputs) of float32."""
    mean, std = y.mean(0, dtype=np.float64), y.std(0, dtype=np.float64)
    std[std == 0] = 1.0
    test = None if test_y is None else ((test_y - mean) / std).astype(np.float32)
    return ((y - mean) / std).astype(np.float32), test
