"""Interventions: each changes what it says, in every agent, and nothing else."""

import copy

import numpy as np
import pytest
import torch
from agent_zoo import global_random_state, learned_state
from interventions_cases import MAKERS, MORE, PARTS, trained
from method_zoo import make as make_method
from thinning import some

from neoteny.agents import normalization
from neoteny.plasticity import METHODS, L2Init, Spectral, spectral_norms
from neoteny.runners.attribution.interventions import INTERVENTIONS, NotThereError
from neoteny.runners.attribution.parts import parts, tensors

#: What stable-baselines3 and sb3-contrib call the output layers. Written down here, not derived.
HEADS = {
    "actor-head": ("action_net.", "actor.mu.", "actor.log_std", "log_std"),
    "critic-head": (
        *("value_net.", "q_net.q_net.{last}", "q_net_target.q_net.{last}"),
        *("quantile_net.quantile_net.{last}", "quantile_net_target.quantile_net.{last}"),
        *(f"critic{twin}.qf{i}.{{last}}" for twin in ("", "_target") for i in (0, 1)),
    ),
}


def everything(agent):
    """All that learning has changed, by where it is."""
    found = {f"weight {name}": t.detach().clone() for name, t in tensors(agent).items()}
    names = {id(p): name for name, p in agent.policy.named_parameters()}
    for optimizer in agent.optimizers().values():
        for p, state in optimizer.state.items():
            found |= {f"moment {names[id(p)]} {k}": torch.as_tensor(v).clone() for k, v in state.items()}
    if getattr(agent, "log_ent_coef", None) is not None:
        found["log_ent_coef"] = agent.log_ent_coef.detach().clone()
        for state in agent.ent_coef_optimizer.state.values():
            found |= {f"moment log_ent_coef {k}": torch.as_tensor(v).clone() for k, v in state.items()}
    if getattr(agent, "replay_buffer", None) is not None:
        found["replay"] = torch.tensor(agent.replay_buffer.size())
    if (env := agent.get_vec_normalize_env()) is not None:
        for name, part in normalization.statistics(env).items():
            found |= {f"normalization {name} {k}": torch.tensor(np.array(v)) for k, v in part.items()}
    return found


def changed(before, after):
    """Where two states differ; what has gone, too."""
    return {k for k in before.keys() | after.keys() if k not in after or not torch.equal(before[k], after[k])}


def weights_of(part, agent):
    """The names of a part's weights: heads by :data:`HEADS`, encoders by their names, and torsos are the rest."""
    names = set(tensors(agent))
    encoders = {name for name in names if "features_extractor" in name}
    last = "2" if any("cnn" in name for name in encoders) else "4"  # with one hidden layer, or two
    heads = {
        role: {name for name in names if any(name.startswith(head.format(last=last)) for head in HEADS[role])}
        for role in HEADS
    }
    rest = names - encoders - heads["actor-head"] - heads["critic-head"]
    critic = {name for name in rest if any(word in name for word in ("value_net", "critic", "q_net", "quantile_net"))}
    return {**heads, "encoder": encoders, "critic-torso": critic, "actor-torso": rest - critic}[part]


@pytest.mark.parametrize("name", MAKERS)
def test_the_parts_of_an_agent(name):
    agent = MAKERS[name]()
    found = parts(agent)
    assert " ".join(found) == PARTS[name]
    assert sorted(n for names in found.values() for n in names) == sorted(tensors(agent))  # all, and each once
    for part, names in found.items():
        assert set(names) == weights_of(part, agent), part


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MAKERS)
def test_what_each_agent_lacks_is_said(name):
    agent, fresh = trained(name), MAKERS[name](seed=1)
    possible: list[str] = []
    lacking: list[str] = []
    for intervention in INTERVENTIONS:
        try:
            INTERVENTIONS[intervention].act(agent, fresh)
            possible.append(intervention)
        except NotThereError as error:
            lacking.append(str(error))
    pairs = ["heads", "torsos"] if "actor" in PARTS[name] else []
    always = ["nothing", "optimizer", "rescale", "spectrum", "everything"]
    assert sorted(possible) == sorted([*always, *PARTS[name].split(), *pairs, *MORE.get(name, "").split()])
    assert len(lacking) == len(INTERVENTIONS) - len(possible)
    assert all(reason.startswith(("it has no ", "it normalizes nothing", "it trains nothing")) for reason in lacking)
    agent.learn(60)  # it still can


