"""An agent's optimizer: chosen by name, checked when given, saved with the agent; Adam is what it was, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
import yaml
from agent_zoo import CASES, Case, difference, global_random_state, learned_state, reseed, weights
from stable_baselines3.common.env_util import make_vec_env

from neoteny import configs
from neoteny.agents import AGENTS
from neoteny.configs import ConfigError
from neoteny.plasticity import OPTIMIZERS, TRAC, UPGD, L2Init, Muon
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.base import plain

REGS = ("adam-equal-betas", "muon", "trac", "upgd")
LEARNERS = ("ppo", "dqn", "sac")


def agent_of(name: str, optimizer: Any, **more: Any) -> Any:
    case: Case = CASES[name]
    config = configs.build(AGENTS[name].Config, {"optimizer": optimizer}, "agent")  # type: ignore[attr-defined]
    policy = {"net_arch": [16, 16], **config.optimizer.policy_kwargs()}
    return case.make(**{"policy_kwargs": policy, **more})


def learn(agent: Any, name: str) -> Any:
    reseed(1)
    return agent.learn(CASES[name].steps)


# What is configured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_todays_training_is_the_same(name: str) -> None:
    """The default is torch's Adam, fused, otherwise as stable-baselines3's policies make it."""
    policy = AGENTS[name].Config().arguments()["policy_kwargs"]  # type: ignore[attr-defined]
    assert policy["optimizer_class"] is torch.optim.Adam
    assert policy["optimizer_kwargs"].pop("fused") is True
    defaults = torch.optim.Adam([torch.zeros(1)]).defaults
    assert policy["optimizer_kwargs"].keys() >= {"betas", "eps", "weight_decay"}
    own = {"eps": 1e-5} if "ppo" in name else {}
    assert {key: defaults[key] for key in policy["optimizer_kwargs"]} | own == policy["optimizer_kwargs"]
    if name in LEARNERS:
        before = CASES[name].make(policy_kwargs={"net_arch": [16, 16], "optimizer_kwargs": {"fused": True, **own}})
        ours = agent_of(name, "adam")
        assert difference(learned_state(learn(ours, name)), learned_state(learn(before, name))) is None


@pytest.mark.parametrize("given", ["trac", {"name": "trac"}])
def test_by_name_or_as_a_mapping(given: Any) -> None:
    config = configs.build(AGENTS["ppo"].Config, {"optimizer": given}, "agent")  # type: ignore[attr-defined]
    assert config.arguments()["policy_kwargs"]["optimizer_class"] is TRAC
    assert "optimizer" not in config.arguments()
    again = configs.build(AGENTS["ppo"].Config, plain(config), "agent")  # type: ignore[attr-defined]
    assert again == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "trak"}, r"^agent.optimizer: name: 'trak' is not known; choose from adam, .*did you mean 'trac'\?"),
        ({"name": "trac", "s_int": 1}, r"^agent.optimizer: trac.s_int: there is no such setting; .*'s_init'\?"),
        ({"name": "upgd", "sigma": -1}, r"^agent.optimizer: upgd: sigma: a finite number of at least 0 .*got -1.0"),
        ({"name": "upgd", "betas": "x"}, r"^agent.optimizer: upgd.betas: .*got 'x'"),
        ({"name": "upgd", "lr": 1}, r"^agent.optimizer: upgd.lr: there is no such setting"),
        ({"name": "adam", "betas": [2, 0.9]}, r"^agent.optimizer: adam: Invalid beta parameter at index 0: 2.0"),
        ({"betas": [0.9, 0.9]}, r"^agent.optimizer: an optimizer is a name \(adam, muon, trac, upgd\) or a mapping"),
        (3, r"^agent.optimizer: an optimizer is a name .*got 3"),
        ("torch.nn:Linear", r"^agent.optimizer: name: 'torch.nn:Linear' is no subclass of torch.optim.optimizer.Optim"),
    ],
)
def test_wrong_ones_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configs.build(AGENTS["dqn"].Config, {"optimizer": given}, "agent")  # type: ignore[attr-defined]


def test_ones_own() -> None:
    agent = agent_of("dqn", {"name": "torch.optim:RMSprop", "alpha": 0.5})
    assert type(agent.policy.optimizer) is torch.optim.RMSprop
    assert agent.policy.optimizer.param_groups[0]["alpha"] == 0.5
    learn(agent, "dqn")


@pytest.mark.parametrize("reg", REGS)
def test_presets_make_optimizers(reg: str) -> None:
    text = (configs.FOLDER / "regs" / f"{reg}.yaml").read_text()
    assert text.startswith("# ")
    assert "arXiv" in text
    config = configs.build(AGENTS["ppo"].Config, yaml.safe_load(text), "agent")  # type: ignore[attr-defined]
    name = reg.removesuffix("-equal-betas")
    assert config.optimizer.name == name
    if name == reg:  # what the preset says are the defaults
        assert config.optimizer == configs.build(AGENTS["ppo"].Config, {"optimizer": name}, "agent").optimizer  # type: ignore[attr-defined]
    else:
        assert config.optimizer.policy_kwargs()["optimizer_kwargs"]["betas"] == (0.99, 0.99)


@pytest.mark.parametrize(
    "options",
    [
        ["--agent.optimizer.name", "trac", "--agent.optimizer.s_init", "1e-3"],
        ["--agent.optimizer", "{name: trac, s_init: 1.0e-3}"],
    ],
)
def test_command_line(options: list[str]) -> None:
    experiment, _ = parse(options, "test")
    assert experiment.agent.optimizer.policy_kwargs()["optimizer_kwargs"]["s_init"] == 1e-3
    assert experiment.plain["agent"]["optimizer"]["name"] == "trac"
    assert "optimizer" in experiment.labels["agent"]


def test_command_line_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--agent.optimizer", "muoon"], "test")
    assert "did you mean 'muon'?" in capsys.readouterr().err


# What is trained ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", LEARNERS)
def test_agents_learn_save_and_load(name: str, optimizer: str, tmp_path: Path) -> None:
    agent = agent_of(name, optimizer, reg=L2Init(strength=1e-3, heads="include"))
    before, chance = weights(agent), global_random_state()
    assert {type(o) for o in agent.optimizers().values()} == {OPTIMIZERS[optimizer]}
    learn(agent, name)
    assert global_random_state() != chance  # the agent's own draws
    assert all(torch.isfinite(w).all() for w in weights(agent).values())
    assert any(not torch.equal(w, before[key]) for key, w in weights(agent).items())
    if name == "sac":
        assert type(agent.ent_coef_optimizer) is torch.optim.Adam
    agent.save(tmp_path / "agent", replay=True)
    loaded = type(agent).load(tmp_path / "agent", env=agent.get_env(), device="cpu")
    assert difference(learned_state(loaded), learned_state(agent)) is None
    for either in (agent, loaded):
        for optimizer_ in either.optimizers().values():
            for p in (p for group in optimizer_.param_groups for p in group["params"]):
                p.grad = torch.full_like(p, 0.1)
            optimizer_.step()
    assert difference(learned_state(loaded), learned_state(agent)) is None


@pytest.mark.parametrize("name", LEARNERS)
def test_muon_is_told_the_hidden_layers(name: str) -> None:
    agent = agent_of(name, "muon")
    names = {id(p): key for key, p in agent.policy.named_parameters()}
    chosen = {
        key: {names[id(p)] for p in optimizer.param_groups[-1]["params"]}
        for key, optimizer in agent.optimizers().items()
    }
    assert all("ns_steps" in o.param_groups[-1] for o in agent.optimizers().values())
    wanted = {
        "ppo": {"": {f"mlp_extractor.{n}_net.{i}.weight" for n in ("policy", "value") for i in (0, 2)}},
        "dqn": {"": {"q_net.q_net.0.weight", "q_net.q_net.2.weight"}},
        "sac": {
            ".actor": {"actor.latent_pi.0.weight", "actor.latent_pi.2.weight"},
            ".critic": {f"critic.qf{q}.{i}.weight" for q in (0, 1) for i in (0, 2)},
        },
    }
    assert chosen == wanted[name]


def test_noise_is_of_the_agents_seed() -> None:
    def states(seed: int) -> list[bytes]:
        optimizers = agent_of("sac", "upgd", seed=seed).optimizers().values()
        return [o.chance.get_state().numpy().tobytes() for o in optimizers if isinstance(o, UPGD)]

    assert states(7) == states(7)
    assert len({*states(7), *states(8)}) == 4  # actor's and critics', of each seed


def test_reset_optimizer_makes_the_present_weights_tracs_reference() -> None:
    agent = agent_of("ppo", {"name": "trac", "s_init": 0.1})
    learn(agent, "ppo")
    optimizer = agent.policy.optimizer
    assert optimizer.state["trac"]["scale"] > 0
    agent.reset_optimizer()
    assert not optimizer.state
    for p in agent.policy.parameters():
        p.grad = torch.zeros_like(p)
    before = weights(agent)
    optimizer.step()
    assert all(torch.equal(w, before[key]) for key, w in weights(agent).items())
    assert not any(optimizer.state[p]["offset"].any() for p in agent.policy.parameters())


@pytest.mark.parametrize("cls", [UPGD, TRAC, Muon])
def test_with_stable_baselines3_alone(cls: type) -> None:
    policy = {"net_arch": [8], "optimizer_class": cls, "optimizer_kwargs": {"eps": 1e-6}}
    agent = sb3.PPO("MlpPolicy", make_vec_env("CartPole-v1", 1), n_steps=16, batch_size=8, policy_kwargs=policy, seed=0)
    agent.learn(32)
    assert type(agent.policy.optimizer) is cls
