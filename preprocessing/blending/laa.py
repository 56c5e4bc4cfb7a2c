"""LAA-Net's training items, from self-blended images and from BI: a pair at the network's size and its two targets.

Nguyen et al., CVPR 2024 (specs/laa_net.md, 2 and 4.4 to 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.bi import BiChanges, bi, crop_window
from preprocessing.blending.colour import PostAugmentation
from preprocessing.blending.items import cropped
from preprocessing.blending.laa_colour import BackgroundChange
from preprocessing.blending.pseudofake import MAX_REDRAWS, BlendError, Face, checked
from preprocessing.blending.sbi import SbiSettings, sbi
from preprocessing.blending.targets import boundary_levels, encode_boundary
from preprocessing.blending.warps import warp_picture
from preprocessing.landmarks import flip_points
from preprocessing.types import Image

LAA_SIDE, HEATMAP_SIDE = 384, 96
SETTINGS = SbiSettings(relative_sides=True)
TRIM = (5, 24)
"""Pixels cut off every side after blending, drawn once an item."""
ERASED_SIDE = 257
"""The frame that erased rectangles are drawn in, whatever the crop's size."""


OUTSIDE = f"{MAX_REDRAWS} boundaries in a row lay outside the picture: so do most of the landmarks"


@dataclass(frozen=True)
class LaaItem:
    """Index 0 is real, 1 fake: `images` (2, size, size, 3) uint8 RGB; `heatmap` and `consistency` (2, h, h) float32.

    `redraws` counts masks or boundaries that came out empty and were drawn again.
    """

    images: NDArray[np.uint8]
    heatmap: NDArray[np.float32]
    consistency: NDArray[np.float32]
    redraws: int


def laa_item(
    image: Image,
    points: NDArray[np.floating],
    rng: np.random.Generator,
    size: int = LAA_SIDE,
    heatmap: int = HEATMAP_SIDE,
    train: bool = True,
    centred: bool = False,
    real_ones: bool = False,
) -> LaaItem:
    """The item of a stored face crop (published: 256 x 256, eyes level) with landmarks (68 or 81, 2) in its pixels.

    The weights that the targets come from do not hold the blend ratio. `train` False leaves out flips and geometry.
    `centred` and `real_ones` as in `targets.encode_boundary`. Pixels are uint8: normalise after batching.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture, or a crop below 64 px.
    """
    points = checked(image, points, "LAA-Net's item")
    if min(image.shape[:2]) < 64:
        raise BlendError(f"LAA-Net's item takes a face crop of at least 64 px a side, not {image.shape[:2]}")
    if train and rng.random() < 0.5:
        image, points = cv2.flip(image, 1), flip_points(points, image.shape[1])
    redraws = 0
    for _ in range(MAX_REDRAWS):
        pair = sbi(image, points, rng, SETTINGS)
        redraws += pair.redraws
        trim = int(rng.integers(TRIM[0], TRIM[1] + 1))
        views = [np.ascontiguousarray(part[trim:-trim, trim:-trim]) for part in (pair.real, pair.fake)]
        boundary = boundary_levels(pair.mask[trim:-trim, trim:-trim])
        shape = (boundary.shape[0], boundary.shape[1])
        if train:
            *views, boundary = geometry([*views, boundary], rng)
        small = cv2.warpAffine(boundary, network_matrix(shape, heatmap), (heatmap, heatmap))
        if small.any():
            break
        # Erased or cropped away: a fake without a boundary to point at.
        redraws += 1
    else:
        raise BlendError(OUTSIDE)
    post = PostAugmentation.draw(rng)
    images = [post(_network_view(view, shape, size)) for view in views]
    return _item(images, small, redraws, centred, real_ones)


