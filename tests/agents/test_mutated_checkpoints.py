"""Checkpoints that were damaged or forged: the project's own error, soon, and nothing run or written."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from agent_zoo import CASES

from neoteny.agents import CheckpointError, bounds, checkpoint
from neoteny.plasticity import Compose, L2Init, ShrinkAndPerturb, Spectral

#: How many files are tried; `make fuzz` tries more.
FILES = int(os.environ.get("MUTATIONS", "150"))
AGENTS = ("ppo", "dqn", "sac", "recurrent-ppo")

STRANGE: list[Any] = [
    None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**9, 10**30, "", "x" * 1000, "../../../tmp/away", "cuda",
    "\0", [], {}, [30000, 30000], [10**9], [1] * 5000, {"map": []}, {"tuple": []}, {"tensor": "no"}, {"array": 3},
    {"class": "os:system"}, {"class": "torch.nn.modules.linear:Linear"}, {"compose": []}, {"map": 3}, {"map": [[1]]},
    {"method": "os:system", "settings": {"map": []}}, {"map": [["net_arch", [30000, 30000]]]},
    {"map": [["env", "CartPole-v1"]]}, {"space": {"discrete": [10**12, 0], "dtype": "int64"}},
    {"space": {"box": {}, "dtype": "object"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("agents")
    for name in AGENTS:
        agent = CASES[name].make(reg=Spectral())
        agent.learn(CASES[name].steps)
        agent.save(folder / name, replay=True)
    return {name: (folder / f"{name}.safetensors").read_bytes() for name in AGENTS}


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header of a safetensors file, the record in it, and what follows."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    return header, json.loads(header["__metadata__"][checkpoint.FORMAT]), content[8 + size :]


def joined(header: dict[str, Any], record: Any, rest: bytes) -> bytes:
    header["__metadata__"][checkpoint.FORMAT] = json.dumps(record)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in items for place in ((value, key), *places(part))]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes that are other or missing, or a setting that is another, moved or gone."""
    if rng.random() < 0.3:
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 8, 100])):
            changed[rng.randrange(min(len(changed), rng.choice([100, 10_000, len(changed)])))] = rng.randrange(256)
        return bytes(changed[: rng.choice([len(changed), len(changed), rng.randrange(len(changed))])])
    header, record, rest = parts(content)
    for _ in range(rng.choice([1, 1, 1, 3])):
        found = places(record)
        container, key = rng.choice(found) if rng.random() < 0.7 else rng.choice(found[:40])
        if rng.random() < 0.15:
            del container[key]
        elif rng.random() < 0.2:
            other, place = rng.choice(found)
            container[key] = copy.deepcopy(other.get(place) if isinstance(other, dict) else rng.choice(STRANGE))
        else:
            container[key] = copy.deepcopy(rng.choice(STRANGE))
    return joined(header, record, rest)


@pytest.mark.parametrize("name", AGENTS)
def test_mutated(name: str, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mutated.safetensors"
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for seed in range(FILES // len(AGENTS)):
        file.write_bytes(mutated(files[name], random.Random(f"{name}{seed}")))
        started = time.process_time()
        try:
            CASES[name].ours.load(file, device="cpu")
        except CheckpointError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"file {seed} of {name}") from error
        assert time.process_time() - started < 5, f"file {seed} of {name}"
    assert refused > FILES // len(AGENTS) // 3
    assert {path.name for path in tmp_path.iterdir()} == {file.name}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin < 2_000_000  # KiB


@pytest.mark.parametrize("where", ["arguments", "attributes"])
def test_a_file_does_not_choose_where_is_written(where: str, files: dict[str, bytes], tmp_path: Path) -> None:
    header, record, rest = parts(files["ppo"])
    record[where]["map"].append(["tensorboard_log", str(tmp_path / "away")])
    file = tmp_path / "forged.safetensors"
    file.write_bytes(joined(header, record, rest))
    agent = CASES["ppo"].ours.load(file, env=CASES["ppo"].env, device="cpu")
    agent.learn(CASES["ppo"].steps, reset_num_timesteps=False)
    assert agent.tensorboard_log is None
    assert not (tmp_path / "away").exists()


def test_a_file_does_not_replace_what_the_agent_does(files: dict[str, bytes], tmp_path: Path) -> None:
    header, record, rest = parts(files["ppo"])
    record["attributes"]["map"] += [["train", 3], ["logger", "x"], ["policy", "x"], ["_vec_normalize_env", 1]]
    file = tmp_path / "forged.safetensors"
    file.write_bytes(joined(header, record, rest))
    agent = CASES["ppo"].ours.load(file, env=CASES["ppo"].env, device="cpu")
    assert callable(agent.train)
    agent.learn(CASES["ppo"].steps, reset_num_timesteps=False)


def test_networks_larger_than_their_weights(files: dict[str, bytes], tmp_path: Path) -> None:
    header, record, rest = parts(files["ppo"])
    arguments = record["arguments"]["map"]
    arguments[:] = [pair for pair in arguments if pair[0] != "policy_kwargs"]
    arguments.append(["policy_kwargs", {"map": [["net_arch", [30000, 30000]]]}])
    file = tmp_path / "forged.safetensors"
    file.write_bytes(joined(header, record, rest))
    started = time.process_time()
    with pytest.raises(CheckpointError, match="larger networks than it has weights of"):
        CASES["ppo"].ours.load(file, device="cpu")
    assert time.process_time() - started < 1


@pytest.mark.parametrize("name", CASES)
def test_agents_need_far_less_than_they_may(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "WEIGHTS", bounds.WEIGHTS / 4)
    monkeypatch.setattr(bounds, "TENSORS", bounds.TENSORS / 4)
    monkeypatch.setattr(bounds, "SPARE", (0, 0))
    CASES[name].make(reg=Compose(methods=(Spectral(), L2Init(), ShrinkAndPerturb()))).save(tmp_path / "agent")
    CASES[name].ours.load(tmp_path / "agent", device="cpu")
