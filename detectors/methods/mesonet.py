"""MesoNet: Meso-4 and MesoInception-4 (Afchar et al., WIFS 2018, arXiv 1809.00888)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.checkpoints import CheckpointError, KerasLayer, match_state, one_file, read_keras, tensor
from detectors.registry import register
from preprocessing.inputs import FaceInput

MEAN: tuple[float, float, float] = (0.0, 0.0, 0.0)
STD: tuple[float, float, float] = (1.0, 1.0, 1.0)


class MesoConfig(DetectorConfig):
    """Which of the two networks, and the crop that it sees."""

    arch: Literal["meso4", "mesoinception4"] = "mesoinception4"
    size: int = Field(default=256, ge=64, multiple_of=32, description="pixels; the published networks take 256")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    dropout: float = Field(default=0.5, ge=0, lt=1, description="in training, before both dense layers")


class Inception(nn.Module):
    """Four branches side by side: 1x1, and 1x1 followed by 3x3 with dilation 1, 2 and 3 (paper, section 3.2)."""

    def __init__(self, channels: int, a: int, b: int, c: int, d: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(nn.Conv2d(channels, a, 1), nn.ReLU())])
        for width, dilation in ((b, 1), (c, 2), (d, 3)):
            wide = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            self.branches.append(nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU(), wide, nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _stage(convolution: nn.Module, channels: int, pool: int) -> nn.Sequential:
    """Activation before the norm; Keras' epsilon and momentum, because published statistics were made with them."""
    return nn.Sequential(convolution, nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.MaxPool2d(pool))


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU())


@register("mesonet", paper=MesoConfig(), compact=MesoConfig())
class MesoNet(Detector):
    """Both networks; parameters at 256 px: Meso-4 27,977 and MesoInception-4 28,615 trainable.

    The paper's output is the probability of *real*. Here `logit` > 0 means fake: the importer negates the last layer.
    `embedding` (B, 16) is the hidden layer; `aux["hidden"]` (B, 16) the same before its activation.
    """

    meta = Meta(
        title="MesoNet",
        paper="MesoNet: a Compact Facial Video Forgery Detection Network",
        year=2018,
        url="https://arxiv.org/abs/1809.00888",
        looks_at="Textures at the middle scale of a single face: blur, missing detail, blending at eyes and mouth.",
        licence="published weights: Apache-2.0",
    )
    config: MesoConfig

    def __init__(self, config: MesoConfig) -> None:
        super().__init__()
        self.config = config
        self.input = FaceInput(config.size, config.margin, mean=MEAN, std=STD)
        if config.arch == "meso4":
            first: list[nn.Module] = [_stage(_convolution(3, 8, 3), 8, 2), _stage(_convolution(8, 8, 5), 8, 2)]
            channels = 8
        else:
            first = [_stage(Inception(3, 1, 4, 4, 2), 11, 2), _stage(Inception(11, 2, 4, 4, 2), 12, 2)]
            channels = 12
        self.stages = nn.Sequential(
            *first, _stage(_convolution(channels, 16, 5), 16, 2), _stage(_convolution(16, 16, 5), 16, 4)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(16 * (config.size // 32) ** 2, 16)
        self.activation = nn.LeakyReLU(0.1)
        self.output = nn.Linear(16, 1)

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB in 0..1."""
        # Keras flattens rows, columns, channels; published dense weights are in that order.
        flat = self.stages(batch).permute(0, 2, 3, 1).flatten(1)
        hidden = self.hidden(self.dropout(flat))
        embedding = self.activation(hidden)
        logit = self.output(self.dropout(embedding)).squeeze(1)
        return DetectorOutput(logit, embedding=embedding, aux={"hidden": hidden})

    def cam_layer(self) -> nn.Module:
        """The last stage before its pooling, at an eighth of the crop's resolution."""
        stage = self.stages[-1]
        assert isinstance(stage, nn.Sequential)
        return stage[1]

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[MesoConfig, dict[str, Tensor]]:
        """The authors' Keras weight files, whose output is P(real): the last layer is negated, so that ours is P(fake).

        Layers are matched by the number in their names, which is the order of creation; the files list them by depth.
        """
        path = one_file(paths, "mesonet")
        layers = sorted(read_keras(path), key=lambda layer: layer.number)
        convolutions, norms, dense = (
            [layer for layer in layers if layer.kind == kind] for kind in ("conv2d", "batch_normalization", "dense")
        )
        if (len(convolutions), len(norms), len(dense)) not in ((4, 4, 2), (16, 4, 2)):
            raise CheckpointError(
                f"{path.name} has {len(convolutions)} convolutions, {len(norms)} batch norms and {len(dense)} dense "
                "layers; Meso-4 has 4, 4 and 2, MesoInception-4 16, 4 and 2"
            )
        config = MesoConfig(arch="meso4" if len(convolutions) == 4 else "mesoinception4")
        network = cls(config)
        state = _converted(network, convolutions, norms, dense)
        match_state(
            state, network.state_dict(), path.name, ignore=[k for k in network.state_dict() if "num_batches" in k]
        )
        return config, state


def _converted(
    network: MesoNet, convolutions: list[KerasLayer], norms: list[KerasLayer], dense: list[KerasLayer]
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    # Module order is the order in which the authors' code creates the layers: branch by branch, stage by stage.
    names = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    for name, layer in zip(names, convolutions, strict=True):
        kernel, bias = _arrays(layer, 2)
        state[f"{name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous() if kernel.ndim == 4 else kernel
        state[f"{name}.bias"] = bias
    names = [n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for name, layer in zip(names, norms, strict=True):
        parts = ("weight", "bias", "running_mean", "running_var")
        state |= {f"{name}.{part}": value for part, value in zip(parts, _arrays(layer, 4), strict=True)}
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    for name, sign, layer in zip(("hidden", "output"), (1, -1), dense, strict=True):
        kernel, bias = _arrays(layer, 2)
        state[f"{name}.weight"] = sign * kernel.T.contiguous()
        state[f"{name}.bias"] = sign * bias
    return state


def _arrays(layer: KerasLayer, count: int) -> list[Tensor]:
    if len(layer.weights) != count:
        raise CheckpointError(f"layer {layer.name} has {len(layer.weights)} arrays, not {count}")
    return [tensor(array) for array in layer.weights]
