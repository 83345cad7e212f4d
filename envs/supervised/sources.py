"""Where examples come from: formats in which data is published, and where to get it."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs.supervised.data import Array, Data, prepared

STRICT = ConfigDict(extra="forbid")
#: What reading a damaged file, packed or not, may raise.
DAMAGED = (OSError, EOFError, ValueError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error)
#: x, y, and both of the test examples.
Raw = tuple[Array, Array, Array | None, Array | None]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Source:
    """Data on disk. Subclasses read a format.

    Attributes:
        samples: training examples that are used, drawn by the seed of the tasks; null for all.
        test_samples: the same of test examples.
    """

    name: ClassVar[str]

    samples: PositiveInt | None = None
    test_samples: PositiveInt | None = None

    def read(self) -> Raw:
        """The raw arrays, see :func:`~neoteny.envs.supervised.data.prepared`.

        Raises:
            ConfigError: a file is missing or damaged; the message says where to get it.
        """
        raise NotImplementedError

    def load(self, seed: int) -> Data:
        """The examples that are used.

        Raises:
            ConfigError: there are not so many, or what :meth:`read` raises.
        """
        return _load(self, seed)

    def plain(self) -> dict[str, Any]:
        return {"format": self.name, **{key: getattr(self, key) for key in configs.fields(type(self))}}


@lru_cache(maxsize=4)
def _load(source: Source, seed: int) -> Data:
    x, y, test_x, test_y = source.read()
    every_y = y
    x, y = _some("samples", source.samples, seed, x, y)
    if test_x is not None and test_y is not None:
        test_x, test_y = _some("test_samples", source.test_samples, seed, test_x, test_y)
    return prepared(x, y, test_x, test_y, every_y)


def _some(setting: str, count: int | None, seed: int, x: Array, y: Array) -> tuple[Array, Array]:
    if count is None:
        return x, y
    if count > len(x):
        raise ConfigError(f"data.{setting}: there are {len(x):,} examples, and {count:,} are asked for")
    chosen = np.sort(np.random.default_rng([seed, 0]).permutation(len(x))[:count])
    return x[chosen], y[chosen]


def _bytes(path: Path, hint: str) -> bytes:
    """The content of a file, or of the same with ``.gz``.

    Raises:
        ConfigError: it is not there, or cannot be read.
    """
    packed = path.with_name(path.name + ".gz")
    try:
        if path.is_file():
            return path.read_bytes()
        return gzip.decompress(packed.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"data: {path} is not there. {hint}") from error
    except DAMAGED as error:
        raise ConfigError(f"data: {path}: cannot be read ({error})") from error


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Digits(Source):
    """scikit-learn's handwritten digits: 1,797 pictures of 8×8; every fifth is a test example."""

    name: ClassVar[str] = "digits"

    def read(self) -> Raw:
        # Its file alone: importing the package takes seconds, half as long as a run of fourteen tasks.
        if (package := find_spec("sklearn")) is None or package.origin is None:
            raise ConfigError(
                "data: digits are scikit-learn's, which is not installed: pip install 'neoteny[supervised]'"
            )
        file = Path(package.origin).with_name("datasets") / "data" / "digits.csv"
        lines = _bytes(file, "This scikit-learn has its digits elsewhere.").decode().splitlines()
        rows = np.loadtxt(lines, delimiter=",")
        images, targets = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
        test = np.arange(len(targets)) % 5 == 4
        return images[~test], targets[~test], images[test], targets[test]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Idx(Source):
    """MNIST's format: four IDX files, packed by gzip or not.

    Attributes:
        folder: where they are.
    """

    name: ClassVar[str] = "idx"

    folder: str

    def read(self) -> Raw:
        kinds = ("images-idx3", "labels-idx1")
        x, y, test_x, test_y = (self._array(f"{part}-{kind}-ubyte") for part in ("train", "t10k") for kind in kinds)
        return x, y, test_x, test_y

    def _array(self, name: str) -> Array:
        hint = (
            "Fashion-MNIST: apt-get install dataset-fashion-mnist, or put its four files (train-images-idx3-ubyte.gz, "
            "… from https://github.com/zalandoresearch/fashion-mnist) into a folder, and name it: --data FOLDER"
        )
        path = Path(self.folder) / name
        data = _bytes(path, hint)
        try:
            zeros, kind, dimensions = struct.unpack(">HBB", data[:4])
            shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
            array = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
        except (struct.error, ValueError) as error:
            raise ConfigError(f"data: {path} is no IDX file, or is damaged ({error})") from error
        if (zeros, kind) != (0, 8):
            raise ConfigError(f"data: {path} is no IDX file of bytes")
        return array


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Cifar10(Source):
    """CIFAR-10's binary version: five files of training examples and one of test examples.

    Attributes:
        folder: where they are.
    """

    name: ClassVar[str] = "cifar10"
    files: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = (
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
    )
    labels: ClassVar[int] = 1
    archive: ClassVar[str] = "cifar-10-binary.tar.gz"

    folder: str = "cifar-10-batches-bin"

    def read(self) -> Raw:
        (x, y), (test_x, test_y) = (self._part(names) for names in self.files)
        return x, y, test_x, test_y

    def _part(self, names: tuple[str, ...]) -> tuple[Array, Array]:
        """Each record is its labels, of which the last counts, and 3×32×32 bytes."""
        hint = (
            f"Get https://www.cs.toronto.edu/~kriz/{self.archive} (the binary version), unpack it, and name its "
            "folder: --data.folder FOLDER"
        )
        size = self.labels + 3072
        data = b"".join(_bytes(Path(self.folder) / name, hint) for name in names)
        if len(data) % size or not data:
            raise ConfigError(f"data: {self.folder}: {', '.join(names)}: records of {size} bytes are expected")
        records = np.frombuffer(data, np.uint8).reshape(-1, size)
        return records[:, self.labels :].reshape(-1, 3, 32, 32), records[:, self.labels - 1]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Cifar100(Cifar10):
    """CIFAR-100's binary version, with its 100 fine classes.

    Attributes:
        folder: where its two files are.
    """

    name: ClassVar[str] = "cifar100"
    files: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = (("train.bin",), ("test.bin",))
    labels: ClassVar[int] = 2
    archive: ClassVar[str] = "cifar-100-binary.tar.gz"

    folder: str = "cifar-100-binary"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Npz(Source):
    """An .npz file with ``x`` and ``y``, and perhaps ``test_x`` and ``test_y``.

    Attributes:
        file: the file.
    """

    name: ClassVar[str] = "npz"

    file: str

    def read(self) -> Raw:
        try:
            with np.load(self.file, allow_pickle=False) as arrays:
                if missing := {"x", "y"} - {*arrays}:
                    raise ConfigError(
                        f"data: {self.file} has no {min(missing)}; it has {', '.join(arrays) or 'nothing'}"
                    )
                if len(one := {"test_x", "test_y"} & {*arrays}) == 1:
                    raise ConfigError(f"data: {self.file} has {min(one)} alone; test_x and test_y go together")
                if {"test_x", "test_y"} <= {*arrays}:
                    return arrays["x"], arrays["y"], arrays["test_x"], arrays["test_y"]
                return arrays["x"], arrays["y"], None, None
        except FileNotFoundError as error:
            raise ConfigError(f"data: {self.file} is not there; an .npz file with x and y is expected") from error
        except ConfigError:
            raise
        except DAMAGED as error:
            why = "it is no .npz archive, or holds objects" if "pickle" in str(error) else " ".join(str(error).split())
            raise ConfigError(f"data: {self.file}: cannot be read ({why})") from error


#: All formats by their name in YAML.
SOURCES: dict[str, type[Source]] = {source.name: source for source in (Digits, Idx, Cifar10, Cifar100, Npz)}


def find_source(settings: Mapping[str, Any]) -> tuple[type[Source], dict[str, Any]]:
    """The class of the format that is named, and its settings.

    Raises:
        ConfigError: there is none.
    """
    rest = {key: value for key, value in settings.items() if key != "format"}
    return configs.choose("data.format", str(settings.get("format")), SOURCES), rest


def load_source(name: str) -> tuple[str, dict[str, Any]]:
    """Settings of data: a preset by name, a YAML file, an .npz file, or a folder of IDX files by path.

    Raises:
        ConfigError: there is none.
    """
    path = Path(name)
    if path.suffix == ".npz":
        return path.stem, {"format": "npz", "file": name}
    if path.is_dir():
        return path.resolve().name, {"format": "idx", "folder": name}
    return configs.load("data", name)
