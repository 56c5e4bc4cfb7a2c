"""JPEG's frequencies as the input of a network (Xu et al., CVPR 2020, arXiv 2002.12416), from the pixels themselves."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Subset = Literal["6", "12", "24", "32", "48", "64", "192", "learned24", "triangle24", "triangle64"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)

_ALL = tuple(range(64))


def _rows(*counts: int) -> tuple[int, ...]:
    """The first `counts[v]` columns of row v of an 8 x 8 block; the index of a frequency is 8 * v + u."""
    return tuple(8 * v + u for v, count in enumerate(counts) for u in range(count))


_CHANNELS: dict[Subset, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "6": (_rows(2, 2), (0,)),
    "12": (_rows(3, 3, 2), (0, 1)),
    "24": (_rows(4, 4, 4, 4), (0, 1, 8, 9)),
    "32": (_rows(5, 5, 5, 4, 3), (0, 1, 2, 8, 9)),
    "48": (_rows(6, 6, 6, 6, 4, 4), (0, 1, 2, 8, 9, 10, 16, 17)),
    "64": (_rows(7, 7, 6, 6, 6, 6, 6), (0, 1, 2, 8, 9, 10, 16, 17, 24, 25)),
    "192": (_ALL, _ALL),
    "learned24": ((*range(6), 8, 9, 10, 16, 17, 18, 24, 32), (0, 1, 3, 8, 24)),
    "triangle24": (_rows(5, 4, 2, 1), _rows(3, 2, 1)),
    "triangle64": (_rows(8, 7, 6, 5, 4, 3, 1), _rows(5, 4, 3, 2, 1)),
}
"""Frequencies of Y, and of Cb and Cr, each (DCTNet's choices)."""


def channels(subset: Subset) -> tuple[int, ...]:
    """Which of the 192 channels (64 of Y, then of Cb, then of Cr) a subset keeps."""
    luma, chroma = _CHANNELS[subset]
    return (*luma, *(64 + i for i in chroma), *(128 + i for i in chroma))


def _basis() -> Tensor:
    """The orthonormal DCT-II of 8 x 8 blocks as filters (64, 1, 8, 8), row-major in (v, u)."""
    place, wave = torch.arange(8, dtype=torch.float64), torch.arange(8, dtype=torch.float64)[:, None]
    one = torch.cos((2 * place + 1) * wave * math.pi / 16) * torch.where(wave == 0, math.sqrt(1 / 8), math.sqrt(1 / 4))
    return torch.einsum("vy,ux->vuyx", one, one).reshape(64, 1, 8, 8).float()


# BT.601, full range, as in JPEG.
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Frequencies(nn.Module):
    """RGB (N, 3, S, S) in 0..1, S a multiple of 8, to DCT coefficients (N, C, S/8, S/8) of values in 0..255.

    What JPEG of quality 100 stores, but for its rounding. Its chroma has half the resolution: Cb and Cr come from a
    copy of twice the size, as DCTNet's do, so that all blocks cover the same pixels.
    """

    basis: Tensor
    colours: Tensor
    chosen: Tensor

    def __init__(self, subset: Subset = "192") -> None:
        super().__init__()
        self.count = len(channels(subset))
        for name, value in (
            ("basis", _basis()),
            ("colours", torch.tensor(_YCC)[:, :, None, None]),
            ("chosen", torch.tensor(channels(subset))),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        # Centred on zero: Y loses 128, Cb and Cr have no offset yet.
        planes = functional.conv2d(rgb * 255, self.colours)
        luma, chroma = planes[:, :1] - 128, planes[:, 1:]
        doubled = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
        halved = functional.avg_pool2d(doubled, 2)
        parts = [functional.conv2d(plane, self.basis, stride=8) for plane in (luma, halved[:, :1], halved[:, 1:])]
        return torch.cat(parts, 1)[:, self.chosen]


class FrequencyGate(nn.Module):
    """Learns which frequencies to let through: each channel is multiplied by 0 or 1 (Xu et al., section 3.3).

    A Gumbel-softmax with straight-through gradient in training, its argmax in evaluation.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(count, count, 1), nn.BatchNorm2d(count), nn.ReLU())
        self.switch = nn.Conv2d(count, 2 * count, 1, groups=count)
        nn.init.normal_(self.switch.weight, std=0.001)
        with torch.no_grad():
            assert self.switch.bias is not None
            self.switch.bias.copy_(torch.tensor([0.1, 2.0]).repeat(count))

    def forward(self, coefficients: Tensor) -> Tensor:
        """(N, C, h, w) to the same with closed channels at zero."""
        logits = self.switch(self.squeeze(coefficients.mean((2, 3), keepdim=True))).reshape(
            -1, coefficients.shape[1], 2
        )
        if self.training:
            opened = functional.gumbel_softmax(logits, hard=True)[..., 1]
        else:
            opened = (logits[..., 1] > logits[..., 0]).to(coefficients.dtype)
        return coefficients * opened[:, :, None, None]
