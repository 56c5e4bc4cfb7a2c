"""What a localising detector should see, from the weights M of a blend: Face X-ray's boundary and LAA-Net's two maps.

Li et al., "Face X-ray", CVPR 2020; Nguyen et al., "LAA-Net", CVPR 2024 (specs/laa_net.md, section 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import Mask

LEVELS = 255
INSIDE_RUN = 128
"""Pixels above this level (of 255) belong to the run whose lengths decide a point's radius."""
OVERLAP = 0.7
"""Of CornerNet's radius: boxes moved by less still overlap their originals by this much."""


def face_xray(mask: Mask, quantised: bool = False) -> Mask:
    """B = 4 M (1 - M), (H, W) float32 in 0..1: 1 where both pictures weigh the same, 0 where one is alone.

    `quantised` truncates to 256 levels, as the published targets are stored.
    """
    boundary = np.clip(4 * mask * (1 - mask), 0, 1).astype(np.float32)
    return np.floor(boundary * LEVELS) / np.float32(LEVELS) if quantised else boundary


def boundary_levels(mask: Mask) -> NDArray[np.uint8]:
    """The boundary B of weights (H, W) as LAA-Net stores it: 0..255, truncated."""
    return (np.clip(4 * mask * (1 - mask), 0, 1) * LEVELS).astype(np.uint8)


def laa_targets(mask: Mask, centred: bool = False, real_ones: bool = False) -> tuple[Mask, Mask]:
    """LAA-Net's heatmap and consistency target, both float32 of the mask's shape, in 0..1.

    `mask` (H, W) in 0..1: the blend's weights at the size of the heatmap (published: 96 x 96), without the blend ratio;
    all 0 for a real face. `centred` and `real_ones` as in `encode_boundary`.

    Raises:
        ValueError: a mask that is not (H, W), is smaller than 2 x 2, or leaves 0..1.
    """
    mask = np.asarray(mask, np.float32)
    if mask.ndim != 2 or min(mask.shape) < 2:
        raise ValueError(f"LAA-Net's targets are made from one mask (H, W) of at least 2 x 2, not {mask.shape}")
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise ValueError("the blend weights of a mask lie in 0..1: divide an 8-bit mask by 255")
    return encode_boundary(boundary_levels(mask), centred, real_ones)


def encode_boundary(boundary: NDArray[np.uint8], centred: bool = False, real_ones: bool = False) -> tuple[Mask, Mask]:
    """Heatmap and consistency target from a boundary map (H, W) uint8 already at their size.

    Heatmap: at the vulnerable points (the maxima of each quadrant) a Gaussian of peak 1, as wide as CornerNet's radius
    for the boundary's vertical and horizontal runs there. The published code sets the peak one pixel up or left where
    the radius' fraction is below one half; `centred` does not. Consistency: 1 - (max B - B) / 255 in quadrants with a
    point, 0 in others, so all 0 for a real face; the paper's formula gives all 1 there (`real_ones`).
    """
    heatmap = np.zeros(boundary.shape, np.float32)
    consistency = np.zeros(boundary.shape, np.float32)
    highest = int(boundary.max())
    if highest == 0:
        return heatmap, np.ones_like(heatmap) if real_ones else consistency
    middle = boundary.shape[0] // 2, boundary.shape[1] // 2
    chosen = []
    for rows in (slice(0, middle[0]), slice(middle[0], None)):
        for columns in (slice(0, middle[1]), slice(middle[1], None)):
            part = boundary[rows, columns]
            peak = int(part.max())
            if peak == 0:
                continue
            chosen.append(np.argwhere(part == peak) + np.array([rows.start, columns.start]))
            consistency[rows, columns] = (LEVELS - highest + part.astype(np.float32)) / np.float32(LEVELS)
    points = np.concatenate(chosen)
    _draw(heatmap, points, gaussian_radius(*run_lengths(boundary, points)), centred)
    return heatmap, consistency


def run_lengths(boundary: NDArray[np.uint8], points: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(K,) vertical and horizontal lengths of the runs above INSIDE_RUN through points (K, 2) of row and column.

    Both directions count the point itself, so a lone pixel has length 2; 0 where the point is not in a run. As in the
    published code a run that reaches the first row or column goes on from the last.
    """
    inside = boundary > INSIDE_RUN
    rows, columns = points[:, 0], points[:, 1]
    return _runs(inside[:, columns], rows), _runs(inside[rows].T, columns)


def _runs(lines: NDArray[np.bool_], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lines (L, K); the run of line k through position at[k]."""
    length, count = lines.shape
    every = np.arange(count)
    # Counted on the line written twice, so that the run that wraps is an ordinary one.
    twice = np.concatenate([lines, lines])
    index = np.arange(2 * length)[:, None]
    gap_before = np.maximum.accumulate(np.where(twice, -1, index), axis=0)
    before = np.minimum(at + length - gap_before[at + length, every], length)
    gap_after = np.minimum.accumulate(np.where(lines, length, index[:length])[::-1], axis=0)[::-1]
    after = gap_after[at, every] - at
    return np.where(lines[at, every], before + after, 0)


def gaussian_radius(height: NDArray[Any], width: NDArray[Any]) -> NDArray[np.float64]:
    """CornerNet's radius in pixels for boxes of these sides at OVERLAP 0.7: always its third case."""
    total = 2 * OVERLAP * (np.asarray(height, np.float64) + width)
    return (np.sqrt(total**2 + 16 * OVERLAP * (1 - OVERLAP) * height * width) - total) / 2


def _draw(heatmap: Mask, points: NDArray[np.int64], radius: NDArray[np.float64], centred: bool) -> None:
    """Gaussians of sigma radius / 3 at points (K, 2), within three sigma along each axis, merged by maximum."""
    sigma = radius / 3 + 1e-4
    reach = 3 * sigma
    peaks = points
    if not centred:
        moved = (reach % 1 < 0.5)[:, None] & (points >= reach[:, None])
        peaks = points - moved
    furthest = int(reach.max())
    offsets = np.arange(-furthest, furthest + 1)
    along = np.exp(-(offsets**2) / (2 * sigma[:, None] ** 2)) * (np.abs(offsets) <= reach[:, None])
    values = (along[:, :, None] * along[:, None, :]).astype(np.float32)
    height, width = heatmap.shape
    rows, columns = peaks[:, :1] + offsets, peaks[:, 1:] + offsets
    # A pixel off the map adds nothing to the one it is moved to.
    values *= ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    places = np.clip(rows, 0, height - 1)[:, :, None] * width + np.clip(columns, 0, width - 1)[:, None, :]
    np.maximum.at(heatmap.ravel(), places.ravel(), values.ravel())
