"""What a reg asks of methods, and what of the agent."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neoteny.configs import ConfigError
from neoteny.plasticity import Compose, Spectral
from neoteny.runners import continual_rl
from neoteny.runners.experiments import parse, regs

NORM = {"network": {"layer_norm": True}}


def written(path: Path, data: dict[str, object]) -> str:
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_method_alone_wants_nothing_of_the_agent():
    assert regs.split({"method": "l2", "strength": 1}) == ({"method": "l2", "strength": 1}, {})


def test_network_alone_is_no_method():
    methods, wanted = regs.split(NORM)
    assert wanted == NORM
    assert regs.build(methods) is None


@pytest.mark.parametrize("parts", [[NORM, {"method": "spectral"}], {"a": {"method": "spectral"}, "b": NORM}])
def test_one_method_beside_a_network_is_not_composed(parts: object):
    methods, wanted = regs.split({"methods": parts})
    assert wanted == NORM
    assert isinstance(regs.build(methods), Spectral)


def test_method_with_a_network_among_others():
    methods, wanted = regs.split({"methods": [{"method": "spectral", **NORM}, {"method": "l2"}]})
    assert wanted == NORM
    built = regs.build(methods)
    assert isinstance(built, Compose)
    assert [part.name for part in built.methods] == ["spectral", "l2"]


def test_parts_that_agree_are_merged():
    parts = [NORM, {"network": {"layer_norm": True, "activation": "tanh"}}, {"optimizer": {"name": "x"}}]
    assert regs.split({"methods": parts}) == (
        {},
        {"network": {"layer_norm": True, "activation": "tanh"}, "optimizer": {"name": "x"}},
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"methods": {"one": {"optimizer": {"name": "x"}}, "two": {"optimizer": {"name": "y"}}}},
            r"^reg: agent\.optimizer\.name cannot be both 'x' and 'y'$",
        ),
        ({"network": "tanh"}, r"^reg\.network: a mapping of settings is expected, got 'tanh'$"),
        ({"methods": [NORM | {"optimizer": 3}]}, r"^reg\.methods\.0\.optimizer: a mapping"),
        (
            {"optimizer": {"name": "trac", "s_init": 1e-8}, "s_init": 1},
            r"^reg\.s_init: there is no method to be set here, but reg\.optimizer\.name, reg\.optimizer\.s_init;",
        ),
        ({"actor": NORM}, r"^reg\.actor\.network: an agent has one network; say reg\.network\.layer_norm: actor"),
    ],
)
def test_refused(data: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        regs.split(data)


def test_agent_becomes_what_the_reg_asks_for(tmp_path: Path):
    mine = written(tmp_path / "mine.yaml", {"network": {"layer_norm": True, "activation": "tanh"}})
    experiment, _ = parse(["--reg", f"spectral+{mine}"], "")
    assert (experiment.agent.network.layer_norm, experiment.agent.network.activation) == (True, "tanh")
    assert experiment.agent.network.hidden == (64, 64)  # the preset's own
    assert isinstance(experiment.reg, Spectral)
    assert experiment.folder.parent.name == "ppo-spectral+mine"
    assert experiment.plain["agent"]["network"]["layer_norm"] is True


def test_what_is_said_of_the_agent_itself_comes_last(tmp_path: Path):
    mine = written(tmp_path / "mine.yaml", NORM)
    experiment, _ = parse(["--reg", mine, "--agent.network.layer_norm", "false"], "")
    assert experiment.agent.network.layer_norm is False
    experiment, _ = parse(["--reg", mine, "--reg.network.layer_norm", "false"], "")
    assert experiment.agent.network.layer_norm is False


def test_wrong_setting_of_the_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mine = written(tmp_path / "mine.yaml", {"network": {"layer_nrom": True}})
    with pytest.raises(SystemExit) as stop:
        continual_rl.main(["--reg", mine, "--out", str(tmp_path / "runs")])
    assert stop.value.code == 2
    assert "agent.network.layer_nrom" in (error := capsys.readouterr().err)
    assert "did you mean 'layer_norm'" in error
    assert not (tmp_path / "runs").exists()


def test_roles_set_parts_of_several_methods(capsys: pytest.CaptureFixture[str]):
    argv = "--print-config --reg spectral+redo --reg.critic.methods.redo.tau 0.5 --reg.actor.methods.spectral.k 1"
    assert continual_rl.main(argv.split()) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["reg"]
    found = {role: [part.get("tau", part.get("k")) for part in shown[role]["methods"]] for role in shown}
    assert found == {"actor": [1, 0.025], "critic": [2, 0.5]}


def test_role_of_one_method_beside_a_network(tmp_path: Path):
    argv = ["--reg", "spectral+layer-norm", "--reg.critic.methods.spectral.strength", "0"]
    experiment, _ = parse(argv, "")
    assert experiment.agent.network.layer_norm is True
    assert [part.strength for part in regs.parts(experiment.reg)] == [1e-3, 0]


@pytest.mark.parametrize("reg", ["plasticity-injection", "spectral+layer-reset"])
def test_methods_that_act_at_switches_only_are_refused_where_these_are_hidden(
    reg: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    argv = ["--env.switches", "hidden", "--reg", reg, "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        continual_rl.main(argv)
    assert stop.value.code == 2
    assert "reg.at_switch" in (error := capsys.readouterr().err)
    assert "env.switches is 'hidden'" in error
    every = f"--reg.{'methods.layer-reset.' if '+' in reg else ''}every"
    assert parse([*argv, every, "100"], "")[0].sequence.switches == "hidden"


def test_help_shows_what_a_reg_asks_of_the_agent(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        continual_rl.main(["--reg", "spectral+trac", "--help"])
    text = capsys.readouterr().out
    assert "--reg.methods.trac.optimizer.s_init" in text
    assert "--reg.methods.spectral.strength" in text
