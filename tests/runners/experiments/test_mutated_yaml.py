"""YAML files that were damaged or are absurd: the project's own error, soon, and without much memory."""

from __future__ import annotations

import copy
import gc
import os
import random
import resource
import signal
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs import EnvironmentFault
from neoteny.runners import sweep
from neoteny.runners.experiments import parse
from neoteny.runners.runs import Chain
from neoteny.runners.runs.notices import notices

#: How many files are tried; `make fuzz` tries more.
FILES = int(os.environ.get("MUTATIONS", "32"))
SECONDS, BYTES = 5, 2_000_000_000
KINDS = ("envs", "agents", "regs", "experiments")
#: Environments of which making a few is a matter of a second; the others' files are read, and no more.
QUICK = ("cartpole", "acrobot", "pendulum", "minigrid", "babyai", "stationary")

DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
STRANGE: list[Any] = [
    None, True, False, -1, 0, 1, 1.5, -0.0, 1e-300, float("nan"), float("inf"), -float("inf"), 10**6, 10**9, 10**30,
    "", "x" * 1000, "é✓\u202e", "\0", "1:30", "true", "../../../tmp/away", "a+b", "os:system", "os:", ":", "none",
    "auto", [], {}, [[]], [None], [True], [10**9], [1] * 5000, {"a": {}}, {"": 1}, {1: 2}, {None: None}, {True: 1},
    DEEP, {"method": "spectral"}, {"methods": {"a": {"methods": []}}}, {"shift": "slip"}, {"uniform": [1, 0]},
    {"critic": 1}, {"name": "adam", "betas": [2, 3]}, {"name": "muon", "eps": True},
    {"agent.learning_rate": [True, "x"]},
]  # fmt: skip
PIECES = [
    "\0", "\ufeff", "é", "\t", "&a ", "*a", "<<: *a", "!!python/object/apply:os.system [id]", "!!binary x", "!!set {a}",
    "!!timestamp 2001-01-01", "2001-01-01", "---\n", "...\n", "? ", "- ", ": ", "{", "}", "[", "]", "'", '"', "|\n",
    "%", "1e400", "0x7fffffffffffffffff", "1" * 5000, "0o9", "~", ".nan", "-.inf", "1:30", "true", "\r", "\x85", "#",
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in list(items) for place in ((value, key), *places(part))]


def mutated(text: str, others: list[str], rng: random.Random) -> bytes:
    """Bytes that are other or missing, pieces of YAML where they should not be, or a setting that is another."""
    content = bytearray(text.encode())
    how = rng.random()
    if how < 0.15:
        for _ in range(rng.choice([1, 1, 8, 100])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content[: rng.choice([len(content), len(content), rng.randrange(len(content))])])
    if how < 0.35:
        for _ in range(rng.choice([1, 1, 3])):
            lines = text.split("\n")
            at = rng.randrange(len(lines))
            column = rng.choice([0, len(lines[at]), rng.randint(0, len(lines[at])), lines[at].find(": ") + 2])
            lines[at] = rng.choice(
                [lines[at] + "\n" + lines[at], lines[at][:column] + rng.choice(PIECES) + lines[at][column:]]
            )
            text = "\n".join(lines)
        return text.encode()
    data, other = yaml.safe_load(text), yaml.safe_load(rng.choice(others))
    for _ in range(rng.choice([1, 1, 1, 3])):
        found = places(data)
        if not found:
            break
        container, key = rng.choice(found) if rng.random() < 0.7 else rng.choice(found[:10])
        how = rng.random()
        if how < 0.1:
            del container[key]
        elif how < 0.2 and isinstance(container, dict):
            container[rng.choice(["x", "é", 3, None, True, "tasks", key])] = container.pop(key)
        elif how < 0.3:
            theirs, place = rng.choice(places(other) or [(STRANGE, 0)])
            container[key] = copy.deepcopy(theirs[place])
        elif how < 0.35:
            container[key] = rng.choice(found)[0]  # an anchor, which may hold itself
            break
        else:
            container[key] = copy.deepcopy(rng.choice(STRANGE))
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=rng.random() < 0.5).encode()


def begin(kind: str, name: str, file: Path) -> int:
    """What programs do with a file before anything is learned; the exit code."""
    out = ["--out", str(file.parent / "runs")]
    if kind == "experiments":
        return sweep.main(["--experiment", str(file), "--dry-run", *out])
    env = [] if kind == "envs" else ["--env", "cartpole-offset", "--num-tasks", "2"]
    experiment, _ = parse([f"--{kind.removesuffix('s')}", str(file), *env, *out], "")
    if kind != "envs" or name.startswith(QUICK):
        try:
            notices(Chain(experiment).experiment)
        except (ConfigError, EnvironmentFault) as error:  # the program leaves with 1 after the latter
            print(error, file=sys.stderr)
            return 2
    return 0


def limited(kind: str, name: str, file: Path, said: Path) -> int:
    """The same in a process of its own, which may use so much time and memory; 1 after any other error."""
    child = os.fork()
    if not child:
        code = 1
        with said.open("w") as to, open(os.devnull, "w") as quiet, redirect_stdout(quiet), redirect_stderr(to):
            try:
                has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (has + BYTES, has + BYTES))
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
                signal.alarm(300)  # it waits for something
                code = begin(kind, name, file)
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc(file=to)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported when the first run begins is, so that processes that are forked off need not."""
    Chain(parse(["--env", "cartpole-offset", "--num-tasks", "1", "--out", str(tmp_path_factory.mktemp("runs"))], "")[0])
    gc.collect()  # its environments have threads, which those do not have


@pytest.mark.skipif(sys.platform != "linux", reason="forks, with Linux's limits")
@pytest.mark.parametrize("kind", KINDS)
def test_mutated(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {name: (configs.FOLDER / kind / f"{name}.yaml").read_text() for name in configs.names(kind)}
    file, said = tmp_path / "mutated.yaml", tmp_path / "said"
    refused = 0
    for seed in range(FILES // len(KINDS)):
        rng = random.Random(f"{kind}{seed}")
        name = rng.choice([*texts])
        file.write_bytes(mutated(texts[name], [*texts.values()], rng))
        code = limited(kind, name, file, said)
        refused += code == 2
        assert code in (0, 2), (seed, name, code, said.read_text())
        assert code == 0 or said.read_text().strip(), (seed, name)
        assert "Traceback" not in said.read_text(), (seed, name)
    assert refused > FILES // len(KINDS) // 3
    assert {path.name for path in tmp_path.iterdir()} <= {file.name, said.name, "runs"}
