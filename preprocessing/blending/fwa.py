"""FWA's pseudo-fakes: a face brought to a lower resolution in an aligned frame, blurred and warped back.

Li and Lyu, "Exposing DeepFake Videos By Detecting Face Warping Artifacts", CVPRW 2019 (specs/baselines.md, 4.1 and 4.3;
the training code is not published).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.deform import deform
from preprocessing.blending.items import cropped, mirrored, resized
from preprocessing.blending.masks import Mask, region_mask
from preprocessing.blending.pseudofake import MAX_REDRAWS, BlendError, PseudoFake, blend, checked, too_small
from preprocessing.blending.warps import warp_picture
from preprocessing.types import Image, Points

FWA_SIDE = 224
ALIGNED_SIDE = 256
"""Pixels of the aligned frame at factor 1."""
FACTORS = tuple(n / 10 for n in range(2, 9))
PADDING = 0.1
"""Around the template, in its sides (not published). With more, the network's crop would hide the square's border."""
DEFORMATION = (0.005, 0.02)


def _template() -> NDArray[np.float64]:
    """(51, 2): a mean face of points 17 to 67 in the unit square, symmetrical about x = 0.490.

    Brows, eyes, nose and mouth lie in the ranges of the template that face-swap tools share. Only the similarity
    transform depends on it, not what the face looks like.
    """
    half = np.linspace(0, 1, 5)
    brow = np.stack([0.0002 + 0.39 * half, 0.1065 - 0.0878 * np.sin(np.pi * half)], 1)
    bridge = np.stack([np.full(4, 0.49), np.linspace(0.2034, 0.5151, 4)], 1)
    nostrils = np.stack([np.linspace(0.38, 0.6, 5), np.array([0.59, 0.61, 0.6281, 0.61, 0.59])], 1)
    angles = np.radians([180, 240, 300, 0, 60, 120])
    eye = np.stack([0.19 + 0.1 * np.cos(angles), 0.212 + 0.0332 / np.sin(np.pi / 3) * np.sin(angles)], 1)
    turn = np.radians(180 + 30 * np.arange(12))
    lips = np.stack([0.49 + 0.22 * np.cos(turn), 0.8184 + 0.091 * np.sin(turn)], 1)
    turn = np.radians(180 + 45 * np.arange(8))
    inner = np.stack([0.49 + 0.18 * np.cos(turn), 0.8184 + 0.03 * np.sin(turn)], 1)
    other_brow = (brow * [-1, 1] + [0.98, 0])[::-1]
    other_eye = (eye * [-1, 1] + [0.98, 0])[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([brow, other_brow, bridge, nostrils, eye, other_eye, lips, inner])


TEMPLATE = _template()


def similarity(points: NDArray[np.floating], to: NDArray[np.floating]) -> NDArray[np.float64]:
    """(2, 3): rotation, scale and shift that bring points (N, 2) closest to others (Umeyama, PAMI 1991)."""
    # In the plane a similarity is a product and a sum of complex numbers.
    a, b = (np.asarray(p, np.float64) @ np.array([1, 1j]) for p in (points, to))
    from_centre = a - a.mean()
    turn = np.vdot(from_centre, b - b.mean()) / max(float(np.vdot(from_centre, from_centre).real), 1e-12)
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def fwa(image: Image, points: NDArray[np.floating], rng: np.random.Generator) -> PseudoFake:
    """A real picture (H, W, 3) uint8 RGB and the same with its face at a lower resolution.

    Landmarks (68 or 81, 2) in its pixels. The aligned frame has 0.2 to 0.8 of 256 px a side, and never more than 0.8 of
    what it covers in the picture: a face that is small already would come back unchanged. The region is the aligned
    square or the polygon of brows and lower mouth (equal odds), slightly deformed.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture.
    """
    points = checked(image, points, "FWA's pseudo-fake")
    shape = (image.shape[0], image.shape[1])
    unit = similarity(points[17:68], (TEMPLATE + PADDING) / (1 + 2 * PADDING))
    own = 1 / max(float(np.hypot(*unit[:, 0])), 1e-9) if np.isfinite(unit).all() else np.inf
    if not np.isfinite(own) or own < 1:
        raise BlendError("FWA's pseudo-fake takes landmarks of a face, not all on one point")
    for redraws in range(MAX_REDRAWS):
        factor = FACTORS[int(rng.integers(len(FACTORS)))]
        side = max(round(min(factor * ALIGNED_SIDE, FACTORS[-1] * own)), 4)
        square = bool(rng.random() < 0.5)
        mask = deform(_region(points, unit, shape, square, rng), rng, DEFORMATION)
        if too_small(mask):
            continue
        # Pixel centres of the aligned frame lie at (n + 0.5) / side of the unit square.
        there = unit * side - np.array([[0, 0, 0.5], [0, 0, 0.5]])
        aligned = warp_picture(_smoothed(image, own / side), there, (side, side), cv2.BORDER_REPLICATE)
        aligned = cv2.GaussianBlur(aligned, (5, 5), 0)
        back = cv2.invertAffineTransform(there)
        source = warp_picture(aligned, back, shape, cv2.BORDER_REPLICATE)
        return PseudoFake(image.copy(), blend(source, image, mask), mask, points, "fwa", 1.0, redraws)
    raise BlendError(f"{MAX_REDRAWS} masks in a row were empty: the landmarks lie outside the picture, or on one point")


def _region(
    points: Points, unit: NDArray[np.float64], shape: tuple[int, int], square: bool, rng: np.random.Generator
) -> Mask:
    """What is replaced: the aligned square without its outermost pixels, or FWA's polygon; 0 or 1."""
    if not square:
        return region_mask("fwa", points, shape, rng)
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]) * 0.96 + 0.02
    to_image = cv2.invertAffineTransform(unit)
    placed = corners @ to_image[:, :2].T + to_image[:, 2]
    canvas = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(canvas, np.rint(placed).astype(np.int32), 1)
    return canvas.astype(np.float32)