def laa_bi_item(
    image: Image,
    points: NDArray[np.floating],
    rng: np.random.Generator,
    partner: Face,
    size: int = LAA_SIDE,
    heatmap: int = HEATMAP_SIDE,
    train: bool = True,
    centred: bool = False,
    real_ones: bool = False,
) -> LaaItem:
    """The item with another person's face blended in: a crop as `bi` takes it, its background changed before blending.

    Both classes then change resolution (odds 1/2), are cut to BI's 257 of 317 px, and go through the geometry; nothing
    is changed in colour afterwards. The network's scale is taken after the geometry, so a random crop zooms and a
    random scale only resamples. `train` False leaves out colour, resolution and geometry.

    Raises:
        BlendError: as `bi`.
    """
    points = checked(image, points, "LAA-Net's item")
    if train:
        image = BackgroundChange.draw(rng)(image)
    redraws = 0
    for _ in range(MAX_REDRAWS):
        pair = bi(image, points, rng, partner)
        redraws += pair.redraws
        if train:
            change = replace(BiChanges.draw(rng), quality=None, flip=False)
            pair = replace(pair, real=change(pair.real), fake=change(pair.fake))
        pair = cropped(pair, crop_window(pair.mask.shape, "bi"))
        *views, boundary = [pair.real, pair.fake, boundary_levels(pair.mask)]
        if train:
            *views, boundary = geometry([*views, boundary], rng)
        shape = (boundary.shape[0], boundary.shape[1])
        small = cv2.warpAffine(boundary, network_matrix(shape, heatmap), (heatmap, heatmap))
        if small.any():
            return _item([_network_view(view, shape, size) for view in views], small, redraws, centred, real_ones)
        redraws += 1
    raise BlendError(OUTSIDE)


def _network_view(view: Image, shape: tuple[int, int], size: int) -> Image:
    return warp_picture(view, network_matrix(shape, size), (size, size), cv2.BORDER_CONSTANT)


def _item(images: list[Image], boundary: NDArray[np.uint8], redraws: int, centred: bool, real_ones: bool) -> LaaItem:
    real = encode_boundary(np.zeros_like(boundary), centred, real_ones)
    fake = encode_boundary(boundary, centred, real_ones)
    return LaaItem(np.stack(images), np.stack([real[0], fake[0]]), np.stack([real[1], fake[1]]), redraws)


def network_matrix(shape: tuple[int, int], side: int) -> NDArray[np.float64]:
    """The map (2, 3) from a picture of `shape` (H, W) to side x side: corners to corners, aspect kept, centred."""
    height, width = shape
    scale = (side - 1) / (max(height, width) - 1)
    return np.array(
        [[scale, 0, (side - 1 - scale * (width - 1)) / 2], [0, scale, (side - 1 - scale * (height - 1)) / 2]]
    )


def geometry(views: list[NDArray[np.uint8]], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """One geometric change for all views (H, W) or (H, W, 3) of a sample.

    A flip with odds 1/2; then with odds 1/2 one of: a crop by up to 14 % of each side, a scale in 0.85 to 1.15, a
    rectangle erased.
    """
    if rng.random() < 0.5:
        views = [cv2.flip(view, 1) for view in views]
    if rng.random() < 0.5:
        return views
    height, width = views[0].shape[:2]
    kind = int(rng.integers(3))
    if kind == 0:
        kept = [int(n * (1 - int(cut) / 100)) for n, cut in zip((height, width), rng.integers(0, 15, 2), strict=True)]
        top, left = int(rng.integers(height - kept[0] + 1)), int(rng.integers(width - kept[1] + 1))
        return [np.ascontiguousarray(view[top : top + kept[0], left : left + kept[1]]) for view in views]
    if kind == 1:
        scale = float(rng.uniform(0.85, 1.15))
        size = (max(round(width * scale), 2), max(round(height * scale), 2))
        return [cv2.resize(view, size, interpolation=cv2.INTER_LINEAR) for view in views]
    area = float(rng.uniform(0.02, 1 / 3)) * ERASED_SIDE**2
    aspect = float(np.exp(rng.uniform(*np.log((0.3, 1 / 0.3)))))
    tall, broad = (min(int(side), ERASED_SIDE - 1) for side in (np.sqrt(area * aspect), np.sqrt(area / aspect)))
    top, left = int(rng.integers(ERASED_SIDE - tall)), int(rng.integers(ERASED_SIDE - broad))
    views = [view.copy() for view in views]
    for view in views:
        view[top : top + tall, left : left + broad] = 0
    return views
