"""Measurements on networks. They change neither the network nor any random state."""

from neoteny.plasticity.metrics.change import greedy_churn, policy_churn, policy_entropy, update_ratio, value_churn
from neoteny.plasticity.metrics.gradients import conv_patches, gradient_diversity, gradient_gram
from neoteny.plasticity.metrics.passes import Passes, Units
from neoteny.plasticity.metrics.spectra import (
    condition_number,
    effective_rank,
    frobenius_norm,
    singular_values,
    spectral_norms,
    stable_rank,
    threshold_rank,
)
from neoteny.plasticity.metrics.units import dormant_units, saturated_units

__all__ = [
    "Passes",
    "Units",
    "condition_number",
    "conv_patches",
    "dormant_units",
    "effective_rank",
    "frobenius_norm",
    "gradient_diversity",
    "gradient_gram",
    "greedy_churn",
    "policy_churn",
    "policy_entropy",
    "saturated_units",
    "singular_values",
    "spectral_norms",
    "stable_rank",
    "threshold_rank",
    "update_ratio",
    "value_churn",
]
