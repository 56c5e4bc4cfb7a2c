"""Face masks from landmarks: unions of filled convex hulls (specs/blending.md, section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.float32]
"""(H, W) in 0..1."""
HullKind = Literal["full", "extended", "components", "hull"]
RegionKind = Literal["lips", "lower_face", "mouth_chin", "one_eye", "both_eyes", "eye_band", "fwa"]

HULLS: tuple[HullKind, ...] = ("full", "extended", "components", "hull")
"""BI's and SBI's four mask types, drawn with equal odds."""
MOUTH: tuple[RegionKind, ...] = ("lips", "lower_face", "mouth_chin")
EYES: tuple[RegionKind, ...] = ("one_eye", "both_eyes", "eye_band")

_R = range
_FULL = ([*_R(17), *_R(48, 68)], [*_R(27, 31), 33], [*_R(17, 27), 0, 27, 16, 33])
_COMPONENTS = (
    [*_R(9), 17],
    [*_R(8, 17), 26],
    [*_R(17, 20), 8],
    [*_R(24, 27), 8],
    [*_R(19, 25), 8],
    [*_R(17, 22), 27, *_R(31, 36), 8],
    [*_R(22, 27), 27, *_R(31, 36), 8],
    [*_R(27, 31), *_R(31, 36)],
)
_LEFT_EYE, _RIGHT_EYE = [*_R(17, 22), *_R(36, 42)], [*_R(22, 27), *_R(42, 48)]


def hull_mask(kind: HullKind, points: NDArray[np.floating], shape: tuple[int, int]) -> Mask:
    """One of the four published face masks for landmarks (68 or 81, 2) in pixels of a picture of `shape` (H, W).

    "full": jaw, nose ridge and eyes; "components": eight hulls; "extended": the same after lifting the brows by half
    their distance to the eyes; "hull": the hull of every point (the forehead too where there are 81), anti-aliased.
    """
    corners = np.asarray(points, np.float64).astype(np.int32)
    if kind == "hull":
        return _fill([corners], shape, smooth=True)
    if kind == "extended":
        corners = _lift_brows(corners)
    groups = _FULL if kind == "full" else _COMPONENTS
    return _fill([corners[group] for group in groups], shape)


def region_mask(
    kind: RegionKind, points: NDArray[np.floating], shape: tuple[int, int], rng: np.random.Generator
) -> Mask:
    """A local mask, for manipulations of a part of the face; `rng` draws its extent.

    "lips": their hull, 1.2 to 1.7 times as large; "lower_face": jaw up to the nose; "mouth_chin": lips and chin;
    "one_eye", "both_eyes": with the brow; "eye_band": eyes, brows and nose ridge; "fwa": brows and lower mouth, the
    polygon of FWA (Li and Lyu, CVPRW 2019).
    """
    p = np.asarray(points, np.float64)
    if kind == "lips":
        groups = [_scaled(p[48:60], rng.uniform(1.2, 1.7))]
    elif kind == "lower_face":
        first = int(rng.integers(1, 4))
        groups = [np.concatenate([p[first : 17 - first], p[29:36], p[48:68]])]
    elif kind == "mouth_chin":
        groups = [np.concatenate([_scaled(p[48:60], rng.uniform(1.1, 1.4)), p[5:12]])]
    elif kind == "one_eye":
        groups = [_scaled(p[_LEFT_EYE if rng.random() < 0.5 else _RIGHT_EYE], rng.uniform(1.0, 1.4))]
    elif kind == "both_eyes":
        scale = rng.uniform(1.0, 1.4)
        groups = [_scaled(p[_LEFT_EYE], scale), _scaled(p[_RIGHT_EYE], scale)]
    elif kind == "eye_band":
        groups = [_scaled(p[[*_LEFT_EYE, *_RIGHT_EYE, 27, 28, 29]], rng.uniform(1.0, 1.2))]
    else:
        groups = [p[[*_R(17, 27), 48, *_R(54, 60)]]]
    return _fill([group.astype(np.int32) for group in groups], shape)


FULL = 0.999
"""A blurred mask's inside is 1 up to the rounding of float32."""


def erode_and_feather(mask: Mask, kernels: tuple[int, int], sigma: float, full: float = FULL) -> Mask | None:
    """SBI's soft border (section 3.5): what stays at least `full` of the peak under a first blur (odd kernel, automatic
    sigma) is 1, the rest 0; a second blur of `sigma` makes the ramp. Peak 1; None: nothing is left."""
    work = cv2.GaussianBlur(mask, (kernels[0], kernels[0]), 0)
    peak = float(work.max())
    if peak <= 0:
        return None
    hard = (work >= full * peak).astype(mask.dtype)
    soft = cv2.GaussianBlur(hard, (kernels[1], kernels[1]), sigma)
    soft /= soft.max()
    return soft


def _fill(groups: Sequence[NDArray[np.int32]], shape: tuple[int, int], smooth: bool = False) -> Mask:
    canvas = np.zeros(shape, np.uint8)
    for group in groups:
        cv2.fillConvexPoly(canvas, cv2.convexHull(group), 255, cv2.LINE_AA if smooth else cv2.LINE_8)
    return canvas.astype(np.float32) / np.float32(255)


def _lift_brows(p: NDArray[np.int32]) -> NDArray[np.int32]:
    """The brows moved away from the eyes by half their distance, with the reference's floor divisions."""
    p = p.copy()
    left, right = (p[36] + p[0]) // 2, (p[16] + p[45]) // 2
    bottom_left = np.stack([(p[36] + left) // 2, p[36], p[37], p[38], p[39]])
    bottom_right = np.stack([p[42], p[43], p[44], p[45], (p[45] + right) // 2])
    p[17:22] += (p[17:22] - bottom_left) // 2
    p[22:27] += (p[22:27] - bottom_right) // 2
    return p


def _scaled(points: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    centre = points.mean(axis=0)
    return centre + factor * (points - centre)
