"""Self-blended images for a whole batch in torch: `sbi` and `sbi_item` on whatever device the pictures are.

Hulls are drawn on the host by `hull_mask`, a byte a pixel; all else is tensor arithmetic with each picture's numbers,
and the host never waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from preprocessing.blending.gpu_colour import change_source, recolour
from preprocessing.blending.gpu_draw import BatchDraw, moved, side_ranges
from preprocessing.blending.gpu_jpeg import jpeg_batch
from preprocessing.blending.gpu_mask import moved_grid, soft_masks
from preprocessing.blending.items import tight_crop
from preprocessing.blending.masks import hull_mask
from preprocessing.blending.pseudofake import SMALLEST_MASK, BlendError
from preprocessing.blending.sbi import SbiSettings
from preprocessing.landmarks import flip_points

SMALLEST_SIDE = 32


@dataclass(frozen=True)
class SbiBatch:
    """B pairs on the pictures' device.

    `reals`, `fakes` (B, 3, size, size) uint8 RGB; `masks` (B, size, size) float32 in 0..1, the weights M before the
    blend ratio; `ratios` (B,); `replaced` (B,) bool: nothing was left of the drawn mask, so the plain hull was taken
    (`replaced.sum()` counts them; asking for it waits for the device).
    """

    reals: Tensor
    fakes: Tensor
    masks: Tensor
    ratios: Tensor
    replaced: Tensor

    @property
    def xrays(self) -> Tensor:
        """Face X-ray's boundaries 4 M (1 - M), (B, size, size) in 0..1."""
        return 4 * self.masks * (1 - self.masks)


def sbi_batch(
    images: Tensor,
    points: Tensor | NDArray[np.floating],
    generator: torch.Generator | Sequence[torch.Generator],
    settings: SbiSettings | None = None,
    size: int = 256,
    tight: bool = True,
    train: bool = True,
    post: bool = True,
) -> SbiBatch:
    """A real and a fake from each picture of a batch, distributed as `sbi_item`'s.

    `images` (B, H, W, 3) or (B, 3, H, W) uint8 RGB: wide crops (`items.wide_crop`) brought to one size, at least 32 px.
    `points` (B, 68 or 81, 2) in their pixels, on the host: on a device they are fetched, which waits. `generator` (of
    the CPU, see `batch_generator`) decides everything, bit for bit on one device; B of them, one for each picture, make
    of it what they would make in any other batch. `tight` cuts to the landmark box,
    else the whole picture is seen; `train` False leaves out flip and random crop, `post` False the common changes.

    Raises:
        BlendError: pictures or landmarks of another kind, not finite, or (all but) outside their picture.
    """
    settings, planes = settings or SbiSettings(), _planes(images)
    where, shape = _checked(points, len(planes)), (planes.shape[2], planes.shape[3])
    draw = BatchDraw.draw(shape, len(planes), where.shape[1], generator, settings, planes.device)
    return blend_batch(planes, where, draw, settings, size, tight, train, post)


@torch.no_grad()
def blend_batch(
    images: Tensor,
    points: NDArray[np.float32],
    draw: BatchDraw,
    settings: SbiSettings,
    size: int,
    tight: bool = True,
    train: bool = True,
    post: bool = True,
) -> SbiBatch:
    """`sbi_batch` of a given draw: images (B, 3, H, W) uint8, points (B, K, 2) on the host."""
    device, shape = images.device, (images.shape[2], images.shape[3])
    if train:
        flips = draw.flip.tolist()
        points = np.stack([flip_points(p, shape[1]) if flip else p for p, flip in zip(points, flips, strict=True)])
    outlines = moved(_hulls(points, draw, shape), device)
    views = moved(_views(points, draw.reach if train else torch.full_like(draw.reach, 0.5), shape, tight), device)
    draw = draw.to(device)
    planes = images.float()
    if train:
        planes = torch.where(draw.flip[:, None, None, None], planes.flip(-1), planes)

    hulls = outlines.float() / 255
    largest = side_ranges(shape, settings)
    masks = soft_masks(hulls, draw, (largest[0][1], largest[1][1]))
    replaced = masks.sum((1, 2)) < SMALLEST_MASK * shape[0] * shape[1]
    masks = torch.where(replaced[:, None, None], hulls, masks)

    changed, on_source = change_source(planes, draw), draw.on_source[:, None, None, None]
    reals = torch.where(on_source, planes, changed)
    source = F.grid_sample(
        torch.where(on_source, changed, planes), moved_grid(draw, shape), padding_mode="border", align_corners=False
    ).round()
    weights = (masks * draw.ratio[:, None, None])[:, None]
    # The small constant keeps a blend of two equal values from being truncated to the level below.
    fakes = ((source - reals) * weights + reals + 1e-3).clamp(0, 255).floor()
    if post:
        reals, fakes = (jpeg_batch(recolour(side, draw.post), draw.quality) for side in (reals, fakes))

    seen = _seen(torch.cat([reals, fakes, masks[:, None]], 1), views, size)
    levels = seen[:, :6].round().clamp(0, 255).to(torch.uint8)
    return SbiBatch(levels[:, :3], levels[:, 3:], seen[:, 6].clamp(0, 1), draw.ratio, replaced)