def _smoothed(image: Image, factor: float) -> Image:
    """Before a bilinear warp that shrinks by more than 2: what a pixel of the small frame covers, averaged."""
    if factor <= 2:
        return image
    return cv2.GaussianBlur(image, (0, 0), (factor - 1) / 2)


# --- after blending


@dataclass(frozen=True)
class FwaChanges:
    """What real and fake go through alike: factors of brightness, contrast, colour and sharpness; rotation in degrees,
    zoom, shift as a share of the picture, flip; and the margins around the landmarks, as shares of their box."""

    enhance: tuple[float, ...]
    degrees: float
    zoom: float
    shift: tuple[float, float]
    flip: bool
    margins: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> FwaChanges:
        """0.5 to 1.5; 10 degrees and 5 % either way; flip 1/2; margins up to 1/8 of the width and 1/5 of the height."""
        return cls(
            tuple(float(n) for n in rng.uniform(0.5, 1.5, 4)),
            float(rng.uniform(-10, 10)),
            float(rng.uniform(0.95, 1.05)),
            (float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05))),
            bool(rng.random() < 0.5),
            (float(rng.uniform(0, 1 / 8)), float(rng.uniform(0, 1 / 5))),
        )

    def colour(self, image: Image) -> Image:
        """Pillow's four enhancements one after the other."""
        from PIL import Image as Pillow
        from PIL import ImageEnhance

        picture = Pillow.fromarray(image)
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color, ImageEnhance.Sharpness)
        for kind, factor in zip(kinds, self.enhance, strict=True):
            picture = kind(picture).enhance(factor)
        return np.array(picture)

    def move(self, pair: PseudoFake) -> PseudoFake:
        """Turned, zoomed and shifted about the middle; border pixels repeated."""
        height, width = pair.mask.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.degrees, self.zoom)
        matrix[:, 2] += (self.shift[0] * width, self.shift[1] * height)
        shape = (height, width)
        real, fake = (warp_picture(part, matrix, shape, cv2.BORDER_REPLICATE) for part in (pair.real, pair.fake))
        mask = cv2.warpAffine(pair.mask, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        points = (pair.points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return replace(pair, real=real, fake=fake, mask=mask, points=points)


def fwa_item(image: Image, points: NDArray[np.floating], rng: np.random.Generator, size: int = FWA_SIDE) -> PseudoFake:
    """FWA's training item: colour and geometry changed for both alike, cut to the landmarks, (size, size, 3) uint8.

    Raises:
        BlendError: as `fwa`, or a face moved out of the picture.
    """
    pair = fwa(image, points, rng)
    change = FwaChanges.draw(rng)
    pair = change.move(replace(pair, real=change.colour(pair.real), fake=change.colour(pair.fake)))
    pair = resized(cropped(pair, region_of_interest(pair.points, pair.mask.shape, change.margins)), (size, size))
    return mirrored(pair) if change.flip else pair


def region_of_interest(points: Points, shape: tuple[int, ...], margins: tuple[float, float]) -> tuple[slice, slice]:
    """The box of 68 landmarks with a margin at both sides and above, half as much of the other below (4.3)."""
    (x1, y1), (x2, y2) = points[:68].min(axis=0), points[:68].max(axis=0)
    across, down = int(margins[0] * (x2 - x1)), int(margins[1] * (y2 - y1))
    rows = slice(int(max(y1 - down, 0)), int(min(y2 + down / 2, shape[0] - 1)))
    columns = slice(int(max(x1 - across, 0)), int(min(x2 + across, shape[1] - 1)))
    if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
        raise BlendError("the face lies outside the picture, or is smaller than two pixels: no crop can be made of it")
    return rows, columns
