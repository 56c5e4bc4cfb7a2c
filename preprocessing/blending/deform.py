"""Random piecewise-affine deformation of masks, as BI's (specs/blending.md, section 2, step 5)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import Mask

SCALES = (0.01, 0.15)
GRIDS = (2, 4)


def control_points(
    shape: tuple[int, int], rng: np.random.Generator, scales: tuple[float, float] = SCALES
) -> NDArray[np.float32]:
    """(R, C, 2) x and y where the points of a regular grid over a picture of `shape` (H, W) come to lie.

    2 to 4 rows and columns from 0 to H and W; each point moves by normal noise of one deviation, drawn in `scales`, of
    height and width, and stays in the picture.
    """
    height, width = shape
    rows, columns = (int(n) for n in rng.integers(GRIDS[0], GRIDS[1] + 1, 2))
    sigma = float(rng.uniform(*scales))
    grid = np.stack(np.meshgrid(np.linspace(0, width, columns), np.linspace(0, height, rows)), axis=-1)
    moved = grid + rng.normal(0, sigma, grid.shape) * (width, height)
    return np.clip(moved, 0, (width - 1, height - 1)).astype(np.float32)


def piecewise_affine_map(points: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, 2): where each pixel is read, for a grid of control points (R, C, 2) over the whole picture.

    Each cell of the regular grid is cut along its diagonal into two triangles (a Delaunay triangulation of it), each
    with an affine map of its own.
    """
    height, width = shape
    rows, columns = points.shape[0] - 1, points.shape[1] - 1
    across = np.arange(width, dtype=np.float32) * np.float32(columns / width)
    down = np.arange(height, dtype=np.float32) * np.float32(rows / height)
    out = np.empty((height, width, 2), np.float32)
    for row in range(rows):
        first, last = np.searchsorted(down, [row, row + 1])
        v = (down[first:last] - row)[:, None]
        for column in range(columns):
            left, right = np.searchsorted(across, [column, column + 1])
            u = (across[left:right] - column)[None, :]
            corner, right_of = points[row, column], points[row, column + 1]
            below, opposite = points[row + 1, column], points[row + 1, column + 1]
            upper = u >= v
            for axis in (0, 1):
                cell = out[first:last, left:right, axis]
                # Right of the diagonal the way to a pixel is first across, then down; left of it the other way.
                a, b, c, d = (float(p[axis]) for p in (corner, right_of, below, opposite))
                cell[...] = np.where(upper, (b - a) * u + (d - b) * v, (d - c) * u + (c - a) * v)
                cell += a
    return out


def deform(mask: Mask, rng: np.random.Generator, scales: tuple[float, float] = SCALES) -> Mask:
    """The mask (H, W) after a random piecewise-affine deformation, bilinear, 0 from outside."""
    shape = (mask.shape[0], mask.shape[1])
    return cv2.remap(mask, piecewise_affine_map(control_points(shape, rng, scales), shape), None, cv2.INTER_LINEAR)
