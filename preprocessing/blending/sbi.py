"""Self-blended images (Shiohara and Yamasaki, CVPR 2022): a face blended with a changed copy of itself.

What is random is drawn first (`SbiDraw`) and carried out after. The steps follow specs/blending.md, section 3, with
less work: the mask goes through affine map, elastic field and resize in one go, colours change where they are seen,
and the border of a moved picture is repeated where the published code leaves it black. `sbi_reference` is the slow way.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preprocessing.blending.colour import SourceChange
from preprocessing.blending.masks import HULLS, HullKind, Mask, hull_mask
from preprocessing.blending.pseudofake import MAX_REDRAWS, BlendError, PseudoFake, blend, checked, extent, too_small
from preprocessing.blending.warps import affine_jitter, elastic_field, warp_picture
from preprocessing.settings import Strict
from preprocessing.types import Image, Points

WORK_SIDES = (192, 256)
"""Sides of the mask, drawn apart, at which it is eroded and feathered; both ends included."""
RELATIVE = 0.8
"""LAA-Net draws those sides from this share of the picture's to its inverse."""
KERNELS = tuple(range(5, 26, 2))
SIGMAS = (5, 45)
FULL = 1 - 1e-4
"""Above this a mask is 1, up to the rounding of float32."""


class SbiSettings(Strict):
    """The published variants: SBI as it is, LAA-Net's with `relative_sides`."""

    hulls: tuple[HullKind, ...] = Field(default=HULLS, min_length=1, description="drawn with equal odds")
    only_68: float = Field(default=0.25, ge=0, le=1, description="odds that the forehead's points are left out")
    ratios: tuple[float, ...] = Field(default=(0.25, 0.5, 0.75, 1.0, 1.0, 1.0), min_length=1)
    relative_sides: bool = Field(default=False, description="feather at a size relative to the picture's (LAA-Net)")


@dataclass(frozen=True)
class SbiDraw:
    """Everything random of one blend but the elastic field. `sides` (height, width) of the mask that is feathered."""

    count: int
    hull: HullKind
    change: SourceChange
    on_source: bool
    matrix: NDArray[np.float64]
    sides: tuple[int, int]
    kernels: tuple[int, int]
    sigma: float
    ratio: float

    @classmethod
    def draw(cls, shape: tuple[int, int], count: int, rng: np.random.Generator, settings: SbiSettings) -> SbiDraw:
        """For a picture of `shape` (H, W) with `count` landmarks."""
        ranges = [WORK_SIDES] * 2
        if settings.relative_sides:
            ranges = [(max(int(RELATIVE * n), 1), max(int(n / RELATIVE) - 1, 1)) for n in shape]
        first, second = (KERNELS[int(k)] for k in rng.integers(len(KERNELS), size=2))
        return cls(
            68 if rng.random() < settings.only_68 else count,
            settings.hulls[int(rng.integers(len(settings.hulls)))],
            SourceChange.draw(rng),
            bool(rng.random() < 0.5),
            affine_jitter(shape, rng),
            (int(rng.integers(ranges[0][0], ranges[0][1] + 1)), int(rng.integers(ranges[1][0], ranges[1][1] + 1))),
            (first, second),
            float(rng.integers(SIGMAS[0], SIGMAS[1] + 1)),
            float(rng.choice(settings.ratios)),
        )


def sbi(
    image: Image,
    points: NDArray[np.floating],
    rng: np.random.Generator,
    settings: SbiSettings | None = None,
    window: tuple[slice, slice] | None = None,
) -> PseudoFake:
    """A real and a fake from one picture (H, W, 3) uint8 RGB with landmarks (68 or 81, 2) in its pixels.

    The published crop is the landmark box enlarged by half its width at both sides, its height above and 0.4 of it
    below (`items.wide_crop`); shifts are relative to it, the elastic field is in pixels. `real` is the blend's target,
    in half of the draws a changed copy. `window`: rows and columns that are wanted; the result is exactly that part.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture.
    """
    points, settings = checked(image, points, "self-blending"), settings or SbiSettings()
    shape = (image.shape[0], image.shape[1])
    for redraws in range(MAX_REDRAWS):
        draw = SbiDraw.draw(shape, len(points), rng, settings)
        mask = soft_mask(points, shape, draw, rng)
        if mask is None or too_small(mask):
            continue
        rows, columns = window or (slice(0, shape[0]), slice(0, shape[1]))
        real, fake = _render(image, mask * np.float32(draw.ratio), draw, rows, columns)
        moved: Points = points - np.array([columns.start, rows.start], np.float32)
        part = np.ascontiguousarray(mask[rows, columns])
        return PseudoFake(real, fake, part, moved, "sbi", draw.ratio, redraws)
    raise BlendError(f"{MAX_REDRAWS} masks in a row were empty: the landmarks lie outside the picture, or on one point")


