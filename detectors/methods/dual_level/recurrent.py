"""The other networks over a clip that the method is compared with: convolutional recurrence, and 3-D convolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

WIDTHS = (256, 256, 512)
"""Hidden channels of cRNN's three layers."""


class ConvLSTMCell(nn.Module):
    """One convolution on [input, hidden] makes the gates i, f, o, g (Shi et al., NeurIPS 2015)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(channels + hidden, 4 * hidden, 1)

    def forward(self, value: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(N, channels, h, w) and the state (h, c) to the next state."""
        shown, cell = state
        i, f, o, g = self.gates(torch.cat([value, shown], 1)).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class ConvGRUCell(nn.Module):
    """Reset and update from one convolution on [input, hidden], the candidate from one on [input, reset * hidden]."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(channels + hidden, 2 * hidden, 1)
        self.candidate = nn.Conv2d(channels + hidden, hidden, 1)

    def forward(self, value: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """As ConvLSTMCell; the second part of the state is not used."""
        shown, cell = state
        reset, update = self.gates(torch.cat([value, shown], 1)).sigmoid().chunk(2, 1)
        proposed = self.candidate(torch.cat([value, reset * shown], 1)).tanh()
        return (1 - update) * shown + update * proposed, cell


class ConvRecurrent(nn.Module):
    """cRNN's upper part: three convolutional layers over time, the last hidden state pooled, a class layer.

    The reference pools the cell of its LSTM instead of what the LSTM shows; here it is the hidden state for both kinds.
    """

    def __init__(self, channels: int, kind: Literal["gru", "lstm"]) -> None:
        super().__init__()
        cell = ConvLSTMCell if kind == "lstm" else ConvGRUCell
        inputs = (channels, *WIDTHS[:-1])
        self.layers = nn.ModuleList(cell(a, b) for a, b in zip(inputs, WIDTHS, strict=True))
        self.output = nn.Linear(WIDTHS[-1], 2)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C, h, w) to class logits (B, 2) and features (B, 512)."""
        steps = list(maps.unbind(1))
        for layer in self.layers:
            hidden = layer.hidden
            assert isinstance(hidden, int)
            zero = steps[0].new_zeros(steps[0].shape[0], hidden, *steps[0].shape[2:])
            state = (zero, zero)
            for t, value in enumerate(steps):
                state = layer(value, state)
                steps[t] = state[0]
        features = steps[-1].mean((2, 3))
        return self.output(features), features


def resnet3d_10() -> nn.Module:
    """The 3-D ResNet-10 with two classes (Hara et al., CVPR 2018), 14,400,450 parameters: (B, 3, T, S, S) to (B, 2)."""
    from torchvision.models.video.resnet import BasicBlock, Conv3DSimple, VideoResNet  # heavy

    def stem() -> nn.Module:
        convolution = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm3d(64), nn.ReLU(inplace=True), nn.MaxPool3d(3, 2, 1))

    network: nn.Module = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], stem, num_classes=2)
    return network
