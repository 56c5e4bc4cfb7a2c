"""Pseudo-fakes from real faces: masks, warps, colour changes and self-blending, in-house and reproducible."""

from preprocessing.blending.colour import Degradation, PostAugmentation
from preprocessing.blending.selfblend import BlendedPair, BlendError, BlendSettings, Family, sample_rng, self_blend

__all__ = [
    "BlendError",
    "BlendSettings",
    "BlendedPair",
    "Degradation",
    "Family",
    "PostAugmentation",
    "sample_rng",
    "self_blend",
]
