"""Data in the formats in which it is published, each in a tiny synthetic file, and what is said where it is missing."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs.supervised import SOURCES, sources
from neoteny.envs.supervised.sources import Cifar10, Cifar100, Digits, Idx, Npz, _load, find_source, load_source

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 4


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-mnist"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(PIXELS)))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(PIXELS[:4]))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:4])))
    return folder


def test_idx_files_packed_or_not(idx_folder: Path) -> None:
    name, settings = load_source(str(idx_folder))
    assert name == "tiny-mnist"
    cls, own = find_source(settings)
    data = configs.build(cls, own, "data").load(0)
    assert data.x.shape == (20, 1, 6, 5)
    assert np.allclose(data.x[:, 0] * PIXELS.std() + PIXELS.mean(), PIXELS, atol=1e-3)
    assert data.y.tolist() == LABELS.tolist()
    assert data.outputs == 4
    assert data.test_x is not None
    assert np.array_equal(data.test_x, data.x[:4])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "apt-get install dataset-fashion-mnist"),
        (lambda file: file.write_bytes(file.read_bytes()[:-3]), "is damaged"),
        (lambda file: file.write_bytes(b"\0\0\r" + file.read_bytes()[3:]), "no IDX file of bytes"),
        (lambda file: file.write_bytes(b""), "is damaged"),
    ],
)
def test_idx_files_that_are_missing_or_damaged(damage, said: str, idx_folder: Path) -> None:  # type: ignore[no-untyped-def]
    damage(idx_folder / "train-labels-idx1-ubyte")
    with pytest.raises(ConfigError, match="train-labels-idx1-ubyte") as error:
        Idx(folder=str(idx_folder)).load(0)
    assert said in str(error.value)


def test_a_damaged_gzip_is_said(idx_folder: Path) -> None:
    file = idx_folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="train-images-idx3-ubyte: cannot be read"):
        Idx(folder=str(idx_folder)).load(0)


def records(count: int, labels: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    pictures = RNG.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    fine = np.arange(count, dtype=np.uint8) % 10
    coarse = [np.full(count, 99, np.uint8)] * (labels - 1)
    return pictures, fine, np.column_stack([*coarse, fine, pictures.reshape(count, -1)]).astype(np.uint8).tobytes()


def test_cifar_of_both_kinds(tmp_path: Path) -> None:
    for number in range(1, 6):
        pictures, _, content = records(10, 1)
        (tmp_path / f"data_batch_{number}.bin").write_bytes(content)
    (tmp_path / "test_batch.bin").write_bytes(content)
    data = Cifar10(folder=str(tmp_path)).load(0)
    assert data.x.shape == (50, 3, 32, 32)
    assert data.y.tolist() == [*range(10)] * 5
    assert np.allclose(data.x.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(data.x.std((0, 2, 3)), 1, atol=1e-4)
    raw = pictures.astype(float)
    assert np.corrcoef(data.x[40:].ravel(), raw.ravel())[0, 1] > 0.999
    pictures, fine, content = records(10, 2)
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(content)
    assert Cifar100(folder=str(tmp_path)).load(0).y.tolist() == fine.tolist()
    (tmp_path / "train.bin").write_bytes(content[:-1])
    with pytest.raises(ConfigError, match=r"records of 3074 bytes"):
        Cifar100(folder=str(tmp_path), samples=5).load(0)


def test_a_missing_cifar_says_where_to_get_it() -> None:
    with pytest.raises(ConfigError, match=r"cifar-10-binary.tar.gz .*--data.folder"):
        Cifar10(folder="nowhere").load(0)


def test_npz_with_classes_of_any_names_and_with_numbers(tmp_path: Path) -> None:
    file = tmp_path / "my data.npz"
    np.savez(
        file, x=RNG.random((12, 3)), y=np.array([5, -1, 7] * 4), test_x=RNG.random((2, 3)), test_y=np.array([7, 5])
    )
    name, settings = load_source(str(file))
    assert (name, settings) == ("my data", {"format": "npz", "file": str(file)})
    data = Npz(file=str(file)).load(0)
    assert data.y.tolist() == [1, 0, 2] * 4
    assert data.test_y is not None
    assert data.test_y.tolist() == [2, 1]
    np.savez(file, x=RNG.random((12, 3)), y=RNG.random(12))
    data = Npz(file=str(file), samples=6).load(0)
    assert data.y.shape == (6, 1)
    assert data.test_x is None
    assert data.y.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((4, 2))}, "has no y"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, r"x has the shape \(4, 2\) and y \(3,\)"),
        ({"x": np.full((4, 2), np.nan), "y": np.zeros(4, int)}, "not finite numbers"),
        ({"x": np.zeros((4, 2), object), "y": np.zeros(4)}, "cannot be read"),
        ({"x": np.zeros((2, 2)), "y": [0, 1], "test_x": np.zeros((1, 2)), "test_y": [9]}, "class 9 is in the test"),
    ],
)
def test_npz_that_cannot_be_used(arrays: dict[str, object], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        Npz(file=str(tmp_path / "a.npz")).load(0)


def test_a_file_that_is_no_npz_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.npz is not there"):
        Npz(file=str(tmp_path / "a.npz")).load(0)
    (tmp_path / "a.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ConfigError, match="cannot be read"):
        Npz(file=str(tmp_path / "a.npz")).load(0)


def test_examples_are_chosen_by_the_tasks_seed_and_no_more_than_there_are() -> None:
    one, same, other = (Digits(samples=50).load(seed) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert len(one.x) == 50
    every, (x, y, test_x, test_y) = load_digits(), Digits().read()
    tests = np.arange(1797) % 5 == 4
    for mine, theirs in ((x, every.images[~tests]), (y, every.target[~tests]), (test_x, every.images[tests])):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(test_y, every.target[tests])
    with pytest.raises(ConfigError, match=r"samples: there are 1,438 examples, and 9,999 are asked for"):
        Digits(samples=9999).load(0)
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        find_source({"format": "digit"})
    assert {*SOURCES} == {"digits", "idx", "cifar10", "cifar100", "npz"}


def test_without_scikit_learn_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'neoteny\[supervised\]'"):
        Digits().read()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_whatever_the_damage_it_is_an_error_of_ours(kind: str, seed: int, idx_folder: Path) -> None:
    """Bytes changed and files cut, packed ones too: read as something else, or refused."""
    rng = random.Random(seed)
    npz = idx_folder / "a.npz"
    np.savez_compressed(npz, x=PIXELS, y=LABELS)
    source = Npz(file=str(npz)) if kind == "npz" else Idx(folder=str(idx_folder))
    file = npz if kind == "npz" else idx_folder / "train-images-idx3-ubyte.gz"
    whole, refused = file.read_bytes(), 0
    for _ in range(40):
        changed = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randint(0, 4) if changed else 0):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        file.write_bytes(changed)
        _load.cache_clear()
        try:
            source.load(0)
        except ConfigError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"test_x": PIXELS[:4, :3], "test_y": LABELS[:4]}, "test examples have the shapes"),
        ({"test_x": PIXELS[:4], "test_y": LABELS[:3]}, "test_x has the shape"),
        ({"test_x": PIXELS[:4] * np.nan, "test_y": LABELS[:4]}, "test_x has entries that are not finite numbers"),
        ({"y": np.full(20, np.inf)}, "y has entries that are not finite numbers"),
        ({"y": LABELS.astype(str)}, "y is of <U3; numbers are needed, of classes too"),
        ({"y": np.eye(10, dtype=int)[LABELS]}, r"y has one-hot rows; classes are needed, \(n\): y.argmax"),
        ({"x": np.zeros((20, 6, 6, 3))}, r"channels come first: x.transpose\(0, 3, 1, 2\)"),
        ({"x": PIXELS * 1e305}, "x has numbers that are too large"),
        ({"test_x": PIXELS[:4]}, "has test_x alone; test_x and test_y go together"),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, "x has the shape"),
        ({"y": LABELS[:, None, None]}, "x has the shape"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arrays_that_are_no_examples(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"x": PIXELS, "y": LABELS} | arrays)
    with pytest.raises(ConfigError, match=said):
        Npz(file=str(tmp_path / "a.npz")).load(0)


def test_classes_in_a_column_are_classes(tmp_path: Path) -> None:
    """As Keras has them."""
    np.savez(tmp_path / "a.npz", x=PIXELS, y=LABELS[:, None], test_x=PIXELS[:4], test_y=LABELS[:4, None])
    np.savez(tmp_path / "b.npz", x=PIXELS, y=LABELS, test_x=PIXELS[:4], test_y=LABELS[:4])
    one, other = (Npz(file=str(tmp_path / name)).load(0) for name in ("a.npz", "b.npz"))
    assert one.has_classes
    assert one.fingerprint() == other.fingerprint()


def test_small_differences_of_large_numbers_are_kept(tmp_path: Path) -> None:
    """Such as those of times in seconds, which float32 has not; and what does not differ stays 0."""
    x = np.stack([1.7e9 + 5 * np.arange(200), np.full(200, 0.1)], 1)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(200) % 2)
    found = Npz(file=str(tmp_path / "a.npz")).load(0).x
    steps = np.diff(found[:, 0])
    assert len(np.unique(found[:, 0])) == 200
    assert steps == pytest.approx(np.full(199, 5 / x[:, 0].std()), rel=1e-3)
    assert (found[:, 1] == 0).all()
