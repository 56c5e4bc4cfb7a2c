"""Training items as SBI publishes them: flip, wide crop, blend, the pair's common changes, tight crop, network size."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.colour import PostAugmentation
from preprocessing.blending.pseudofake import BlendError, PseudoFake, checked
from preprocessing.blending.sbi import SbiSettings, sbi
from preprocessing.landmarks import flip_points
from preprocessing.types import Image, Points

Window = tuple[slice, slice]
"""Rows and columns."""

SBI_SIDE = 380
MCU = 16
"""Side in pixels of JPEG's independent blocks at 4:2:0."""
NEAR = 8
"""Pixels beyond a crop that reach it through JPEG's smooth upsampling of colour; 2 would do."""


def wide_crop(points: Points, shape: tuple[int, int]) -> Window:
    """SBI's crop before blending, within the picture (H, W): the box of the first 68 landmarks, half its width on the
    left and on the right, its height above and 0.4 of it below."""
    (left, top), (right, bottom) = points[:68].min(axis=0), points[:68].max(axis=0)
    width, height = right - left, bottom - top
    return _window(left - width / 2, top - height, right + width / 2, bottom + 0.4 * height, shape)


def tight_crop(box: NDArray[np.floating], reach: NDArray[np.floating], shape: tuple[int, int]) -> Window:
    """The network's view: a face box (x1, y1, x2, y2) whose left, top, right and bottom move out by `reach` (4,) of a
    quarter of its size; 0.5 in validation."""
    width, height = box[2] - box[0], box[3] - box[1]
    out = np.array([-width, -height, width, height]) / 4 * reach
    x1, y1, x2, y2 = (float(n) for n in box + out)
    return _window(x1, y1, x2, y2, shape)


def sbi_item(
    image: Image,
    points: NDArray[np.floating],
    rng: np.random.Generator,
    size: int = SBI_SIDE,
    box: NDArray[np.floating] | None = None,
    settings: SbiSettings | None = None,
    train: bool = True,
) -> PseudoFake:
    """SBI's training item (specs/blending.md, 3.1 to 3.6): `real` and `fake` (size, size, 3) uint8, the mask with them.

    `box` (4,): the face's box as its detector gives it (published: RetinaFace's, from the hairline on); without it the
    box of all landmarks, so give 81. `train` False leaves out flip and random crop. Only what the tight crop shows is
    computed: JPEG's blocks do not depend on one another, so the pixels are those of the whole picture's way.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture.
    """
    points = checked(image, points, "self-blending")
    if box is None:
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    reach = rng.uniform(0.2, 0.8, 4) if train else np.full(4, 0.5)
    flipped = train and rng.random() < 0.5
    post = PostAugmentation.draw(rng)
    # Cropping first makes flip and blend cheaper; the published order flips the whole frame.
    around = wide_crop(points, (image.shape[0], image.shape[1]))
    image, corner = image[around], np.array([around[1].start, around[0].start], np.float32)
    points, box = points - corner, np.asarray(box, np.float64) - np.tile(corner, 2)
    shape = (image.shape[0], image.shape[1])
    if flipped:
        image, points = cv2.flip(image, 1), flip_points(points, shape[1])
        box = np.array([shape[1] - box[2], box[1], shape[1] - box[0], box[3]])
    tight = tight_crop(box, reach, shape)
    seen = tight if post.quality is None else _blocks(tight, shape)
    pair = sbi(np.ascontiguousarray(image), points, rng, settings, seen)
    pair = replace(pair, real=post(pair.real), fake=post(pair.fake))
    inner = tuple(
        slice(inside.start - outside.start, inside.stop - outside.start)
        for inside, outside in zip(tight, seen, strict=True)
    )
    return resized(cropped(pair, (inner[0], inner[1])), (size, size))


def cropped(pair: PseudoFake, window: Window) -> PseudoFake:
    """The same pair within rows and columns (of start 0 or more)."""
    corner = np.array([window[1].start or 0, window[0].start or 0], np.float32)
    real, fake = np.ascontiguousarray(pair.real[window]), np.ascontiguousarray(pair.fake[window])
    return replace(
        pair, real=real, fake=fake, mask=np.ascontiguousarray(pair.mask[window]), points=pair.points - corner
    )


def resized(pair: PseudoFake, size: tuple[int, int]) -> PseudoFake:
    """The same pair at `size` (H, W), bilinear."""
    scale = np.array([size[1] / pair.mask.shape[1], size[0] / pair.mask.shape[0]], np.float32)
    real, fake, mask = (cv2.resize(part, size[::-1]) for part in (pair.real, pair.fake, pair.mask))
    return replace(pair, real=real, fake=fake, mask=mask, points=(pair.points + 0.5) * scale - 0.5)


def mirrored(pair: PseudoFake) -> PseudoFake:
    """The same pair, left and right exchanged."""
    real, fake, mask = (cv2.flip(part, 1) for part in (pair.real, pair.fake, pair.mask))
    return replace(pair, real=real, fake=fake, mask=mask, points=flip_points(pair.points, pair.mask.shape[1]))


def _window(x1: float, y1: float, x2: float, y2: float, shape: tuple[int, int]) -> Window:
    rows = slice(max(int(y1), 0), min(int(y2), shape[0]))
    columns = slice(max(int(x1), 0), min(int(x2), shape[1]))
    if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
        raise BlendError("the face lies outside the picture, or is smaller than two pixels: no crop can be made of it")
    return rows, columns


def _blocks(window: Window, shape: tuple[int, int]) -> Window:
    """The whole JPEG blocks that decide the pixels of a window."""
    starts = [max(part.start - NEAR, 0) // MCU * MCU for part in window]
    stops = [min(-(-(part.stop + NEAR) // MCU) * MCU, length) for part, length in zip(window, shape, strict=True)]
    return slice(starts[0], stops[0]), slice(starts[1], stops[1])
