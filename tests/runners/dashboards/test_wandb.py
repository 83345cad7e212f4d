"""--wandb in its offline mode: what TensorBoard gets, the same run when it goes on, the same training."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse
from neoteny.runners.runs.recorder import Recorder

SEQUENCE = """
tasks:
  - {env: CartPole-v1, steps: 512}
  - {env: CartPole-v1, steps: 512, shifts: [{shift: dynamics, set: {length: 1.0}}]}
"""
SMALL = "--num-envs 4 --agent.n_steps 16 --agent.batch_size 64 --agent.network.hidden [8]".split()


class Killed(BaseException):
    """Stands for the process dying: nothing may catch it."""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "tiny.yaml").write_text(SEQUENCE)

    def make(out: str, *more: str) -> tuple[list[str], Path]:
        argv = ["--env", str(tmp_path / "tiny.yaml"), *SMALL, "--out", str(tmp_path / out), *more]
        return argv, parse(argv)[0].folder

    return make


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file of wandb's, a log of LevelDB's: blocks of 32 KiB, with parts of records in them."""
    place, parts = 7, b""  # wandb's own header
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows that wandb has kept of a folder's runs, of several processes, by step."""
    from wandb.proto import wandb_internal_pb2

    found: list[dict[str, Any]] = []
    for file in folder.glob("wandb/offline-run-*/*.wandb"):
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                found.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return sorted(found, key=lambda row: row["_step"])


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_a_run_is_mirrored_and_goes_on_under_its_id(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, plain = command("plain")
    assert continual_rl.main(argv) == 0
    argv, folder = command("mirrored")
    original = Recorder._on_rollout_end

    def end(self: Recorder) -> None:
        original(self)
        if self.num_timesteps >= 700:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_rollout_end", end)
        with pytest.raises(Killed):
            continual_rl.main([*argv, "--wandb", "neoteny-test"])
    name = (folder / "wandb-id.txt").read_text()
    assert continual_rl.main([*argv, "--wandb", "neoteny-test"]) == 0
    files = list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{name}"}
    last = {key: value for row in history(folder) for key, value in row.items()}
    assert last["_step"] == 1024
    assert last["overall/tasks"] == 2
    assert last["singular_values/actor/action_net/_type"] == "histogram"
    assert last["answers/0 the run so far/_type"] == "image-file"
    assert last["answers/1 which tasks were learned/_type"] == "html-file"
    assert "spectral_norm/action_net" not in last  # it is actor_layers/spectral_norm/action_net
    ends = [max(each.glob("checkpoints/*.safetensors")) for each in (plain, folder)]
    one, other = map(load_file, ends)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_package_is_missing(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, folder = command("missing")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(SystemExit) as stop:
        continual_rl.main([*argv, "--wandb", "neoteny-test"])
    assert stop.value.code == 2
    assert "--wandb: the package wandb is not installed: pip install 'neoteny[wandb]'" in capsys.readouterr().err
    assert not folder.exists()
