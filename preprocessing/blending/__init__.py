"""Pseudo-fakes from real faces: masks, warps, colour changes, blending and targets, in-house and reproducible."""

from preprocessing.blending.bi import bi, bi_item
from preprocessing.blending.colour import Degradation, PostAugmentation
from preprocessing.blending.fwa import fwa, fwa_item
from preprocessing.blending.items import sbi_item
from preprocessing.blending.laa import LaaItem, laa_bi_item, laa_item
from preprocessing.blending.partners import PartnerIndex
from preprocessing.blending.pseudofake import BlendError, Face, PseudoFake
from preprocessing.blending.reference import sbi_reference
from preprocessing.blending.registry import Mixture, families, make
from preprocessing.blending.sbi import SbiSettings, sbi
from preprocessing.blending.selfblend import BlendedPair, BlendSettings, Family, sample_rng, self_blend

__all__ = [
    "BlendError",
    "BlendSettings",
    "BlendedPair",
    "Degradation",
    "Face",
    "Family",
    "LaaItem",
    "Mixture",
    "PartnerIndex",
    "PostAugmentation",
    "PseudoFake",
    "SbiSettings",
    "bi",
    "bi_item",
    "families",
    "fwa",
    "fwa_item",
    "laa_bi_item",
    "laa_item",
    "make",
    "sample_rng",
    "sbi",
    "sbi_item",
    "sbi_reference",
    "self_blend",
]
