"""Pasting one face over another by landmarks: piecewise-affine warp, rendering, colour match, blend.

The classic swap and reenactment by graphics (FaceSwap and Face2Face of FaceForensics++, Roessler et al., ICCV 2019,
section 3) without a 3-D model: triangles of the landmarks carry the donor's pixels to the place they come to lie on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.colour import jpeg, sharpen
from preprocessing.blending.masks import HULLS, HullKind, Mask, RegionKind, hull_mask, region_mask
from preprocessing.blending.pseudofake import BlendError
from preprocessing.landmarks import to_81
from preprocessing.types import Image

Blend = Literal["feather", "poisson"]

WINDOW_MARGIN = 0.35
"""What is worked on around the face's landmarks, as a share of the face, on each side."""
RING = 12
"""Points on a circle around the window, which carry the warp beyond the face."""
SMALLEST_MASK = 16.0
"""Sum of a mask in pixels below which nothing was pasted that anybody could see."""


@dataclass(frozen=True)
class Rendering:
    """What the pasted face went through before it was pasted: the steps of a generator's small, soft output.

    `side`: pixels the face's longer side is brought down to and back up from (never enlarged); `blur`: sigma as a share
    of the face; `sharpness`: share of a Laplacian sharpening; `quality`: of a JPEG pass.
    """

    side: float | None = None
    blur: float = 0.0
    sharpness: float = 0.0
    quality: int | None = None

    def __call__(self, face: Image, size: float) -> Image:
        """The picture (h, w, 3) changed, at its own resolution; `size` is the face's in its pixels."""
        if self.side is not None and self.side < size:
            factor = max(self.side / size, 2 / min(face.shape[:2]))
            small = cv2.resize(face, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            face = cv2.resize(small, (face.shape[1], face.shape[0]), interpolation=cv2.INTER_CUBIC)
        if self.blur:
            face = cv2.GaussianBlur(face, (0, 0), max(self.blur * size, 0.3))
        if self.sharpness:
            face = sharpen(face, self.sharpness, 1.0)
        return face if self.quality is None else jpeg(face, self.quality)


@dataclass(frozen=True)
class Style:
    """How a face is pasted; lengths are shares of the face.

    `region_seed` draws the extent of a local region, the same in every frame; `union`: the region covers what is there
    as well as what is drawn (a closed mouth over an open one), else only what both have in common; `grow` enlarges it
    about its centre (negative shrinks), `inset` draws its jaw in and lifts its brows; `feather` is a Gaussian's sigma,
    `ratio` the opacity. `colour`: the pasted face gets the mean of each channel and the contrast of what was there; the
    factors `gain` and the levels `offset` (red, green, blue) come after.
    """

    region: HullKind | RegionKind = "hull"
    region_seed: int = 0
    union: bool = False
    grow: float = 0.0
    inset: float = 0.0
    feather: float = 0.03
    ratio: float = 1.0
    blend: Blend = "feather"
    colour: bool = True
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rendering: Rendering = Rendering()


def face_size(points: NDArray[np.floating]) -> float:
    """Longer side in pixels of the box around the first 68 landmarks."""
    return float(np.ptp(points[:68], axis=0).max())


def forehead(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(81, 2) float64 from (68 or 81, 2); the forehead is extrapolated where it is not given."""
    full = points if len(points) == 81 else to_81(np.asarray(points)[None])[0]
    return np.asarray(full, np.float64)


def check_landmarks(points: NDArray[np.floating], shape: tuple[int, ...]) -> None:
    """Raises BlendError unless `points` are 68 or 81 finite landmarks of a face at least partly in a picture (H, W)."""
    if points.ndim != 2 or points.shape[0] not in (68, 81) or points.shape[1] != 2 or not np.isfinite(points).all():
        raise BlendError(f"a face is pasted by 68 or 81 finite landmarks, not by an array {points.shape}")
    if face_size(points) < 8:
        raise BlendError("a face of less than 8 pixels is too small to paste")
    low, high = points[:68].min(axis=0), points[:68].max(axis=0)
    if (high < 1).any() or (low > (shape[1] - 2, shape[0] - 2)).any():
        raise BlendError("the landmarks lie outside the picture")


def paste(
    target: Image,
    target_points: NDArray[np.floating],
    donor: Image,
    donor_points: NDArray[np.floating],
    drawn: NDArray[np.floating],
    style: Style = Style(),
) -> tuple[Image, Mask]:
    """`target` (H, W, 3) with the donor's face, whose landmarks come to lie on `drawn`; and the mask (H, W), 0..1.

    `target_points`, `donor_points` and `drawn` are (68 or 81, 2), each in its picture's pixels, `drawn` in the
    target's. The mask is the region of `drawn` and of `target_points`, where the donor has pixels.
    Where it is 0 the target is unchanged; the blend's weights are the mask times the style's ratio.

    Raises:
        BlendError: landmarks of another shape or outside their picture, or a mask that is (all but) empty.
    """
    for points, image in ((target_points, target), (donor_points, donor), (drawn, target)):
        check_landmarks(points, image.shape)
    there, given, put = forehead(target_points), forehead(donor_points), forehead(drawn)
    size = face_size(put)
    height, width = target.shape[:2]
    low = np.clip(np.floor(put.min(axis=0) - WINDOW_MARGIN * size), 0, (width - 2, height - 2)).astype(int)
    high = np.clip(np.ceil(put.max(axis=0) + WINDOW_MARGIN * size), low + 2, (width, height)).astype(int)
    place = target[low[1] : high[1], low[0] : high[0]]
    columns, rows = piecewise_affine(put - low, given, (place.shape[0], place.shape[1]))
    face = cv2.remap(donor, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (columns >= 0) & (columns <= donor.shape[1] - 1) & (rows >= 0) & (rows <= donor.shape[0] - 1)
    mask = _mask(put - low, there - low, inside, style, size)
    painted = _coloured(style.rendering(face, size), place, mask, style)
    if style.blend == "poisson":
        painted, mask = _cloned(painted, place, mask)
    if float(mask.sum()) < SMALLEST_MASK:
        raise BlendError("the mask is empty: the face lies outside the picture, or the donor's outside its own")
    result, full = target.copy(), np.zeros((height, width), np.float32)
    result[low[1] : high[1], low[0] : high[0]] = _blended(painted, place, mask * np.float32(style.ratio))
    full[low[1] : high[1], low[0] : high[0]] = mask
    return result, full


def piecewise_affine(
    drawn: NDArray[np.float64], given: NDArray[np.float64], window: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps (h, w) for cv2.remap, x then y, over a window: the affine map of each triangle takes `drawn` to `given`.

    The triangulation is Delaunay's of the shape half-way between the two, so that neither folds easily. A ring of
    points around the window, moved by the best affine map, carries it on beyond the face.
    """
    from scipy.spatial import Delaunay

    overall = _affine_fit(drawn, given)
    centre = np.array([window[1], window[0]], np.float64) / 2
    angle = 2 * np.pi * np.arange(RING) / RING
    reach = 1.2 * float(np.hypot(*window)) / 2 + float(np.abs(drawn.mean(axis=0) - centre).max())
    ring = centre + reach * np.column_stack([np.cos(angle), np.sin(angle)])
    corners = np.concatenate([drawn, ring])
    sources = np.concatenate([given, ring @ overall[:, :2].T + overall[:, 2]])
    back = _affine_fit(given, drawn)
    halfway = (corners + sources @ back[:, :2].T + back[:, 2]) / 2
    triangles = Delaunay(halfway).simplices
    a, b = corners[triangles], sources[triangles]
    edges = np.stack([a[:, 1] - a[:, 0], a[:, 2] - a[:, 0]], axis=2)
    solid = np.abs(np.linalg.det(edges)) > 1e-3
    a, b, edges = a[solid], b[solid], edges[solid]
    linear = np.stack([b[:, 1] - b[:, 0], b[:, 2] - b[:, 0]], axis=2) @ np.linalg.inv(edges)
    shift = b[:, 0] - np.einsum("nij,nj->ni", linear, a[:, 0])
    # The last row serves the pixels that no triangle covers.
    maps = np.concatenate([np.concatenate([linear, shift[..., None]], axis=2), overall[None]])
    owner = np.full(window, len(maps) - 1, np.int32)
    for number, corner in enumerate(np.rint(a * 16).astype(np.int32)):
        cv2.fillConvexPoly(owner, corner, number, cv2.LINE_8, 4)
    x, y = np.arange(window[1], dtype=np.float64)[None], np.arange(window[0], dtype=np.float64)[:, None]
    chosen = maps[owner]
    moved = chosen[..., 0] * x[..., None] + chosen[..., 1] * y[..., None] + chosen[..., 2]
    return np.ascontiguousarray(moved[..., 0], np.float32), np.ascontiguousarray(moved[..., 1], np.float32)


def align(
    points: NDArray[np.float64], to: NDArray[np.float64], by: slice | list[int] = slice(None)
) -> NDArray[np.float64]:
    """`points` moved by the similarity that brings the points `by` closest to those of `to` (Umeyama, PAMI 1991)."""
    # A similarity of the plane is a product and a sum of complex numbers x + iy.
    every, a, b = points @ (1, 1j), points[by] @ (1, 1j), to[by] @ (1, 1j)
    factor = np.vdot(a - a.mean(), b - b.mean()) / max(np.vdot(a - a.mean(), a - a.mean()).real, 1e-9)
    moved = (every - a.mean()) * factor + b.mean()
    return np.column_stack([moved.real, moved.imag])


def _affine_fit(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    found, *_ = np.linalg.lstsq(np.column_stack([start, np.ones(len(start))]), end, rcond=None)
    return np.asarray(found.T)


def region_of(kind: HullKind | RegionKind, points: NDArray[np.floating], shape: tuple[int, int], seed: int) -> Mask:
    """The hard mask of a region; `seed` draws the extent of a local one, so that it keeps it from frame to frame."""
    if kind in HULLS:
        return hull_mask(kind, points, shape)
    return region_mask(kind, points, shape, np.random.default_rng(seed))  # type: ignore[arg-type]


def _mask(
    put: NDArray[np.float64], there: NDArray[np.float64], inside: NDArray[np.bool_], style: Style, size: float
) -> Mask:
    shape = (inside.shape[0], inside.shape[1])
    masks = []
    for points in (put, there):
        used = _inset(points, style.inset)[: None if style.region in HULLS else 68]
        centre = used.mean(axis=0)
        grown = centre + (1 + style.grow) * (used - centre)
        masks.append(region_of(style.region, grown, shape, style.region_seed))
    mask = (np.maximum(*masks) if style.union else np.minimum(*masks)) * inside
    sigma = style.feather * size
    if sigma < 0.3:
        return np.asarray(mask, np.float32)
    # Shrunk before it is blurred: the blend ends about where the region does, not in the hair beside it.
    width = 2 * max(round(0.7 * sigma), 0) + 1
    _, _, *extent = cv2.boundingRect((mask > 0.5).astype(np.uint8))
    width = min(width, max(min(extent) // 3, 1))
    shrunk = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)), borderValue=0)
    soft = cv2.GaussianBlur(shrunk, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    # The far tails would change nothing but the size of the mask.
    return np.asarray(np.where(soft < 1 / 512, 0, np.minimum(soft, 1)) * inside, np.float32)


def _inset(points: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The jaw drawn in and the brows lifted by a share of the face: landmarks of the jaw lie on the background as often
    as not, and those of raised or lowered brows beside them."""
    moved = points.copy()
    up = points[27] - points[8]
    moved[:17] += share * (points[30] - points[:17])
    moved[17:27] += share * up
    return moved


def _coloured(face: Image, place: Image, mask: Mask, style: Style) -> Image:
    painted = face.astype(np.float32)
    inside = (mask > 0.5).astype(np.uint8) if (mask > 0.5).any() else (mask > 0).astype(np.uint8)
    if style.colour and inside.any():
        # By a factor a channel, as light changes colours (von Kries): a sum would turn dark lips in yellow light pink.
        mean, spread = cv2.meanStdDev(face, mask=inside)
        want_mean, want_spread = cv2.meanStdDev(place, mask=inside)
        gain = want_mean / np.maximum(mean, 1.0)
        overall = float(np.clip(want_mean.sum() / max(float(mean.sum()), 1.0), 0.4, 2.5))
        gain = overall * np.clip(gain / overall, 0.7, 1.4)
        contrast = float(np.linalg.norm(spread * gain))
        slope = float(np.clip(float(np.linalg.norm(want_spread)) / max(contrast, 1.0), 0.5, 1.4))
        level = want_mean - mean * gain * slope
        painted = painted * (gain[:, 0] * slope).astype(np.float32) + level[:, 0].astype(np.float32)
    painted = painted * np.array(style.gain, np.float32) + np.array(style.offset, np.float32)
    return np.clip(np.rint(painted), 0, 255).astype(np.uint8)


def _blended(face: Image, place: Image, weights: Mask) -> Image:
    below = place.astype(np.float32)
    mixed = below + weights[..., None] * (face.astype(np.float32) - below)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _cloned(face: Image, place: Image, mask: Mask) -> tuple[Image, Mask]:
    """Gradients of the face in the place's border colours (Perez et al., SIGGRAPH 2003), and the mask made hard.

    A rim of few pixels stays soft, inwards: there the clone and the place are nearly the same, and a Face X-ray of the
    mask shows where the blend ends.
    """
    hard = (mask > 0.5).astype(np.uint8)
    # The solver needs a border of the place around the mask.
    hard[:2], hard[-2:], hard[:, :2], hard[:, -2:] = 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(hard)
    if min(width, height) >= 4:
        face = cv2.seamlessClone(face, place, hard * 255, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)
    rim = 2 * max(round(0.02 * max(width, height)), 1) + 1
    shrunk = cv2.erode(hard, np.ones((rim, rim), np.uint8), borderValue=0).astype(np.float32)
    return face, np.minimum(cv2.blur(shrunk, (rim, rim)), 1) * hard