def _planes(images: Tensor) -> Tensor:
    if images.dtype != torch.uint8 or images.ndim != 4 or 3 not in (images.shape[1], images.shape[3]):
        raise BlendError(
            "self-blending a batch takes pictures (B, H, W, 3) or (B, 3, H, W) of uint8, not "
            f"{tuple(images.shape)} of {images.dtype}"
        )
    planes = images if images.shape[3] != 3 else images.permute(0, 3, 1, 2)
    if len(planes) == 0 or min(planes.shape[2:]) < SMALLEST_SIDE:
        raise BlendError(f"a batch holds at least one picture, of {SMALLEST_SIDE} px or more: {tuple(images.shape)}")
    return planes


def _checked(points: Tensor | NDArray[np.floating], batch: int) -> NDArray[np.float32]:
    values = points.detach().cpu().numpy() if isinstance(points, Tensor) else points
    if values.ndim != 3 or values.shape[1:] not in ((68, 2), (81, 2)) or len(values) != batch:
        raise BlendError(f"{batch} pictures take landmarks ({batch}, 68 or 81, 2), not an array {values.shape}")
    if not np.isfinite(values).all():
        raise BlendError("self-blending takes finite landmarks: leave out the pictures whose landmarks are not")
    return np.asarray(values, np.float32)


def _hulls(points: NDArray[np.float32], draw: BatchDraw, shape: tuple[int, int]) -> Tensor:
    """(B, H, W) uint8 on the host; the hull of all points where the drawn one lies outside."""
    outlines = np.empty((len(points), *shape), np.uint8)
    for index, (face, kind, count) in enumerate(zip(points, draw.kinds, draw.counts, strict=True)):
        outline = hull_mask(kind, face[:count], shape)
        if outline.mean() < 2 * SMALLEST_MASK:
            outline = hull_mask("hull", face, shape)
        if outline.mean() < 2 * SMALLEST_MASK:
            raise BlendError(f"picture {index} of the batch: its landmarks lie outside it, or on one point")
        outlines[index] = np.rint(outline * 255)
    return torch.from_numpy(outlines)


def _views(points: NDArray[np.float32], reach: Tensor, shape: tuple[int, int], tight: bool) -> Tensor:
    """First row, end row, first column, end column (B, 4) of what is seen."""
    if not tight:
        return torch.tensor([[0.0, shape[0], 0.0, shape[1]]]).expand(len(points), 4).contiguous()
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    crops = [tight_crop(box, out, shape) for box, out in zip(boxes, reach.numpy(), strict=True)]
    return torch.tensor([[r.start, r.stop, c.start, c.stop] for r, c in crops], dtype=torch.float32)


def _seen(planes: Tensor, views: Tensor, size: int) -> Tensor:
    """Each view (B, 4) of planes (B, C, H, W) at size x size, bilinear; a view repeats its own border."""
    places = []
    step = (torch.arange(size, device=planes.device) + 0.5) / size
    for axis in (0, 1):
        start, stop, length = views[:, 2 * axis, None], views[:, 2 * axis + 1, None], planes.shape[2 + axis]
        pixels = torch.minimum(torch.maximum(start + (stop - start) * step - 0.5, start), stop - 1)
        places.append((pixels + 0.5) * (2 / length) - 1)
    shape = (len(views), size, size)
    grid = torch.stack([places[1][:, None, :].expand(shape), places[0][:, :, None].expand(shape)], -1)
    return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
