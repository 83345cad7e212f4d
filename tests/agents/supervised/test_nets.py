"""Networks for examples: what they take and say, what is in them, and what methods see of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from neoteny import configs
from neoteny.agents import CheckpointError, NonFiniteError
from neoteny.agents.supervised import CNN, MLP, NETS, Examples, Learner, Net, ResNet18, ViT, find_net
from neoteny.configs import ConfigError
from neoteny.plasticity import L2Init, PlasticityInjection, ReDo, Spectral

SHAPE = (3, 8, 8)
SMALL: dict[str, Net] = {
    "mlp": MLP(hidden=(16, 12)),
    "mlp, crelu and layer norm": MLP(hidden=(16,), crelu=True, layer_norm=True),
    "cnn": CNN(channels=(4, 6), hidden=(8,)),
    "cnn, layer norm": CNN(channels=(4,), hidden=(), layer_norm=True),
    "resnet18": ResNet18(width=4),
    "resnet18, layer norm": ResNet18(width=4, layer_norm=True),
    "resnet18, no norm": ResNet18(width=4, batch_norm=False),
    "vit": ViT(width=8, depth=2, heads=2, feedforward=8),
    "vit, no norm": ViT(width=8, depth=2, heads=2, feedforward=8, layer_norm=False),
}


def examples(count: int = 24) -> Examples:
    torch.manual_seed(1)
    return Examples(torch.randn(count, *SHAPE), torch.randint(0, 5, (count,)))


@pytest.mark.parametrize("name", SMALL)
def test_a_network_learns_is_saved_and_covered(name: str, tmp_path: Path) -> None:
    net, data = SMALL[name], examples()
    learner = Learner(net, SHAPE, 5, Spectral(strength=1e-2), seed=3)
    assert learner.policy(data.inputs).shape == (24, 5)
    heads = learner.heads()
    assert len(heads) == 1
    assert learner.policy.get_submodule(next(iter(heads))).out_features == 5  # type: ignore[union-attr]
    left_out = {name for name, what in learner.coverage().items() if what != "acted on"}
    assert left_out == heads
    losses = [learner.learn(data, torch.arange(24)).losses.mean() for _ in range(15)]
    assert losses[-1] < losses[0]
    assert (learner.num_timesteps, learner.updates) == (15 * 24, 15)
    learner.save(tmp_path / "a.safetensors")
    other = Learner(net, SHAPE, 5, Spectral(strength=1e-2), seed=4)
    other.restore(tmp_path / "a.safetensors")
    torch.manual_seed(0)
    mine = learner.learn(data, torch.arange(24))
    torch.manual_seed(0)
    theirs = other.learn(data, torch.arange(24))
    assert torch.equal(mine.losses, theirs.losses)
    assert torch.equal(learner.look(data).losses, other.look(data).losses)


def make(settings: dict[str, object]) -> Net:
    cls, own = find_net(settings)
    return configs.build(cls, own, "net")


def count(network: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in network.modules())


NORMS = {
    "cnn": 0,
    "cnn, layer norm": 1,
    "resnet18": 20,
    "resnet18, layer norm": 20,
    "resnet18, no norm": 0,
    "vit": 5,
    "vit, no norm": 0,
    "mlp": 0,
    "mlp, crelu and layer norm": 1,
}


@pytest.mark.parametrize(("name", "norms"), NORMS.items())
def test_normalization_is_there_where_it_is_asked_for(name: str, norms: int) -> None:
    network = SMALL[name].make(SHAPE, 5)
    assert count(network, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm) == norms
    assert count(network, nn.BatchNorm2d) == (20 if name == "resnet18" else 0)


def test_resnet18_has_the_published_number_of_weights() -> None:
    """11,173,962 for pictures of 3 channels and 10 classes, in the variant for small pictures."""
    network = ResNet18().make((3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962
    assert count(network, nn.Conv2d) == 20


def test_channels_come_last_where_the_library_keeps_to_its_buffers() -> None:
    """A convolution of 1×1 with a stride corrupts memory where there are too few channels."""
    widths = {width: ResNet18(width=width).memory_format for width in (4, 8, 16, 24, 64)}
    last, first = torch.channels_last, torch.contiguous_format
    assert widths == {4: first, 8: first, 16: last, 24: first, 64: last}


def test_vit_without_norm_is_torchs_encoder_without_norm() -> None:
    """Against the layers written out."""
    network = SMALL["vit, no norm"].make(SHAPE, 5)
    picture = examples().inputs[:2]
    tokens = network.patches(picture).flatten(2).mT  # type: ignore[operator,union-attr]
    x = torch.cat([torch.zeros(2, 1, 8), tokens], 1) + network.positions.weight  # type: ignore[union-attr,operator]
    for layer in network.layers:  # type: ignore[union-attr]
        x = x + layer.self_attn(x, x, x, need_weights=False)[0]
        x = x + layer.linear2(nn.functional.gelu(layer.linear1(x)))
    for mode in (True, False):
        assert torch.allclose(network.train(mode)(picture), network.head(x[:, 0]), atol=1e-5)  # type: ignore[operator]


def test_pictures_are_needed_where_they_are() -> None:
    with pytest.raises(ConfigError, match=r"pictures .* shape is \(64,\)"):
        CNN().make((64,), 10)
    with pytest.raises(ValueError, match="8×8 cannot be cut into patches of 3×3"):
        ViT(patch=3).make(SHAPE, 5)
    with pytest.raises(ValueError, match="a width of 10 cannot be split into 4"):
        ViT(width=10).make(SHAPE, 5)
    for net in (MLP(), MLP(hidden=())):
        assert net.make((64,), 10)(torch.zeros(2, 64)).shape == (2, 10)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"network": "mpl"}, "did you mean 'mlp'"),
        ({}, "net.network: this setting is required"),
        ({"network": "mlp", "hiden": [3]}, "did you mean 'hidden'"),
        ({"network": "mlp", "crelu": True, "fourier": True}, "one activation"),
        ({"network": "mlp", "hidden": [3], "crelu": True}, "so no width of 3"),
        ({"network": "cnn", "crelu": True}, "there is no such setting"),
        ({"network": "no_such:thing"}, "cannot be imported"),
        ({"network": "math:pi"}, "is no function"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(settings)


def test_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_small_nets.py").write_text(
        "from torch import nn\n"
        "def small(shape, outputs, width=4):\n"
        "    return nn.Sequential(nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(outputs))\n"
        "def wrong(shape, outputs):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cls, own = find_net({"network": "my_small_nets:wrong"})
    with pytest.raises(ConfigError, match="gives int, no torch"):
        configs.build(cls, own, "net").make(SHAPE, 5)
    own["network"] = "my_small_nets:small"
    net = configs.build(cls, own | {"settings": {"width": 6}, "learning_rate": 0.01}, "net")
    network = net.make(SHAPE, 5)
    assert network(torch.zeros(1, *SHAPE)).shape == (1, 5)
    assert network[0].out_channels == 6  # type: ignore[index]


def test_what_cannot_be_restored_is_said(tmp_path: Path) -> None:
    Learner(MLP(hidden=(8,)), SHAPE, 5, L2Init(strength=1e-3)).save(tmp_path / "a.safetensors")
    for other in (Learner(MLP(hidden=(9,)), SHAPE, 5), Learner(MLP(hidden=(8,)), SHAPE, 5, Spectral(strength=1e-3))):
        with pytest.raises(CheckpointError, match=r"a\.safetensors"):
            other.restore(tmp_path / "a.safetensors")


def test_divergence_is_found() -> None:
    learner, data = Learner(MLP(hidden=(8,)), SHAPE, 5), examples()
    learner.learn(data, torch.arange(24))
    learner.check_finite()
    with torch.no_grad():
        learner.policy.get_parameter("1.weight")[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"1\.weight are not finite after 24 examples and 1 updates"):
        learner.check_finite()


@pytest.mark.parametrize(("name", "parts"), [("cnn", {"1.0", "1.2"}), ("vit", None)])
def test_what_follows_convolutions_is_injected_into(name: str, parts: set[str] | None) -> None:
    """And all matrices of it begin anew, those of attention too."""
    learner = Learner(SMALL[name], SHAPE, 5, PlasticityInjection(), seed=3)
    acted_on = {layer for layer, what in learner.coverage().items() if what == "acted on"}
    assert acted_on == (parts or {layer for layer in acted_on if layer.startswith("layers.")}) != set()
    before = {key: value.clone() for key, value in learner.policy.state_dict().items() if ".added." in key}
    learner.on_switch()
    after = learner.policy.state_dict()
    assert not [key for key, value in before.items() if value.ndim > 1 and torch.equal(value, after[key])]


def test_a_network_of_convolutions_alone_is_not_injected_into() -> None:
    with pytest.raises(ValueError, match="a Sequential of Linear layers without convolutions, and none of the layers"):
        Learner(SMALL["resnet18"], SHAPE, 5, PlasticityInjection())


@pytest.mark.parametrize("method", [ReDo(every=2), PlasticityInjection(), L2Init(strength=1e-3)])
def test_methods_act_and_leave_global_random_numbers(method: object) -> None:
    learner = Learner(MLP(hidden=(16,)), SHAPE, 5, method)  # type: ignore[arg-type]
    state = torch.get_rng_state()
    learner.learn(examples(), torch.arange(24))
    learner.on_switch()
    torch.set_rng_state(state)
    assert learner.learn(examples(), torch.arange(24)).scores.shape == (24,)


def test_all_networks_are_presets() -> None:
    assert {*NETS} == {*configs.names("nets")}
    for name in NETS:
        cls, own = find_net(configs.load("nets", name)[1])
        assert isinstance(configs.build(cls, own, "net"), NETS[name])
