"""MobileNet v1 as the image backbone of the compact profiles: one small network that ImageNet weights exist for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
"""Its input is RGB in -1..1."""
WIDTHS = (64, 128, 256, 512, 1024)
"""Channels after each stage; the strides there are 2, 4, 8, 16 and 32."""
STEM, STEM_WIDTH = "conv_stem.weight", 32


STRIDES = (1,), (2, 1), (2, 1), (2, 1, 1, 1, 1, 1), (2, 1)
EPSILON = 1e-3
"""Of the norms; with padding as TensorFlow does, the published network's."""


class _Convolution(nn.Conv2d):
    """Without bias, and padded as TensorFlow does: the pixel more, where it is odd, at the bottom and at the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=math.sqrt(2 * groups / (kernel * kernel * outputs)))

    def forward(self, batch: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(batch)
        padding = []
        for side in (batch.shape[-1], batch.shape[-2]):
            total = max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(functional.pad(batch, padding))


class _Separable(nn.Module):
    """3 x 3 by channel, then 1 x 1 over channels, each with its norm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _Convolution(inputs, inputs, 3, stride, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs, EPSILON)
        self.conv_pw = _Convolution(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, batch: Tensor) -> Tensor:
        batch = functional.relu6(self.bn1(self.conv_dw(batch)), inplace=True)
        return functional.relu6(self.bn2(self.conv_pw(batch)), inplace=True)


class _Stages(nn.Module):
    """Stem and stages, in timm's names."""

    folded = False

    def __init__(self, count: int) -> None:
        super().__init__()
        self.conv_stem = _Convolution(3, STEM_WIDTH, 3, 2)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH, EPSILON)
        self.blocks = nn.Sequential()
        before = STEM_WIDTH
        for width, strides in zip(WIDTHS[:count], STRIDES, strict=False):
            inputs = (before, *(width,) * (len(strides) - 1))
            self.blocks.append(nn.Sequential(*(_Separable(n, width, s) for n, s in zip(inputs, strides, strict=True))))
            before = width

    def forward(self, batch: Tensor) -> list[Tensor]:
        batch = functional.relu6(self.bn1(self.conv_stem(batch)), inplace=True)
        maps = []
        for stage in self.blocks:
            batch = stage(batch)
            maps.append(batch)
        return maps

    def fold(self) -> None:
        """See fold_norms."""
        _fold(self, "conv_stem", "bn1")
        for stage in self.blocks:
            for pair in stage.children():
                _fold(pair, "conv_dw", "bn1")
                _fold(pair, "conv_pw", "bn2")
        self.to(memory_format=torch.channels_last)
        self.folded = True


@torch.no_grad()
def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    before, after = getattr(module, convolution), getattr(module, norm)
    scale = after.weight / (after.running_var + after.eps).sqrt()
    before.weight = nn.Parameter(before.weight * scale[:, None, None, None])
    before.bias = nn.Parameter(after.bias - after.running_mean * scale)
    setattr(module, norm, nn.Identity())


def fold_norms(detector: nn.Module) -> None:
    """Make a trained detector's MobileNets ready for use: their norms become part of the convolutions before them, and
    their maps lie pixel by pixel. On a CPU that takes a third less time, and changes scores by 1e-6 at most. Such a
    network is not trained, nor saved as weights, any more."""
    for module in list(detector.modules()):
        if isinstance(module, _Stages) and not module.folded:
            module.fold()


def is_folded(detector: nn.Module) -> bool:
    """Whether `fold_norms` changed something of it."""
    return any(isinstance(module, _Stages) and module.folded for module in detector.modules())


class MobileNetV1(nn.Module):
    """timm's mobilenetv1_100 (Howard et al. 2017, arXiv 1704.04861), cut after one of its five stages.

    Written out, because importing timm takes as long as torch (docs/decisions/0010). A test holds it to timm's.
    Parameters up to stage 2 (stride 8, 256 channels): 134,208; to stage 3 (16, 512): 1,613,120; to stage 4 (32, 1024):
    3,206,976.
    """

    def __init__(self, last: int = 3) -> None:
        super().__init__()
        self.net = _Stages(last + 1)
        self.widths = WIDTHS[: last + 1]

    def forward(self, batch: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in -1..1 to the feature maps after each stage, shallow to deep."""
        maps: list[Tensor] = self.net(batch)
        return maps

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take what fits of a mobilenetv1_100 state dict in timm's names, or of a trained detector that holds one.

        The ImageNet weights that we have lack the last pointwise convolution, which then stays as it was initialised.
        Raises ValueError for any other network's.
        """
        stems = [name for name in state if name.endswith(STEM)]
        if len(stems) == 1:
            before = stems[0].removesuffix(STEM)
            state = {k.removeprefix(before): v.float() for k, v in state.items() if k.startswith(before)}
        wanted = self.net.state_dict()
        found = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k].shape}
        allowed = {"blocks.4.1.conv_pw.weight"}
        missing = sorted(k for k in wanted if k not in found and k not in allowed and "num_batches" not in k)
        if missing:
            raise ValueError(f"these are not weights of mobilenetv1_100: {', '.join(missing[:4])} are missing")
        self.net.load_state_dict(found, strict=False)
