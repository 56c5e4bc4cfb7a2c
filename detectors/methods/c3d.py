"""3-D CNNs of "Detecting Deepfakes with Metric Learning" (arXiv 2003.08645): C3D (Tran et al. 2015) and conv3d."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import CheckpointError, match_state, one_file, read_keras, tensor
from detectors.registry import register
from preprocessing.inputs import ClipInput, FaceInput, InputSpec

Pool = tuple[int, int, int]

C3D_WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))
CONV3D_WIDTHS = ((64,), (128,), (128,), (256,), (256,))
"""Channels of the convolutions before each pool."""

REFERENCE_FIRST_POOL: Pool = (2, 2, 1)
"""conv3d's in the reference: it halves time and height and not width, an axis order kept from another layout."""


class C3DConfig(DetectorConfig):
    """Which network, how wide, and the clip that it sees."""

    arch: Literal["c3d", "conv3d"] = "c3d"
    length: int = Field(
        default=16, ge=1, description="frames in a clip; the reference's was its batch size, 32; 1: a network of stills"
    )
    stride: int = Field(default=1, ge=1, description="frames from one to the next in a clip")
    size: int = Field(default=112, ge=64, multiple_of=16, description="pixels; published 112")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    first_pool: Pool = Field(default=(1, 2, 2), description="time, height, width; the reference's conv3d: (2, 2, 1)")
    multiplier: float = Field(default=1.0, gt=0, le=1, description="of all channels")
    hidden: int = Field(default=2048, ge=1, description="units of fc6 and fc7")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="in training, after fc6 and fc7")
    batch_norm: bool = Field(default=False, description="after each convolution; neither published network has it")
    l2: float = Field(
        default=0.0, ge=0, description="adds l2 * sum(w^2) over all kernels to the loss; conv3d in Keras: 0.005"
    )


