"""Self-blended pairs: a fake made from one real picture by blending it with a changed copy of itself.

Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022 (family "face"); local blends and lower
resolution (Li and Lyu, CVPRW 2019) are families of their own, so that each can be left out of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from preprocessing.blending.colour import augment_source, lower_resolution
from preprocessing.blending.masks import EYES, HULLS, MOUTH, Mask, erode_and_feather, hull_mask, region_mask
from preprocessing.blending.pseudofake import MAX_REDRAWS, BlendError, blend, too_small
from preprocessing.blending.warps import affine_jitter, displace, elastic_field, warp
from preprocessing.settings import Strict
from preprocessing.types import Image

Family = Literal["face", "mouth", "eyes", "resolution"]


class BlendSettings(Strict):
    """What is blended. `families` gives each family's odds (relative; 0 holds it out)."""

    families: dict[Family, float] = Field(default={"face": 0.5, "mouth": 0.2, "eyes": 0.1, "resolution": 0.2})
    ratios: tuple[float, ...] = Field(default=(0.25, 0.5, 0.75, 1.0, 1.0, 1.0), min_length=1)
    only_68: float = Field(default=0.25, ge=0, le=1, description="odds that the forehead's points are left out")

    @field_validator("families")
    @classmethod
    def _some_family(cls, families: dict[Family, float]) -> dict[Family, float]:
        if min(families.values(), default=0) < 0 or sum(families.values()) <= 0:
            raise ValueError("families needs odds of at least 0, one of them above 0")
        return families


@dataclass(frozen=True)
class BlendedPair:
    """`real` and `fake` (H, W, 3) uint8 RGB; `mask` (H, W) float32 in 0..1, the blend weights with the ratio in them.

    fake = mask * source + (1 - mask) * real, truncated: where the mask is 0 the two are equal. `real` is the blend's
    target, which may be a changed copy of the picture. `redraws` counts masks that came out empty and were drawn again.
    """

    real: Image
    fake: Image
    mask: Mask
    family: Family
    ratio: float
    redraws: int


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The one generator of a sample: it does not depend on the worker that makes it nor on the order."""
    return np.random.default_rng([seed, epoch, index])


def self_blend(
    image: Image, points: NDArray[np.floating], rng: np.random.Generator, settings: BlendSettings | None = None
) -> BlendedPair:
    """A real and a fake from one picture (H, W, 3) uint8 RGB with landmarks (68 or 81, 2) in its pixels.

    The picture should be a margin crop of about twice the face: shifts and blurs scale with it. Changes that real and
    fake share (PostAugmentation, Degradation) come after and are not part of it.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture.
    """
    settings = settings or BlendSettings()
    if points.ndim != 2 or len(points) not in (68, 81) or not np.isfinite(points).all():
        raise BlendError(f"self-blending takes 68 or 81 finite landmarks of one face, not an array {points.shape}")
    names = list(settings.families)
    odds = np.array([settings.families[name] for name in names], np.float64)
    for redraws in range(MAX_REDRAWS):
        family = names[int(rng.choice(len(names), p=odds / odds.sum()))]
        source, target, mask = _sides(family, image, points, rng, settings)
        soft = soften(mask, rng)
        if soft is None:
            continue
        ratio = 1.0 if family == "resolution" else float(rng.choice(settings.ratios))
        weights = soft * np.float32(ratio)
        return BlendedPair(target, blend(source, target, weights), weights, family, ratio, redraws)
    raise BlendError(f"{MAX_REDRAWS} masks in a row were empty: the landmarks lie outside the picture, or on one point")


def soften(mask: Mask, rng: np.random.Generator) -> Mask | None:
    """Erosion by one blur, feathering by a second, at a random size of 192 to 256 px (section 3.5); None: empty.

    Kernels stay below half of the mask's shorter side, else nothing is left of an eye.
    """
    height, width = mask.shape
    work = cv2.resize(mask, tuple(int(n) for n in rng.integers(192, 257, 2)), interpolation=cv2.INTER_LINEAR)
    _, _, *extent = cv2.boundingRect((work > 0.5).astype(np.uint8))
    largest = int(min(25, min(extent) / 2))
    if largest < 5:
        return None
    kernels = np.arange(5, largest + 1, 2)
    first, second = (int(k) for k in rng.choice(kernels, 2))
    feathered = erode_and_feather(work, (first, second), float(rng.integers(5, 46)))
    if feathered is None:
        return None
    soft = cv2.resize(feathered, (width, height), interpolation=cv2.INTER_LINEAR)
    return None if too_small(soft) else np.clip(soft, 0, 1)


def _sides(
    family: Family, image: Image, points: NDArray[np.floating], rng: np.random.Generator, settings: BlendSettings
) -> tuple[Image, Image, Mask]:
    """Source, target and mask before softening."""
    shape = (image.shape[0], image.shape[1])
    if family == "resolution":
        kind = HULLS[int(rng.integers(4))]
        polygon = rng.random() < 0.5
        mask = region_mask("fwa", points, shape, rng) if polygon else hull_mask(kind, points, shape)
        worse = lower_resolution(image, 1 / float(rng.uniform(0.35, 0.85)))
        if rng.random() < 0.5:
            worse = cv2.GaussianBlur(worse, (5, 5), 0)
        source, target = (worse, image) if rng.random() < 0.75 else (image, worse)
        return source, target, displace(mask, elastic_field(shape, rng))
    centre = None
    scale, shift = 0.95, (0.03, 0.015)
    if family == "face":
        used = points[:68] if rng.random() < settings.only_68 else points
        mask = hull_mask(HULLS[int(rng.integers(len(HULLS)))], used, shape)
    else:
        kinds = MOUTH if family == "mouth" else EYES
        mask = region_mask(kinds[int(rng.integers(len(kinds)))], points, shape, rng)
        middle = points[48:68].mean(axis=0) if family == "mouth" else points[36:48].mean(axis=0)
        # A part that was driven by another performance is larger or smaller than the one it replaces.
        centre, scale, shift = (float(middle[0]), float(middle[1])), 0.88, (0.015, 0.015)
    source, target = image, image
    if rng.random() < 0.5:
        source = augment_source(image, rng)
    else:
        target = augment_source(image, rng)
    source, mask = warp(source, mask, affine_jitter(shape, rng, scale, shift, centre))
    return source, target, displace(mask, elastic_field(shape, rng))