SINGLE = [(name, part) for name in MAKERS for part in PARTS[name].split()]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "part"), SINGLE)
def test_a_fresh_part_and_its_moments_and_nothing_else(name, part):
    agent, fresh = trained(name), MAKERS[name](seed=1)
    before, new = everything(agent), {n: t.detach().clone() for n, t in tensors(fresh).items()}
    random = global_random_state()
    INTERVENTIONS[part].act(agent, fresh)
    assert global_random_state() == random
    after, mine = everything(agent), weights_of(part, agent)
    assert changed(before, after) <= {f"weight {n}" for n in mine} | {
        key for key in before if key.startswith("moment") and key.split()[1] in mine
    }
    assert changed(before, after) >= {f"weight {n}" for n in mine if new[n].any()}
    for n in mine:
        assert torch.equal(after[f"weight {n}"], new[n])
    for key, value in after.items():
        if key.startswith("moment") and key.split()[1] in mine:
            assert not value.any(), key


@pytest.mark.parametrize("name", ["dqn", "qrdqn", "sac", "dqn-cnn", "sac-cnn"])
def test_target_networks_follow(name):
    agent, fresh = trained(name), MAKERS[name](seed=1)
    for part in PARTS[name].split():
        INTERVENTIONS[part].act(agent, fresh)
        names = tensors(agent)
        targets = [n for n in weights_of(part, agent) if "_target" in n]
        assert bool(targets) == (not part.startswith("actor"))
        for n in targets:
            assert torch.equal(names[n], names[n.replace("_target", "", 1)])


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_nothing(name):
    agent = trained(name)
    before = copy.deepcopy((everything(agent), learned_state(agent)))
    INTERVENTIONS["nothing"].act(agent, MAKERS[name](seed=1))
    assert not changed(before[0], everything(agent))


@pytest.mark.parametrize(
    ("intervention", "touches"),
    [
        ("optimizer", ("moment",)),
        pytest.param("replay", ("replay",), marks=pytest.mark.full),
        pytest.param("normalization", ("normalization",), marks=pytest.mark.full),
        ("coefficients", ("log_ent_coef", "moment log_ent_coef")),
    ],
)
def test_what_is_no_weight(intervention, touches):
    for name in MAKERS:
        agent, fresh = trained(name), MAKERS[name](seed=1)
        before = everything(agent)
        try:
            INTERVENTIONS[intervention].act(agent, fresh)
        except NotThereError:
            continue
        found = changed(before, everything(agent))
        assert found, name
        assert all(key.startswith(touches) for key in found)
    if intervention == "coefficients":
        assert torch.equal(agent.log_ent_coef, fresh.log_ent_coef)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", some(["ppo", "sac"], "sac"))
@pytest.mark.parametrize("reg", some([*METHODS], "spectral", "redo", "plasticity-injection"))
def test_methods_go_on_with_what_is_fresh(name, reg):
    """And none is left with something that is not a number, or that it cannot save."""
    agent, fresh = trained(name, reg=make_method(reg)), MAKERS[name](seed=1, reg=make_method(reg))
    for intervention in ("critic-head", "critic-torso", "rescale", "spectrum"):
        INTERVENTIONS[intervention].act(agent, fresh)
        state = {k: {n: t.clone() for n, t in m.state_dict().items()} for k, m in agent.methods.items()}
        for key, method in agent.methods.items():
            method.load_state_dict(state[key])
        agent.learn(60)
        agent.check_finite()


def test_a_method_has_the_fresh_layers_state():
    agent = trained("ppo", reg=L2Init(strength=0.1))
    fresh = MAKERS["ppo"](seed=1, reg=L2Init(strength=0.1))
    INTERVENTIONS["actor-torso"].act(agent, fresh)
    state, weights = agent.methods["all"].state_dict(), tensors(agent)
    for name in weights:
        at_rest = torch.equal(state[name], weights[name].detach())
        assert at_rest == name.startswith("mlp_extractor.policy_net"), name


@pytest.mark.parametrize("intervention", ["actor-torso", "torsos", "rescale", "spectrum"])
def test_singular_values_are_tracked_anew(intervention):
    agent = trained("sac", reg=Spectral(strength=0.1))
    fresh = MAKERS["sac"](seed=1, reg=Spectral(strength=0.1))
    before = spectral_norms(agent.policy)
    INTERVENTIONS[intervention].act(agent, fresh)
    exact = spectral_norms(agent.policy)
    assert exact != before
    for method in agent.methods.values():
        tracked = dict(zip(method._tracker.names, method._tracker.sigma.tolist(), strict=True))
        assert tracked == pytest.approx({name: exact[name] for name in tracked}, rel=1e-3)
        for name, (u, v) in method._pairs().items():
            matrix = next(layer.matrix for layer in method.layers if layer.name == name).detach()
            assert float(u @ matrix @ v) == pytest.approx(exact[name], rel=1e-3)
            assert torch.allclose(method._right[name], v)
