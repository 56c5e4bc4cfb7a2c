"""Baseline JPEG's losses as a few matrix products, for batches on any device (ITU-T T.81; JFIF 1.02).

What a 4:2:0 encoder and decoder do to pixels, without the bits between them: YCbCr in 8 bits, chroma averaged over
2 x 2, the DCT of 8 x 8 blocks rounded to multiples of the tables of T.81's annex K scaled by quality as the
Independent JPEG Group does, and back with the triangle filter that libjpeg enlarges chroma by.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
"""The rest of the table is 99."""
MCU = 16
TIE = 1e-6
"""More than the error of these products, less than what tells two coefficients apart."""


def jpeg_batch(images: Tensor, quality: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) float32 RGB in whole levels after JPEG at `quality` (B,) 1..100; 0 leaves one as it is."""
    height, width = images.shape[-2:]
    luma, chroma = _tables(images.device)
    # The Independent JPEG Group's scale of the tables.
    scale = torch.where(quality < 50, (5000 / quality.clamp(min=1)).floor(), 200 - 2 * quality)[:, None, None]
    steps = [((table * scale + 50) / 100).floor().clamp(1, 255) for table in (luma, chroma)]
    ycc = _ycbcr(F.pad(images, (0, -width % MCU, 0, -height % MCU), mode="replicate"))
    y = _coded(ycc[:, :1], steps[0])[..., :height, :width]
    # libjpeg rounds averages down and up in turn, so that colours do not drift.
    turns = 0.25 + 0.25 * (torch.arange(ycc.shape[-1] // 2, device=images.device) % 2)
    small = _coded((F.avg_pool2d(ycc[:, 1:], 2) + turns).floor(), steps[1])
    small = small[..., : (height + 1) // 2, : (width + 1) // 2]
    colour = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    colour = (colour + 0.5 - (torch.arange(colour.shape[-1], device=images.device) % 2) / 16).floor()
    done = _rgb(y, colour[..., :height, :width])
    return torch.where((quality > 0)[:, None, None, None], done, images)


def _coded(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes (B, C, H, W) after the rounding of their 8 x 8 blocks' DCT to `steps` (B, 8, 8)."""
    batch, channels, height, width = planes.shape
    dct = _dct(planes.device)
    # In double precision no setting of a training (TF32) can make the products coarser.
    blocks = planes.double().reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4) - 128
    step = steps[:, None, None, None]
    share = dct @ blocks @ dct.T / step
    # Ties go away from zero, as libjpeg's do; DC terms are often ties.
    whole = share.sign() * (share.abs() + (0.5 + TIE)).floor()
    back = dct.T @ (whole * step) @ dct
    return (back + 128).round().clamp(0, 255).float().transpose(3, 4).reshape(planes.shape)


def _ycbcr(rgb: Tensor) -> Tensor:
    r, g, b = rgb.unbind(1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cb = 128 - 0.168735892 * r - 0.331264108 * g + 0.5 * b
    cr = 128 + 0.5 * r - 0.418687589 * g - 0.081312411 * b
    return torch.stack([y, cb, cr], 1).round().clamp(0, 255)


def _rgb(y: Tensor, colour: Tensor) -> Tensor:
    luma, cb, cr = y[:, 0], colour[:, 0] - 128, colour[:, 1] - 128
    planes = [luma + 1.402 * cr, luma - 0.344136286 * cb - 0.714136286 * cr, luma + 1.772 * cb]
    return torch.stack(planes, 1).round().clamp(0, 255)


@functools.cache
def _dct(device: torch.device) -> Tensor:
    angle = (torch.arange(8, dtype=torch.float64)[None] + 0.5) * torch.arange(8)[:, None] * (math.pi / 8)
    matrix = angle.cos() / 2
    matrix[0] = math.sqrt(1 / 8)
    return matrix.to(device)


@functools.cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    chroma = torch.full((8, 8), 99.0)
    chroma[:4, :4] = torch.tensor(CHROMA_CORNER)
    return torch.tensor(LUMA, dtype=torch.float32, device=device), chroma.to(device)
