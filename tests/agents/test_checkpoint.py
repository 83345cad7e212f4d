"""Saved agents: the same to the last bit, safe to open, and whole or not there at all."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_zoo as zoo
import gymnasium as gym
import numpy as np
import pytest
import safetensors
import torch
from agent_zoo import CASES, difference, layer_names, learned_state, weights
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from neoteny.agents import PPO, CheckpointError, checkpoint
from neoteny.agents.continual import Continual
from neoteny.plasticity import L2, Compose, L2Init, Spectral

COUNTERS = ["num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate", "_total_timesteps"]


def observations(agent: Continual) -> np.ndarray[Any, Any]:
    agent.observation_space.seed(0)
    return np.stack([agent.observation_space.sample() for _ in range(50)])


# The same agent ---------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", CASES)
def test_an_agent_survives_bit_for_bit_and_trains_on(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    agent = case.make(reg=Compose(methods=(Spectral(strength=0.1), L2Init(strength=0.1)))).learn(case.steps)
    agent.save(tmp_path / "agent")
    loaded = case.ours.load(tmp_path / "agent", env=case.env, device="cpu")

    assert difference(learned_state(loaded), learned_state(agent)) is None
    counters = {key: getattr(agent, key) for key in COUNTERS if hasattr(agent, key)}
    assert {key: getattr(loaded, key) for key in counters} == counters
    assert agent.num_timesteps >= case.steps
    assert agent._n_updates == case.updates
    ours, theirs = (a.predict(observations(agent), deterministic=True)[0] for a in (agent, loaded))
    np.testing.assert_array_equal(ours, theirs)

    loaded.learn(case.steps, reset_num_timesteps=False)
    assert loaded.num_timesteps >= 2 * case.steps
    assert loaded._n_updates > case.updates
    moved = weights(loaded)
    still = [n for n, w in weights(agent).items() if difference(w, moved[n]) is None]
    assert still == []


def test_what_only_some_algorithms_have_survives(tmp_path: Path) -> None:
    """Entropy temperature with its optimizer, exploration rate, target network: none is as in a new agent."""
    for name in ("sac", "qrdqn"):
        agent, new = CASES[name].make().learn(CASES[name].steps), CASES[name].make()
        agent.save(tmp_path / name)
        loaded = CASES[name].ours.load(tmp_path / name)
        if name == "sac":
            assert loaded.log_ent_coef.item() == agent.log_ent_coef.item() != new.log_ent_coef.item()
            assert loaded.log_ent_coef.requires_grad
            held = loaded.ent_coef_optimizer.param_groups[0]["params"]
            assert held[0] is loaded.log_ent_coef  # or the restored temperature would never learn again
            assert loaded.ent_coef_optimizer.state[loaded.log_ent_coef]["step"] == CASES[name].updates
        else:
            assert loaded.exploration_rate == agent.exploration_rate != new.exploration_rate
            assert loaded._n_calls == agent._n_calls > 0
            target, online = loaded.quantile_net_target.state_dict(), loaded.quantile_net.state_dict()
            assert difference(target, agent.quantile_net_target.state_dict()) is None
            assert difference(target, online) is not None


@pytest.mark.parametrize(
    ("name", "reg", "schedule"),
    [
        ("ppo", None, False),
        ("ppo", {"actor": Spectral(strength=0.1), "critic": L2Init(strength=0.1)}, True),
        ("ppo-continuous", Spectral(strength=0.1), False),
        ("a2c", None, True),
        ("a2c", Spectral(strength=0.1), False),
    ],
)
def test_going_on_from_a_file_is_going_on(name: str, reg: Any, schedule: bool, tmp_path: Path) -> None:
    """Training, saving, loading and training again gives every bit of training twice."""
    case = CASES[name]
    rate = {"learning_rate": lambda left: 0.01 * left} if schedule else {}
    agent = case.make(reg=reg, **rate).learn(case.steps)
    agent.save(tmp_path / "agent")
    loaded = case.ours.load(tmp_path / "agent", device="cpu", **rate)
    for branch in (agent, loaded):
        env = make_vec_env(case.env, seed=3)
        branch.set_env(env)
        zoo.reseed(3)
        branch.learn(case.steps, reset_num_timesteps=False)
    assert difference(learned_state(loaded), learned_state(agent)) is None
    assert loaded.num_timesteps == agent.num_timesteps == 2 * case.steps


def test_an_agent_loaded_without_an_environment_predicts_and_can_be_given_one(tmp_path: Path) -> None:
    agent = CASES["ppo"].make()
    agent.save(tmp_path / "agent")
    PPO.load(tmp_path / "agent").save(tmp_path / "again")
    loaded = PPO.load(tmp_path / "again", env="CartPole-v1")
    assert difference(learned_state(PPO.load(tmp_path / "again")), learned_state(agent)) is None
    assert loaded.learn(32).num_timesteps == 32


def test_an_agent_goes_on_with_another_number_of_environments(tmp_path: Path) -> None:
    CASES["ppo"].make().learn(32).save(tmp_path / "agent")
    loaded = PPO.load(tmp_path / "agent", env=make_vec_env("CartPole-v1", 3), device="cpu")
    assert loaded.n_envs == 3
    assert loaded.learn(96, reset_num_timesteps=False).num_timesteps == 32 + 96


def test_what_belongs_to_a_process_is_not_written(tmp_path: Path) -> None:
    """The logger, the folder for TensorBoard, and a normaliser that was or was not there."""
    agent = CASES["ppo"].make(tensorboard_log=str(tmp_path / "board"))
    agent.set_logger(configure(None, []))
    agent.save(tmp_path / "agent")
    env = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    loaded = PPO.load(tmp_path / "agent", env=env, device="cpu")
    assert loaded.tensorboard_log is None
    assert loaded.get_vec_normalize_env() is env
    assert loaded.learn(32).num_timesteps == 32
    assert str(tmp_path).encode() not in (tmp_path / "agent.safetensors").read_bytes()


def test_arguments_replace_settings(tmp_path: Path) -> None:
    CASES["ppo"].make().learn(32).save(tmp_path / "agent")
    loaded = PPO.load(tmp_path / "agent", env="CartPole-v1", learning_rate=0.5, n_steps=64, seed=9, stats_window_size=7)
    assert (loaded.learning_rate, loaded.lr_schedule(1.0)) == (0.5, 0.5)
    assert (loaded.n_steps, loaded.rollout_buffer.buffer_size) == (64, 64)
    assert (loaded.seed, loaded._stats_window_size) == (9, 7)
    assert (loaded.batch_size, loaded.n_epochs, loaded.num_timesteps) == (16, 2, 32)


def test_a_new_method_begins_with_the_loaded_weights(tmp_path: Path) -> None:
    agent = CASES["ppo"].make(reg=Spectral()).learn(64)
    agent.save(tmp_path / "agent")
    assert PPO.load(tmp_path / "agent", reg=None).methods == {}
    loaded = PPO.load(tmp_path / "agent", reg=L2Init(strength=0.5))
    assert loaded.methods["all"].value() == 0
    (after,) = loaded.policy.optimizer._optimizer_step_post_hooks.values()
    assert after.__self__ is loaded.methods["all"]  # and no other is left


class Growing(PPO):
    """A set-up that reads one attribute and writes another."""

    width = 16

    def _setup_model(self) -> None:
        self.policy_kwargs = {"net_arch": [self.width]}
        super()._setup_model()
        self.visits = 0


def test_attributes_of_a_subclass_survive(tmp_path: Path) -> None:
    agent = Growing("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, device="cpu")
    agent.width = 24
    agent._setup_model()
    agent.visits = 3
    agent.save(tmp_path / "agent")
    loaded = Growing.load(tmp_path / "agent")
    assert (loaded.width, loaded.visits) == (24, 3)
    assert difference(learned_state(loaded), learned_state(agent)) is None


def test_other_spaces_are_refused(tmp_path: Path) -> None:
    CASES["ppo"].make().save(tmp_path / "agent")
    with pytest.raises(ValueError, match="spaces do not match"):
        PPO.load(tmp_path / "agent", env="Acrobot-v1")


@pytest.mark.parametrize(
    "reg",
    [
        Spectral(strength=0.25, k=3, heads=["action_net"]),
        {"actor": Spectral(strength=0.5), "critic": L2(strength=0.25, heads="exempt")},
        {"critic": Compose(methods=(L2Init(strength=0.125), Spectral(k=1, heads="include"))), "actor": None},
        None,
    ],
)
def test_methods_come_back_with_their_settings(reg: Any, tmp_path: Path) -> None:
    def described(value: Any) -> Any:
        if isinstance(value, dict):
            return {role: described(method) for role, method in value.items()}
        if isinstance(value, Compose):
            return [described(method) for method in value.methods]
        return value and (
            type(value),
            {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init},
        )

    agent = CASES["ppo"].make(reg=reg)
    agent.save(tmp_path / "agent")
    loaded = PPO.load(tmp_path / "agent")
    assert described(loaded.reg) == described(reg)
    assert described(loaded.methods) == described(agent.methods)
    assert layer_names(loaded) == layer_names(agent)


# What is no data --------------------------------------------------------------------------------------------


def test_a_function_is_not_written_and_load_asks_for_it(tmp_path: Path) -> None:
    CASES["ppo"].make(learning_rate=lambda left: 0.01 * left).learn(32).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"learning_rate was not data .*load\(\.\.\., learning_rate=\.\.\.\)"):
        PPO.load(tmp_path / "agent")
    loaded = PPO.load(tmp_path / "agent", env="CartPole-v1", learning_rate=lambda left: 0.5 * left)
    assert loaded.lr_schedule(0.5) == 0.25
    assert loaded.num_timesteps == 32


@pytest.mark.parametrize(
    "value",
    [
        len,
        object(),
        b"bytes",
        {1, 2},
        np.array(["text"]),
        np.array([None]),
        spaces.Text(3),
        {"deep": [len]},
        int,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_data_cannot_be_encoded(value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"^setting.*is not data|^setting.* cannot be written"):
        checkpoint.encode(value, {}, "setting")


# Round trips ------------------------------------------------------------------------------------------------

DTYPES = st.sampled_from(["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2)
ARRAYS = st.builds(hnp.arrays, DTYPES, SHAPES).flatmap(lambda arrays: arrays).map(lambda array: array.T)
TENSORS = ARRAYS.map(lambda array: torch.from_numpy(array.copy(order="A")))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KINDS = st.sampled_from([torch.nn.ReLU, torch.optim.SGD, ReplayBuffer, Spectral])
KEYS = st.text("ab.'", max_size=3) | st.integers(0, 3) | st.tuples(st.booleans())


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    return lists | lists.map(tuple) | st.dictionaries(KEYS, inner, max_size=3)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(PLAIN | ARRAYS | TENSORS | KINDS, containers, max_leaves=8))
def test_any_data_comes_back_the_same(tmp_path: Path, value: Any) -> None:
    checkpoint.write(tmp_path / "file.safetensors", {"value": value})
    assert difference(checkpoint.read(tmp_path / "file.safetensors"), {"value": value}) is None


def test_tensors_whose_names_would_be_the_same_are_kept_apart(tmp_path: Path) -> None:
    one, two, three = (torch.full((2,), float(i)) for i in range(3))
    record = {"a": {"b.c": one, "b": {"c": two}}, "a.b": {"c": three}}
    checkpoint.write(tmp_path / "file.safetensors", record)
    assert difference(checkpoint.read(tmp_path / "file.safetensors"), record) is None


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, ()),
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.Box(-np.inf, np.inf, (2,), np.float64),
        spaces.Box(np.array([-3, 0]), np.array([-1, 9]), dtype=np.int8),
        spaces.Discrete(3),
        spaces.Discrete(3, start=-1, dtype=np.int32),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiDiscrete([[2, 5], [3, 1]], start=[[1, 0], [-1, 7]], dtype=np.int32),
        spaces.MultiBinary(3),
        spaces.MultiBinary([2, 3]),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"a.b": spaces.Box(0, 1, (3,))})}),
        spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Discrete(3))]),  # in an order that is not sorted
    ],
    ids=str,
)
def test_a_space_comes_back_the_same(space: spaces.Space[Any], tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "file.safetensors", {"space": space})
    back = checkpoint.read(tmp_path / "file.safetensors")["space"]
    assert back == space
    assert str(back) == str(space)
    assert back.dtype == space.dtype


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (np.float32(0.1), float(np.float32(0.1))),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.device("cpu"), "cpu"),
        ({np.int64(3): 1}, {3: 1}),
    ],
    ids=repr,
)
def test_some_values_come_back_plain(value: Any, back: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(checkpoint.encode(value, tensors, "value")))
    assert difference(checkpoint.decode(plain, tensors), back) is None


# Safety -----------------------------------------------------------------------------------------------------


def test_the_file_is_safetensors_with_json_and_nothing_is_pickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle was used")

    agent = CASES["sac"].make(reg=Spectral()).learn(30)
    for module, names in (
        (pickle, ["load", "loads", "dump", "dumps", "Pickler", "Unpickler"]),
        (sys.modules["_pickle"], ["load", "loads", "dump", "dumps", "Pickler", "Unpickler"]),
        (sys.modules["cloudpickle"], ["load", "loads", "dump", "dumps"]),
        (torch, ["load", "save"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    agent.save(tmp_path / "agent")
    loaded = CASES["sac"].ours.load(tmp_path / "agent")
    assert difference(learned_state(loaded), learned_state(agent)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["agent.safetensors"]
    with safetensors.safe_open(tmp_path / "agent.safetensors", "pt") as file:
        record = json.loads(file.metadata()[checkpoint.FORMAT])
        assert difference(file.get_tensor("modules.policy.actor.mu.weight"), agent.actor.mu.weight.detach()) is None
    assert record["n_envs"] == 1


def tamper(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the JSON of a saved agent."""
    with safetensors.safe_open(path, "pt") as file:
        record = json.loads(file.metadata()[checkpoint.FORMAT])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(record)
    save_file(tensors, path, metadata={checkpoint.FORMAT: json.dumps(record)})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    CASES["ppo"].make(reg=Spectral()).save(tmp_path / "agent")
    return tmp_path / "agent.safetensors"


