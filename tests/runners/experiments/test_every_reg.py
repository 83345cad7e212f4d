"""Every preset of configs/regs, as the command line runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from thinning import some

from neoteny import configs
from neoteny.runners import continual_rl, continual_supervised
from neoteny.runners.experiments import parse
from neoteny.runners.experiments.supervised import SUPERVISED
from neoteny.runners.runs.tables import read_rows

REGS = configs.names("regs")
ALL_AT_ONCE = "spectral+redo+crelu+trac"
#: What they are seen by in TensorBoard, beside what every run shows.
SHOWN = {
    "none": set(),
    "adam-equal-betas": set(),
    "crelu": set(),
    "fourier": set(),
    "layer-norm": set(),
    "continual-backprop": {"reg/all/resets"},
    "l2": {"reg/all/penalty"},
    "l2-init": {"reg/all/penalty"},
    "layer-reset": {"reg/all/resets"},
    "muon": {"optimizer/momentum"},
    "normalize-and-project": {"reg/all/factor_max", "reg/all/factor_min"},
    "parseval": {"reg/all/penalty"},
    "plasticity-injection": {"reg/all/injections"},
    "redo": {"reg/all/resets", "reg/all/dormant"},
    "self-normalized-resets": {"reg/all/resets"},
    "shrink-and-perturb": {"reg/all/perturbations"},
    "spectral": {"reg/all/penalty", "reg/all/sigma_max"},
    "spectral-heads": {"reg/all/penalty", "reg/all/sigma_max"},
    "spectral-norm": {"reg/all/sigma_max"},
    "spectral-spectrum": {"reg/all/penalty"},
    "spectral-target2": {"reg/all/penalty", "reg/all/sigma_max"},
    "trac": {"optimizer/scale"},
    "upgd": {"optimizer/gate"},
    "wasserstein": {"reg/all/penalty"},
    "weight-clipping": {"reg/all/at_bound"},
}
SMALL = "--num-envs 8 --agent.n_steps 16 --agent.batch_size 64 --agent.network.hidden [16,16]".split()


@pytest.mark.parametrize("reg", some([*REGS, ALL_AT_ONCE], "muon", ALL_AT_ONCE))
def test_three_tasks(reg: str, tmp_path: Path):
    argv = ["--env", "minigrid-permute", "--num-tasks", "3", "--steps-per-task", "1024", "--reg", reg, *SMALL]
    argv += ["--out", str(tmp_path)]
    assert continual_rl.main(argv) == 0
    folder = parse(argv, "")[0].folder
    assert len(read_rows(folder / "tasks.csv", 10**9)) == 3
    events = EventAccumulator(str(folder))
    events.Reload()
    shown = {tag for tag in events.Tags()["scalars"] if tag.startswith(("reg/", "optimizer/"))}
    if "+" in reg:
        assert shown >= {"reg/all/spectral.penalty", "reg/all/redo.resets", "optimizer/scale"}
    else:
        methods = any(name.startswith("reg/") for name in SHOWN[reg])
        assert shown == SHOWN[reg] | ({"reg/all/acted_on"} if methods else set())


NETS = {
    "mlp": "--net.hidden [16]",
    "cnn": "--net.channels [4] --net.hidden [8]",
    "resnet18": "--net.width 4",
    "vit": "--net.width 8 --net.depth 1 --net.heads 2 --net.feedforward 8",
}
#: What cannot be, and what is said of it.
WITHOUT = [(net, reg) for net in ("cnn", "resnet18", "vit") for reg in ("crelu", "fourier")]
REFUSED = {
    **dict.fromkeys(WITHOUT, "in the network, which this one has not"),
    ("resnet18", "plasticity-injection"): "acts on a Sequential of Linear layers without convolutions",
}
#: What goes, and does nothing.
WARNED = {("resnet18", "muon"): "no hidden Linear layer that it could train"}


def of_examples(net: str, reg: str, out: Path) -> list[str]:
    return f"--data.samples 32 --num-tasks 2 --epochs 2 --net {net} {NETS[net]} --reg {reg} --out {out}".split()


@pytest.mark.parametrize(("net", "reg"), REFUSED)
def test_what_a_network_has_not_is_refused(
    net: str, reg: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        sys.exit(continual_supervised.main(of_examples(net, reg, tmp_path)))
    assert end.value.code == 2
    assert REFUSED[net, reg] in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.sampled(12)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("reg", REGS)
def test_on_every_network_for_examples(reg: str, net: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Two tasks; what the method does is seen."""
    if (net, reg) in REFUSED:
        pytest.skip("the test above")
    argv = of_examples(net, reg, tmp_path)
    assert continual_supervised.main(argv) == 0
    folder = parse(argv, program=SUPERVISED)[0].folder
    tasks = read_rows(folder / "tasks.csv", 10**9)
    assert len(tasks) == 2
    events = EventAccumulator(str(folder))
    events.Reload()
    shown = {tag for tag in events.Tags()["scalars"] if tag.startswith(("reg/", "optimizer/"))}
    expected = set() if (net, reg) in WARNED else {tag.rpartition("/")[2] for tag in SHOWN[reg]}
    assert {tag.rpartition("/")[2] for tag in shown} - {"acted_on"} == expected
    said = " ".join(str(warning.message) for warning in recwarn)
    assert all((words in said) == ((net, reg) == pair) for pair, words in WARNED.items())
    if any(tag.startswith("reg/") for tag in SHOWN[reg]):  # injection has frozen what it acts on
        assert float(tasks[0]["acted_on"]) > 0.1