@register(
    "c3d",
    paper=C3DConfig(),
    compact=C3DConfig(multiplier=0.1875, hidden=128, batch_norm=True),
)
class C3D(Detector):
    """Convolutions and pools over time, height and width, then three dense layers.

    Parameters at 112 px: c3d 48,635,650 with 16 or 25 frames, 65,412,866 with 32; conv3d with the reference's first
    pool 22,206,338 with 16, 25 or 32. Class 0 is fake and class 1 real as in the reference: `logit` is their
    difference. `embedding` (B, hidden) is fc7 after its ReLU; `aux["classes"]` (B, 2) both outputs.

    With `length` 1 it is the same network without time, for stills (B, 3, size, size). A network of 16 to 31 frames,
    whose last map has one position in time, can start from its weights: they become the middle of each kernel, the
    rest is 0, so that it takes a clip that stands still for that picture (inflation: Carreira and Zisserman, CVPR 2017,
    section 2.4.2, there with its mean in each moment).
    """

    meta = Meta(
        title="C3D",
        paper="Detecting Deepfakes with Metric Learning",
        year=2020,
        url="https://arxiv.org/abs/2003.08645",
        looks_at="Sixteen consecutive frames of a face at once: how its texture moves. Needs a video.",
        licence="none published; the reference's code is MIT",
    )
    config: C3DConfig

    def __init__(self, config: C3DConfig) -> None:
        super().__init__()
        self.config = config
        face = FaceInput(config.size, config.margin)
        self.input: InputSpec = ClipInput(config.length, config.stride, face) if config.length > 1 else face
        original = config.arch == "c3d"
        widths = C3D_WIDTHS if original else CONV3D_WIDTHS
        kernel, padding = ((1, 3, 3), (0, 1, 1)) if config.length == 1 else ((3, 3, 3), (1, 1, 1))
        stages, channels = [], 3
        for number, block in enumerate(widths):
            layers: list[nn.Module] = []
            for width in (max(1, round(width * config.multiplier)) for width in block):
                layers.append(nn.Conv3d(channels, width, kernel, padding=padding))
                if config.batch_norm:
                    layers.append(nn.BatchNorm3d(width))
                layers.append(nn.ReLU())
                channels = width
            if original and number == 4:
                layers.append(nn.ConstantPad3d((1, 1, 1, 1, 0, 0), 0.0))
            # C3D's pools leave an odd row out; conv3d's are "same", which keeps it.
            layers.append(nn.MaxPool3d(self._pool(number), ceil_mode=not original))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.fc6 = nn.Linear(channels * self._positions(), config.hidden)
        self.fc7 = nn.Linear(config.hidden, config.hidden)
        self.fc8 = nn.Linear(config.hidden, 2)
        self.dropout = nn.Dropout(config.dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                # Keras' default, which the published training started from.
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def _pool(self, number: int) -> Pool:
        time, height, width = self.config.first_pool if number == 0 else (2, 2, 2)
        return (1 if self.config.length == 1 else time, height, width)

    def _positions(self) -> int:
        """Positions in time and space of the last map; ValueError where a pool leaves nothing."""
        shape = [self.config.length, self.config.size, self.config.size]
        for number in range(5):
            pool = self._pool(number)
            if self.config.arch == "c3d":
                if number == 4:
                    shape = [shape[0], shape[1] + 2, shape[2] + 2]
                shape = [side // step for side, step in zip(shape, pool, strict=True)]
            else:
                shape = [-(-side // step) for side, step in zip(shape, pool, strict=True)]
        if 0 in shape:
            raise ValueError(f"c3d: nothing is left of {self.config.length} frames after five pools; take more frames")
        return shape[0] * shape[1] * shape[2]

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, length, 3, size, size) RGB in 0..1; (B, 3, size, size) with `length` 1."""
        if self.config.length == 1:
            batch = batch.unsqueeze(1)
        maps = self.stages(batch.transpose(1, 2))
        # Keras flattens time, rows, columns, channels.
        flat = maps.permute(0, 2, 3, 4, 1).flatten(1)
        hidden = functional.relu(self.fc6(flat))
        hidden = functional.relu(self.fc7(self.dropout(hidden)))
        classes = self.fc8(self.dropout(hidden))
        return DetectorOutput(classes[:, 0] - classes[:, 1], embedding=hidden, aux={"classes": classes})

    def cam_layer(self) -> nn.Module:
        """The last stage but one: the last has hardly a position left in time."""
        return self.stages[-2]

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """Cross entropy; with `l2` the published penalty on kernels, which has no factor 1/2."""
        loss = super().loss(output, truth)
        if not self.config.l2:
            return loss
        kernels = [module.weight for module in self.modules() if isinstance(module, nn.Conv3d | nn.Linear)]
        return loss + self.config.l2 * torch.stack([kernel.square().sum() for kernel in kernels]).sum()

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[C3DConfig, dict[str, Tensor]]:
        """A Keras weight file that the reference's trainer wrote, of c3d (8 convolutions) or conv3d (5).

        Layers are taken in the file's order, which is the model's. The length of its clips is only known up to what
        changes fc6; 16 is assumed, 32 where only that fits. Raises CheckpointError for another network's.
        """
        path = one_file(paths, "c3d")
        layers = read_keras(path)
        convolutions = [layer for layer in layers if layer.weights[0].ndim == 5]
        dense = [layer for layer in layers if layer.weights[0].ndim == 2]
        if (
            len(convolutions) not in (5, 8)
            or len(dense) != 3
            or len(layers) != len(convolutions) + 3
            or any(len(layer.weights) != 2 for layer in layers)
        ):
            raise CheckpointError(
                f"{path.name} has {len(convolutions)} 3-D convolutions and {len(dense)} dense layers among "
                f"{len(layers)}; C3D has 8 and 3, conv3d 5 and 3"
            )
        state: dict[str, Tensor] = {}
        config = _config(len(convolutions) == 8, *dense[0].weights[0].shape)
        with torch.device("meta"):
            expected = cls(config).state_dict()
        names = [key.removesuffix(".weight") for key in expected if key.endswith(".weight")]
        for name, layer in zip(names, [*convolutions, *dense], strict=True):
            kernel, bias = layer.weights
            order = (4, 3, 0, 1, 2) if kernel.ndim == 5 else (1, 0)
            state |= {f"{name}.weight": tensor(kernel.transpose(order)), f"{name}.bias": tensor(bias)}
        match_state(state, expected, path.name)
        return config, state


def _config(original: bool, flat: int, hidden: int) -> C3DConfig:
    """conv3d's flat map tells which first pool it has: 28 positions with the reference's, 16 with (1, 2, 2)."""
    if original:
        return C3DConfig(length=32 if flat == 16_384 else 16, hidden=hidden)
    pool: Pool = REFERENCE_FIRST_POOL if flat == 7_168 else (1, 2, 2)
    return C3DConfig(arch="conv3d", first_pool=pool, hidden=hidden, l2=0.005)
