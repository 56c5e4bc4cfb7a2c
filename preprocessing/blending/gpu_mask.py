"""Soft masks of a batch (specs/blending.md, 3.3 and 3.5): affine map, elastic field, erosion, feathering.

Masks are feathered at sizes that differ from picture to picture. They share one canvas of the largest size here; each
picture's part of it lies at the top left, and erosion and blur treat that part's ends as `sbi` treats a picture's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from preprocessing.blending.gpu_draw import FIELD_BORDER, BatchDraw
from preprocessing.blending.sbi import FULL
from preprocessing.blending.warps import ELASTIC_SIGMA, ELASTIC_STD

TAPS = 15
"""Of the field's Gaussian, as `warps.elastic_field` cuts it."""


def soft_masks(hulls: Tensor, draw: BatchDraw, canvas: tuple[int, int]) -> Tensor:
    """M (B, H, W) in 0..1 of hulls (B, H, W) in 0..1; all 0 where nothing is left. `canvas`: the largest sides."""
    height, width = hulls.shape[-2:]
    sides = [draw.sides[:, :1].float(), draw.sides[:, 1:].float()]
    index = [torch.arange(n, device=hulls.device) for n in canvas]
    # In -1..1 of the picture, whatever the size of the mask; beyond 1 is off this picture's part of the canvas.
    rows, columns = ((2 * k + 1) / side - 1 for k, side in zip(index, sides, strict=True))
    field = elastic_fields(draw.noise, _grid(rows, columns))
    x = _back(columns, draw, 0, width)[:, None, :] + field[:, 0] / _wide(draw.scale[:, 0]) * (2 / width)
    y = _back(rows, draw, 1, height)[:, :, None] + field[:, 1] / _wide(draw.scale[:, 1]) * (2 / height)
    work = F.grid_sample(hulls[:, None], torch.stack([x, y], -1), align_corners=False)[:, 0]
    hard = eroded(work > FULL, draw.kernels[:, 0], draw.sides)
    ways = [blur_matrix(draw.kernels[:, 1], draw.sigma, draw.sides[:, axis], canvas[axis]) for axis in (0, 1)]
    # In double precision, here and for the field, no setting of a training (TF32) can make the products coarser.
    soft = (ways[0].double() @ hard.double() @ ways[1].double().transpose(1, 2)).float()
    soft = soft / _wide(soft.amax((1, 2))).clamp(min=1e-6)
    return _enlarged(soft, draw.sides, (height, width)).clamp(0, 1)


def elastic_fields(noise: Tensor, grid: Tensor) -> Tensor:
    """Displacements (B, 2, h, w) in pixels, x and y, at `grid` (B, h, w, 2) in -1..1 of the picture.

    `noise` (B, 2, H/4 + 16, W/4 + 16) in -1..1; otherwise as `warps.elastic_field`.
    """
    sigma = ELASTIC_SIGMA / 4
    offsets = torch.arange(TAPS, device=noise.device, dtype=torch.float64) - TAPS // 2
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    planes = noise.double().flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, taps[None, None, None]), taps[None, None, :, None]).float()
    rest = FIELD_BORDER - TAPS // 2
    small = planes[:, :, rest:-rest, rest:-rest].reshape(*noise.shape[:2], planes.shape[2] - 2 * rest, -1)
    gain = ELASTIC_STD * math.sqrt(3) * 2 * math.sqrt(math.pi) * sigma
    return F.grid_sample(small * gain, grid, mode="bicubic", padding_mode="border", align_corners=False)


def eroded(inside: Tensor, kernels: Tensor, sides: Tensor) -> Tensor:
    """Where a square of `kernels` (B,) pixels, cut at the ends of each mask's `sides` (B, 2), sees `inside` only."""
    keeps = inside
    for axis in (1, 2):
        length = inside.shape[axis]
        index, side = torch.arange(length, device=inside.device), sides[:, axis - 1, None]
        outside = (~keeps).to(torch.int32).cumsum(axis, dtype=torch.int32)
        counted = F.pad(outside, (1, 0) if axis == 2 else (0, 0, 1, 0))
        first = (index - (kernels[:, None] // 2)).clamp(min=0)
        last = torch.minimum(index + kernels[:, None] // 2 + 1, side)
        shape = [-1, length, 1] if axis == 1 else [-1, 1, length]
        # Beyond a mask's own side nothing is inside, whatever the count there.
        own = (index < side).reshape(shape)
        ends = [counted.gather(axis, n.reshape(shape).expand(inside.shape)) for n in (first, last)]
        keeps = (ends[1] - ends[0] <= 0) & own
    return keeps


def blur_matrix(kernels: Tensor, sigma: Tensor, side: Tensor, length: int) -> Tensor:
    """A Gaussian blur along one axis as matrices (B, length, length): `kernels` (B,) odd taps, reflected (without
    repeating the last) at 0 and at `side` (B,) - 1; rows and columns beyond `side` are of no meaning."""
    reach = torch.arange(length, device=kernels.device)
    weights = torch.exp(-(reach[None] ** 2) / (2 * sigma[:, None] ** 2)) * (reach[None] <= kernels[:, None] // 2)
    weights = weights / (2 * weights.sum(1, keepdim=True) - 1)
    to, of = reach[None, :, None], reach[None, None, :]
    end = side[:, None, None] - 1

    def at(distance: Tensor) -> Tensor:
        near = distance.abs().clamp(max=length - 1).expand(len(kernels), length, length)
        return weights.gather(1, near.flatten(1)).reshape(near.shape)

    matrix = at(to - of) + at(to + of) * (of > 0) + at(2 * end - to - of) * (of < end)
    return matrix * (of <= end)


def _back(places: Tensor, draw: BatchDraw, axis: int, length: int) -> Tensor:
    """Places (B, n) in -1..1 of the moved picture as those of the picture before the affine map."""
    pixels = (places + 1) * (length / 2) - 0.5
    middle = length / 2 - 0.5
    scale, shift = draw.scale[:, axis, None], draw.shift[:, axis, None]
    before = (pixels - shift - middle) / scale + middle
    return (before + 0.5) * (2 / length) - 1


def moved_grid(draw: BatchDraw, shape: tuple[int, int]) -> Tensor:
    """Where each pixel of a picture of `shape` (H, W) comes from under the affine map, (B, H, W, 2) in -1..1."""
    rows, columns = ((2 * torch.arange(n, device=draw.scale.device) + 1)[None] / n - 1 for n in shape)
    return _grid(_back(rows, draw, 1, shape[0]), _back(columns, draw, 0, shape[1]))


def _enlarged(masks: Tensor, sides: Tensor, shape: tuple[int, int]) -> Tensor:
    """Each mask's part of the canvas at `shape` (H, W), bilinear."""
    places = []
    for axis in (0, 1):
        side, canvas = sides[:, axis, None].float(), masks.shape[axis + 1]
        pixels = (torch.arange(shape[axis], device=masks.device) + 0.5) * (side / shape[axis]) - 0.5
        places.append((torch.minimum(pixels.clamp(min=0), side - 1) + 0.5) * (2 / canvas) - 1)
    grid = _grid(places[0], places[1])
    return F.grid_sample(masks[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _grid(rows: Tensor, columns: Tensor) -> Tensor:
    """(B, h, w, 2) of x and y from rows (B, h) and columns (B, w)."""
    shape = (len(rows), rows.shape[1], columns.shape[1])
    return torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], -1)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
