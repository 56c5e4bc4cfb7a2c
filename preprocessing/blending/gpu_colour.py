"""The colour and sharpness changes of `colour.py` for batches (B, 3, H, W) of float32 in whole levels 0..255.

Every change is computed for every picture with that picture's own numbers, so that nothing depends on a draw that the
host would have to wait for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from preprocessing.blending.gpu_draw import BatchDraw, ColourDraw


def recolour(images: Tensor, draw: ColourDraw) -> Tensor:
    """RGB shift, the drop in 8-bit HSV, brightness and contrast; each clipped and truncated."""
    images = (images + draw.shift[:, :, None, None]).clamp(0, 255).floor()
    images = torch.where(_each(draw.hsv), hsv_drop_batch(images, draw.drop), images)
    return (images * _each(draw.tone[:, 0]) + _each(draw.tone[:, 1])).clamp(0, 255).floor()


def change_source(images: Tensor, draw: BatchDraw) -> Tensor:
    """SBI's change of one side (section 3.4): colour, then a lower resolution or sharpening."""
    images = recolour(images, draw.change)
    for axis in (2, 3):
        images = _coarser(images, draw.factor, axis)
    return sharpen_batch(images.round(), draw.sharpness)


def sharpen_batch(images: Tensor, sharpness: Tensor) -> Tensor:
    """(1 - alpha) of each picture plus alpha of its 3 x 3 Laplacian sharpening of centre 8 + lightness; (B, 2)."""
    alpha, lightness = _each(sharpness[:, 0]), _each(sharpness[:, 1])
    around = 9 * F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return (images * (1 + alpha * (8 + lightness)) - alpha * around).round().clamp(0, 255)


def hsv_drop_batch(images: Tensor, drop: Tensor) -> Tensor:
    """A round trip through 8-bit HSV in which hue, saturation and value drop by one where `drop` (B, 3) says so."""
    r, g, b = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    span = value - least
    saturation = (255 * span / value.clamp(min=1) + 0.5).floor()
    unit = 30 / span.clamp(min=1)
    hue = torch.where(b == value, 120 + unit * (r - g), torch.zeros_like(value))
    hue = torch.where(g == value, 60 + unit * (b - r), hue)
    hue = torch.where(r == value, unit * (g - b), hue)
    # OpenCV rounds halves up.
    hue = torch.remainder((hue + 0.5).floor(), 180)
    lower = drop.to(images.dtype)[:, :, None, None]
    hue = torch.remainder(hue - lower[:, 0], 180)
    saturation, value = (saturation - lower[:, 1]).clamp(min=0), (value - lower[:, 2]).clamp(min=0)
    # Each channel is the value less what the hue's distance from it takes away.
    sector = torch.stack([(hue / 30 + shift) % 6 for shift in (5, 3, 1)], 1)
    away = torch.minimum(sector, 4 - sector).clamp(0, 1)
    whole, grey = value[:, None], (saturation / 255)[:, None]
    # Truncated, as OpenCV does on this way back.
    return (whole * (1 - grey * away)).clamp(0, 255).floor()


def _coarser(images: Tensor, factor: Tensor, axis: int) -> Tensor:
    """One axis sampled at every `factor`-th (B,) place, nearest, and brought back bilinearly."""
    length = images.shape[axis]
    count = (length // factor).clamp(min=1)[:, None]
    place = (torch.arange(length, device=images.device) + 0.5) * (count / length) - 0.5
    place = torch.minimum(place.clamp(min=0), count - 1.0)
    first = place.floor().long()
    second = torch.minimum(first + 1, count - 1)
    shape = [-1, 1, length, 1] if axis == 2 else [-1, 1, 1, length]
    near, far = (
        images.gather(axis, (index * length // count).reshape(shape).expand(images.shape)) for index in (first, second)
    )
    return torch.lerp(near, far, (place - first).reshape(shape))


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
