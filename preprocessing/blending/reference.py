"""SBI step by step as published: full-size fields in double precision, whole pictures, every truncation in its place.

Slow on purpose. It draws what `sbi` draws, in the same order, so that for one seed the two differ by the elastic field
and by rounding only; tests hold the fast way to it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import erode_and_feather, hull_mask
from preprocessing.blending.pseudofake import MAX_REDRAWS, BlendError, PseudoFake, checked, too_small
from preprocessing.blending.sbi import SbiDraw, SbiSettings
from preprocessing.types import Image

ELASTIC_ALPHA, ELASTIC_SIGMA = 50.0, 7.0


def reference_field(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Displacements (H, W, 2) in pixels: white noise in -1..1, Gaussian of sigma 7 cut at 4 sigma and reflected, times
    50 (section 3.3)."""
    from scipy.ndimage import gaussian_filter

    axes = [gaussian_filter(rng.uniform(-1, 1, shape), ELASTIC_SIGMA) * ELASTIC_ALPHA for _ in range(2)]
    return np.stack(axes, axis=-1).astype(np.float32)


def sbi_reference(
    image: Image, points: NDArray[np.floating], rng: np.random.Generator, settings: SbiSettings | None = None
) -> PseudoFake:
    """As `sbi.sbi`, in the published order: black borders, nearest affine map of the mask, blend in double precision.

    Raises:
        BlendError: as `sbi.sbi`.
    """
    points, settings = checked(image, points, "self-blending"), settings or SbiSettings()
    height, width = image.shape[:2]
    for redraws in range(MAX_REDRAWS):
        draw = SbiDraw.draw((height, width), len(points), rng, settings)
        mask = hull_mask(draw.hull, points[: draw.count], (height, width)).astype(np.float64)
        source, target = image.copy(), image
        if draw.on_source:
            source = draw.change(source)
        else:
            target = draw.change(target)
        source = cv2.warpAffine(source, draw.matrix, (width, height), flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(mask, draw.matrix, (width, height), flags=cv2.INTER_NEAREST)
        field = reference_field((height, width), rng)
        rows, columns = np.indices((height, width), dtype=np.float32)
        across, down = columns + field[..., 0], rows + field[..., 1]
        mask = cv2.remap(mask, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        mask = cv2.resize(mask, draw.sides[::-1], interpolation=cv2.INTER_LINEAR)
        # In double precision the inside differs from 1 by 1e-15, which is not what "below 1" is meant to remove.
        soft = erode_and_feather(mask, draw.kernels, draw.sigma, full=1 - 1e-12)
        if soft is None:
            continue
        mask = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        if too_small(mask):
            continue
        weights = mask[..., None] * draw.ratio
        fake = (weights * source + (1 - weights) * target).astype(np.uint8)
        return PseudoFake(target.copy(), fake, mask.astype(np.float32), points, "sbi_reference", draw.ratio, redraws)
    raise BlendError(f"{MAX_REDRAWS} masks in a row were empty: the landmarks lie outside the picture, or on one point")
