"""Plasticity methods for any torch training loop. The only dependency is torch.

Spectral(strength=1e-3).attach(network, optimizer)
"""

from neoteny.plasticity.compose import Compose
from neoteny.plasticity.layers import Layer
from neoteny.plasticity.method import Handle, Method
from neoteny.plasticity.metrics import dormant_units, spectral_norms
from neoteny.plasticity.optimizers import OPTIMIZERS, TRAC, UPGD, Muon
from neoteny.plasticity.penalties.l2 import L2, L2Init
from neoteny.plasticity.penalties.parseval import Parseval, SpectralSpectrum
from neoteny.plasticity.penalties.spectral import Spectral
from neoteny.plasticity.penalties.wasserstein import Wasserstein
from neoteny.plasticity.penalty import Penalty
from neoteny.plasticity.projections import NormalizeAndProject, SpectralNorm, WeightClipping
from neoteny.plasticity.resets.continual_backprop import ContinualBackprop
from neoteny.plasticity.resets.injection import PlasticityInjection
from neoteny.plasticity.resets.layer_reset import LayerReset
from neoteny.plasticity.resets.redo import ReDo
from neoteny.plasticity.resets.shrink_and_perturb import ShrinkAndPerturb
from neoteny.plasticity.resets.snr import SelfNormalizedResets
from neoteny.plasticity.survey import select_layers
from neoteny.plasticity.views import VIEWS, View

#: All methods by their name in YAML and on the command line.
METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        ContinualBackprop,
        L2,
        L2Init,
        LayerReset,
        NormalizeAndProject,
        Parseval,
        PlasticityInjection,
        ReDo,
        SelfNormalizedResets,
        ShrinkAndPerturb,
        Spectral,
        SpectralNorm,
        SpectralSpectrum,
        Wasserstein,
        WeightClipping,
    )
}

__all__ = [
    "L2",
    "METHODS",
    "OPTIMIZERS",
    "TRAC",
    "UPGD",
    "VIEWS",
    "Compose",
    "ContinualBackprop",
    "Handle",
    "L2Init",
    "Layer",
    "LayerReset",
    "Method",
    "Muon",
    "NormalizeAndProject",
    "Parseval",
    "Penalty",
    "PlasticityInjection",
    "ReDo",
    "SelfNormalizedResets",
    "ShrinkAndPerturb",
    "Spectral",
    "SpectralNorm",
    "SpectralSpectrum",
    "View",
    "Wasserstein",
    "WeightClipping",
    "dormant_units",
    "select_layers",
    "spectral_norms",
]
