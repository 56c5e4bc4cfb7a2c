"""LAA-Net's parts: EfficientNet-B4 as the published weights padded it, the E-FPN decoder, the heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbone import MobileNetV1

NOMINAL = 380
"""B4's own input side, for which the published network fixes its padding, whatever is fed."""
B4_TAPS = (1, 2, 4, 6)
"""Stages after which C2, C3, C4 and C5 are taken: the last before each drop in resolution, and the very last."""
B4_CHANNELS = (32, 56, 160, 448, 1792)
"""C2 to C6, at strides 4, 8, 16, 32 and 32."""


class PaddedConv2d(nn.Conv2d):
    """A convolution after zeros: `before` rows and columns at the top and left, `after` at the bottom and right."""

    def __init__(self, like: nn.Conv2d, before: int, after: int) -> None:
        kernel, stride = (like.kernel_size[0], like.kernel_size[1]), (like.stride[0], like.stride[1])
        super().__init__(like.in_channels, like.out_channels, kernel, stride, groups=like.groups, bias=False)
        self.weight = like.weight
        self.margins = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.margins))


class EfficientNetB4(nn.Module):
    """(B, 3, H, W) in -1..1 to [C2, C3, C4, C5, C6]; 17,548,616 parameters.

    timm's tf_efficientnet_b4 with static padding: at 384 px, padding as TensorFlow does would shift the first
    convolution of stage 3 by a pixel.
    """

    channels = B4_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        import timm  # heavy; only where a network is made

        self.net: Any = timm.create_model(
            "tf_efficientnet_b4", num_classes=0, global_pool="", drop_path_rate=0.2, bn_momentum=0.01
        )
        side = NOMINAL
        for name, module in list(self.net.named_modules()):
            if isinstance(module, nn.Conv2d) and module.stride[0] == 2:
                out = -(-side // 2)
                total = max((out - 1) * 2 + module.kernel_size[0] - side, 0)
                parent, _, own = name.rpartition(".")
                setattr(self.net.get_submodule(parent), own, PaddedConv2d(module, total // 2, total - total // 2))
                side = out

    def forward(self, batch: Tensor) -> list[Tensor]:
        x = self.net.bn1(self.net.conv_stem(batch))
        taps = []
        for number, stage in enumerate(self.net.blocks):
            x = stage(x)
            if number in B4_TAPS:
                taps.append(x)
        return [*taps, self.net.bn2(self.net.conv_head(x))]


def unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class LightB4(nn.Module):
    """MobileNet v1 to stride 16 in EfficientNet's place: [C2, C3, C4, C5, C6] at strides 2, 4, 8, 16 and 16.

    C6 comes from C5's map by a 1 x 1 convolution, as in B4; others make the skips narrow enough for a light decoder.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.net = MobileNetV1(last=3)
        self.narrow = nn.ModuleList(
            unit(wide, narrow, 1) for wide, narrow in zip((*self.net.widths[1:], 512), channels[1:], strict=True)
        )

    def forward(self, batch: Tensor) -> list[Tensor]:
        c2, *maps = self.net(batch)
        return [c2, *(narrow(m) for narrow, m in zip(self.narrow, (*maps, maps[-1]), strict=True))]


class Inception(nn.Module):
    """1x1, 3x3, 5x5 and pooled paths, each a quarter of the channels, behind ONE pointwise unit that all four share."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.pw_block = unit(channels, quarter, 1)
        self.conv3_block = unit(quarter, quarter, 3)
        self.conv5_block = unit(quarter, quarter, 5)

    def forward(self, x: Tensor) -> Tensor:
        # Not computed once: in training the shared norm's statistics move at each of the four calls, as published.
        paths = (
            self.pw_block(x),
            self.conv3_block(self.pw_block(x)),
            self.conv5_block(self.pw_block(x)),
            self.pw_block(functional.max_pool2d(x, 3, 1, 1)),
        )
        return torch.cat(paths, 1)


def double(channels: int) -> list[nn.Module]:
    """Twice the resolution: transposed convolution and batch norm, started as published."""
    deconvolution = nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False)
    nn.init.normal_(deconvolution.weight, 0, (2 / (16 * channels)) ** 0.5)
    return [deconvolution, nn.BatchNorm2d(channels)]


class EFPN(nn.Module):
    """[C2, C3, C4, C5, C6] to one map of `outputs` channels with twice C3's resolution (paper, section 3.3).

    Each skip passes where the decoder is not sure: it is weighed by 1 - sigmoid(decoder), channel by channel, and
    appended to the decoder's own map. `gated` False appends it as it is (plain FPN). `use_c2` appends C2 at the end,
    gated by signed values as everywhere; plain, by what a ReLU leaves. `squeeze`: squeeze-and-excitation of a 16th of
    the channels, without biases, after each concatenation.
    """

    def __init__(self, channels: Sequence[int], dropout: float, gated: bool, use_c2: bool, squeeze: bool) -> None:
        super().__init__()
        c2, c3, c4, c5, c6 = channels
        self.gated = gated
        self.dropout = nn.Dropout(dropout)
        last = 2 * c3
        end = [nn.ReLU()] if not (use_c2 and gated) else []
        self.steps = nn.ModuleList(
            [
                nn.Sequential(unit(c6, c5, 3)),
                nn.Sequential(unit(2 * c5, c4, 3), *double(c4)),
                nn.Sequential(unit(2 * c4, c3, 3), *double(c3)),
                nn.Sequential(Inception(last), *double(last), *end),
            ]
        )
        self.widen_c2 = unit(c2, last, 3) if use_c2 else None
        self.outputs = 2 * last if use_c2 else last
        joined = [2 * c5, 2 * c4, 2 * c3] + [2 * last] * use_c2
        self.squeezes = nn.ModuleList(_squeeze(width) for width in joined if squeeze)

    def _join(self, found: Tensor, skip: Tensor, number: int) -> Tensor:
        joined = torch.cat([found, (1 - found.sigmoid()) * skip if self.gated else skip], 1)
        return self.squeezes[number](joined) if self.squeezes else joined

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        c2, *deeper = taps
        c3, c4, c5, x = (self.dropout(tap) for tap in deeper)
        for number, (step, skip) in enumerate(zip(self.steps, (c5, c4, c3), strict=False)):
            x = self._join(step(x), skip, number)
        x = self.steps[3](x)
        return x if self.widen_c2 is None else self._join(x, self.widen_c2(self.dropout(c2)), 3)


def _squeeze(width: int) -> nn.Module:
    from timm.layers import SEModule  # heavy; only where one is made

    return SEModule(width, rd_channels=max(1, width // 16), bias=False)


def map_head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A map of `outputs` channels at the decoder's resolution."""
    return nn.Sequential(*_start(inputs, hidden), nn.Conv2d(hidden, outputs, 1))


def class_head(inputs: int, hidden: int) -> nn.Sequential:
    """One logit, (B, 1)."""
    return nn.Sequential(*_start(inputs, hidden), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden, 1))


def _start(inputs: int, hidden: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU()]