NO_CLASSES = [
    "os:system", "subprocess:Popen", "builtins:eval", "builtins:type", "torch:load", "torch:nn",
    "torch.nn:Missing", "neoteny.agents.checkpoint:sys.modules", "json:JSONDecoder", "not_imported:Thing", "",
    ":", "os:", 3,
]  # fmt: skip


@pytest.mark.parametrize("name", NO_CLASSES)
def test_a_file_cannot_name_what_does_not_belong(saved: Path, name: Any) -> None:
    method = {"method": name, "settings": {"map": [["args", ["touch", str(saved.parent / "flag")]]]}}
    for key, value in (
        ("reg", method),
        ("reg", {"compose": [method]}),
        ("arguments", {"map": [["policy", {"class": name}]]}),
    ):
        tamper(saved, lambda record, key=key, value=value: record.update({key: value}))
        with pytest.raises(CheckpointError, match=str(saved)):
            PPO.load(saved)
    assert not (saved.parent / "flag").exists()


def test_a_method_must_be_a_method(saved: Path) -> None:
    tamper(saved, lambda record: record["reg"].update(method="torch.nn.modules.linear:Linear"))
    with pytest.raises(CheckpointError, match="the file needs torch"):
        PPO.load(saved)


def test_nothing_is_imported_for_a_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of a module that is not there yet is refused, and known once its module is imported by hand."""
    (saved.parent / "somebodys.py").write_text("from plasticity import L2\nclass Theirs(L2): name = 'theirs'\n")
    monkeypatch.syspath_prepend(str(saved.parent))
    tamper(saved, lambda record: record["reg"].update(method="somebodys:Theirs"))
    tamper(saved, lambda record: record["reg"].update(settings={"map": [["strength", 0.5]]}))
    with pytest.raises(CheckpointError, match=r"needs somebodys:Theirs; import somebodys before loading"):
        PPO.load(saved)
    assert "somebodys" not in sys.modules
    monkeypatch.setitem(sys.modules, "somebodys", None)  # so that it is forgotten afterwards
    del sys.modules["somebodys"]
    importlib.import_module("somebodys")
    assert checkpoint.read(saved)["reg"].name == "theirs"


@pytest.mark.parametrize("fraction", [0.0, 0.0001, 0.001, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(saved: Path, fraction: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(CheckpointError, match=r"agent\.safetensors: not a saved agent"):
        PPO.load(saved)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_other_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "other.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        PPO.load(tmp_path / "other")


def other_zip(path: Path) -> None:
    CASES["ppo"].make_stock().save(path.with_suffix(".zip"))
    path.with_suffix(".zip").rename(path)


OTHER_FILES: dict[str, Callable[[Path], Any]] = {
    "none": lambda path: None,
    "a folder": Path.mkdir,
    "text": lambda path: path.write_text("hello\n" * 100),
    "stable-baselines3's": other_zip,
    "tensors alone": lambda path: save_file({"a": torch.zeros(2)}, path),
    "no JSON": lambda path: save_file({}, path, metadata={checkpoint.FORMAT: "{"}),
    "a list": lambda path: save_file({}, path, metadata={checkpoint.FORMAT: "[]"}),
    "too deep": lambda path: save_file({}, path, metadata={checkpoint.FORMAT: "[" * 10**6}),
    "another record": lambda path: checkpoint.write(path, {"step": 3}),
    "a missing tensor": lambda path: save_file({}, path, metadata={checkpoint.FORMAT: '{"a": {"tensor": "a"}}'}),
    "a wrong setting": lambda path: save_file(
        {},
        path,
        metadata={
            checkpoint.FORMAT: '{"reg": {"method": "neoteny.plasticity.penalties.l2:L2", '
            '"settings": {"map": [["mass", 1]]}}}'
        },
    ),
    "an unknown space": lambda path: save_file(
        {}, path, metadata={checkpoint.FORMAT: '{"a": {"space": {"sphere": 3}}}'}
    ),
}


@pytest.mark.parametrize("make", OTHER_FILES.values(), ids=OTHER_FILES.keys())
def test_another_kind_of_file_is_refused(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="other"):
        PPO.load(tmp_path / "other")


def test_an_agent_of_an_older_version_is_refused_by_name(tmp_path: Path) -> None:
    record = '{"reg": {"method": "plasticity.penalties.l2:L2", "settings": {"map": []}}}'
    save_file({}, tmp_path / "old.safetensors", metadata={"neoteny": record})
    with pytest.raises(CheckpointError, match=r"old\.safetensors: .* saved by Neoteny 0\.1"):
        PPO.load(tmp_path / "old")


def test_a_crash_while_writing_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def crash(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata=metadata)
        path.write_bytes(path.read_bytes()[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        CASES["ppo"].make(seed=1).save(saved)
    assert saved.read_bytes() == before
    monkeypatch.undo()
    agent = CASES["ppo"].make(seed=1)
    agent.save(saved)  # the remains of the crash are in nobody's way
    assert difference(learned_state(PPO.load(saved)), learned_state(agent)) is None
    assert [path.name for path in saved.parent.iterdir()] == ["agent.safetensors"]


def test_folders_are_made_and_the_suffix_is_added_once(tmp_path: Path) -> None:
    agent = CASES["ppo"].make()
    agent.save(str(tmp_path / "a" / "b" / "step.100"))
    agent.save(tmp_path / "c.safetensors")
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["c.safetensors", "step.100.safetensors"]
    assert PPO.load(str(tmp_path / "a" / "b" / "step.100")).seed == 0