def soft_mask(points: Points, shape: tuple[int, int], draw: SbiDraw, rng: np.random.Generator) -> Mask | None:
    """M (H, W): the hull moved by the affine map and the elastic field, eroded and feathered; None: empty."""
    hull = hull_mask(draw.hull, points[: draw.count], shape)
    maps = []
    # The affine map has no shear: each coordinate goes back through its own scale and shift.
    for axis, moved in enumerate(cv2.split(elastic_field(shape, rng, size=draw.sides))):
        length, side = shape[1 - axis], draw.sides[1 - axis]
        scale, shift = draw.matrix[axis, axis], draw.matrix[axis, 2]
        place = ((np.arange(side) + 0.5) * (length / side) - 0.5 - shift) / scale
        moved *= np.float32(1 / scale)
        moved += place.astype(np.float32).reshape((1, -1) if axis == 0 else (-1, 1))
        maps.append(moved)
    work = cv2.remap(hull, maps[0], maps[1], cv2.INTER_LINEAR)
    # A Gaussian blur stays 1 exactly where the whole kernel sees 1: an erosion by its square.
    hard = cv2.erode((work > FULL).view(np.uint8), np.ones((draw.kernels[0],) * 2, np.uint8))
    if not hard.any():
        return None
    work = cv2.GaussianBlur(hard.astype(np.float32), (draw.kernels[1],) * 2, draw.sigma)
    work /= work.max()
    soft = cv2.resize(work, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(soft, 0, 1, out=soft)


def _render(image: Image, weights: Mask, draw: SbiDraw, rows: slice, columns: slice) -> tuple[Image, Image]:
    """Target and blend in the window; only what is seen there is computed."""
    whole = image[rows, columns]
    real = whole.copy() if draw.on_source else np.ascontiguousarray(draw.change.part(image, rows, columns))
    fake = real.copy()
    inside = weights[rows, columns]
    if not inside.any():
        return real, fake
    near_rows, near_columns = extent(inside)
    top, left = rows.start + near_rows.start, columns.start + near_columns.start
    size = (near_rows.stop - near_rows.start, near_columns.stop - near_columns.start)
    source = _moved(image, draw, top, left, size)
    fake[near_rows, near_columns] = blend(source, real[near_rows, near_columns], inside[near_rows, near_columns])
    return real, fake


def _moved(image: Image, draw: SbiDraw, top: int, left: int, size: tuple[int, int]) -> Image:
    """The source through the affine map: `size` rows and columns of it from `top` and `left` on."""
    sx, sy = draw.matrix[0, 0], draw.matrix[1, 1]
    tx, ty = draw.matrix[:, 2]
    rows = _span((top - ty) / sy, (top + size[0] - 1 - ty) / sy, image.shape[0])
    columns = _span((left - tx) / sx, (left + size[1] - 1 - tx) / sx, image.shape[1])
    part = draw.change.part(image, rows, columns) if draw.on_source else image[rows, columns]
    shift_x, shift_y = sx * columns.start + tx - left, sy * rows.start + ty - top
    matrix = np.array([[sx, 0, shift_x], [0, sy, shift_y]])
    return warp_picture(part, matrix, size, cv2.BORDER_REPLICATE)


def _span(first: float, last: float, length: int) -> slice:
    """The pixels around first..last that interpolation reads, within the picture, at least one."""
    start = min(max(int(np.floor(first)) - 2, 0), length - 1)
    return slice(start, max(min(int(np.ceil(last)) + 3, length), start + 1))
