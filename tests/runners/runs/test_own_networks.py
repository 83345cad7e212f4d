"""Networks of one's own: what goes, and what is refused by name before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from neoteny.runners import continual_supervised

SMALL = "--data.samples 65 --num-tasks 2 --epochs 1".split()
NETWORKS = """
import torch
from torch import nn

class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)), x

def linear(shape, outputs, inputs=64):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))

def squeezed(shape, outputs):
    return nn.Sequential(linear(shape, outputs), nn.Flatten(0))

def few(shape, outputs):
    return linear(shape, outputs - 1)

def pair(shape, outputs):
    return Pair(64, outputs)

def not_flat(shape, outputs):
    return nn.Linear(64, outputs)

def double(shape, outputs):
    return linear(shape, outputs).double()

def frozen(shape, outputs):
    return linear(shape, outputs).requires_grad_(False)

def lazy(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))

def raises(shape, outputs):
    return {}["missing"]

def normed(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, outputs))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run with a network of these; the exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_networks.py").write_text(NETWORKS)

    def run(name: str, *more: str) -> tuple[int | str | None, str]:
        argv = ["--net", f"own_networks:{name}", *SMALL, *more]
        try:
            code: int | str | None = continual_supervised.main(argv)
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("squeezed", ["--change", "random-teachers"], "net: of 1 examples (1, 1) numbers are needed, it gives (1,)"),
        ("few", [], "net: of 1 examples (1, 10) numbers are needed, it gives (1, 9)"),
        ("pair", [], "(1, 10) numbers are needed, it gives tuple"),
        (
            "not_flat",
            [],
            "net: it cannot learn from a minibatch of 1 of the 65 examples (--net.batch_size 32)",
        ),
        ("double", [], "net: it cannot learn from a minibatch of 1"),
        ("frozen", [], "does not require grad"),
        ("raises", [], "net.network: 'own_networks:raises' makes none: KeyError: 'missing' ("),
        (
            "normed",
            [],
            "(--net.batch_size 32): ValueError: Expected more than 1 value",
        ),
    ],
)
def test_what_is_refused(name: str, more: list[str], said: str, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, error = run(name, *more)
    assert (code, said in error) == (2, True), error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_what_goes(run) -> None:  # type: ignore[no-untyped-def]
    assert run("linear")[0] == 0
    assert run("lazy", "--reg", "l2")[0] == 0
    assert run("normed", "--net.batch_size", "13")[0] == 0


@pytest.mark.full
def test_sizes_of_later_tasks_are_tried_too(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """With classes added a later task may leave one example over."""
    sizes = ["--data.samples", "256", "--change", "class-incremental", "--num-tasks", "5", "--tasks-seed", "5"]
    codes = {size: run("normed", *sizes, "--net.batch_size", str(size))[0] for size in (7, 8, 11, 23, 31)}
    assert {*codes.values()} == {0, 2}, codes
    assert len([*tmp_path.rglob("seed-0")]) == [*codes.values()].count(0)
