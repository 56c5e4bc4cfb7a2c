"""LAA-Net: localised artifact attention (Nguyen et al., CVPR 2024, arXiv 2401.13856)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from detectors import backbone
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import match_state, one_file, read_torch
from detectors.methods.laa_net.losses import consistency_loss, heatmap_loss
from detectors.methods.laa_net.network import EFPN, EfficientNetB4, LightB4, class_head, map_head
from detectors.methods.laa_net.published import converted
from detectors.registry import register
from preprocessing.blending.targets import boundary_levels, encode_boundary
from preprocessing.inputs import FaceInput


class LaaConfig(DetectorConfig):
    """Which network, the crop that it sees, and how it is trained and tested."""

    arch: Literal["efficientnet_b4", "mobilenetv1"] = "efficientnet_b4"
    size: int = Field(default=384, ge=64, description="pixels; published 384; a multiple of the last map's stride")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    light: tuple[int, int, int, int] = Field(
        default=(12, 24, 32, 48), description="mobilenetv1 only: channels of C3 (even), C4, C5 and C6"
    )
    hidden: int = Field(default=64, ge=4, description="channels inside each head")
    features: int = Field(default=256, ge=4, description="channels of the consistency features")
    dropout: float = Field(default=0.4, ge=0, lt=1, description="in training, on C3 to C6, each number by itself")
    gated: bool = Field(default=True, description="E-FPN; False is a plain FPN")
    use_c2: bool = Field(default=False, description="a further skip from C2; in neither published model")
    squeeze: bool = Field(
        default=False, description="squeeze-and-excitation after each concatenation; in neither published model"
    )
    freeze_backbone: bool = Field(
        default=False,
        description="the backbone's weights stay, its batch norms' statistics move: 6 epochs of the BI training",
    )
    flip_test: bool = Field(default=True, description="in evaluation, the mean logit of the image and its mirror image")
    heatmap_weight: float = Field(default=10.0, ge=0)
    consistency_weight: float = Field(default=100.0, ge=0)
    centred: bool = Field(default=False, description="targets' peaks on their points; published: some beside")
    real_ones: bool = Field(
        default=False, description="consistency target of a real face: all 1 as in the paper, or all 0 as in the code"
    )

    @field_validator("light")
    @classmethod
    def _splits(cls, light: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        if min(light) < 2 or light[0] % 2:
            raise ValueError(f"light: at least 2 channels each, and the first even, not {light}")
        return light

    @model_validator(mode="after")
    def _whole_maps(self) -> LaaConfig:
        stride = 32 if self.arch == "efficientnet_b4" else 16
        if self.size % stride:
            raise ValueError(f"size: {self.arch} takes multiples of {stride} pixels, not {self.size}")
        return self


@register(
    "laa_net",
    paper=LaaConfig(),
    compact=LaaConfig(arch="mobilenetv1", size=144, hidden=16, features=32, flip_test=False),
)
class LaaNet(Detector):
    """Finds the points where a blend is at its most even mixture, and says fake or real. See docs/detectors.

    `heatmap` (B, S, S), S = size / 4 (compact: size / 2), is the chance of such a point; `aux["points"]` (B, S, S) its
    logits, `aux["features"]` (B, features, S, S) the consistency branch. Parameters: 27,128,786; compact 1,728,310.
    """

    meta = Meta(
        title="LAA-Net",
        paper="LAA-Net: Localized Artifact Attention Network for Quality-Agnostic and Generalizable Deepfake Detection",
        year=2024,
        url="https://arxiv.org/abs/2401.13856",
        looks_at="The few points of a blending border where both faces weigh the same, and what else looks like them.",
        licence="the authors' repository publishes weights; their terms are not known here",
    )
    native_map = True
    config: LaaConfig

    def __init__(self, config: LaaConfig) -> None:
        super().__init__()
        self.config = config
        # AdvProp's range, which is MobileNet's too.
        self.input = FaceInput(config.size, config.margin, mean=backbone.MEAN, std=backbone.STD)
        self.backbone: EfficientNetB4 | LightB4 = (
            EfficientNetB4() if config.arch == "efficientnet_b4" else LightB4((backbone.WIDTHS[0], *config.light))
        )
        self.decoder = EFPN(self.backbone.channels, config.dropout, config.gated, config.use_c2, config.squeeze)
        self.stride = 4 if config.arch == "efficientnet_b4" else 2
        width = self.decoder.outputs
        self.heatmap_head = map_head(width, config.hidden, 1)
        self.consistency_head = map_head(width, config.hidden, config.features)
        self.class_head = class_head(width, config.hidden)
        points, likeness = self.heatmap_head[-1], self.consistency_head[-1]
        assert isinstance(points, nn.Conv2d) and isinstance(likeness, nn.Conv2d)
        assert points.bias is not None and likeness.bias is not None
        nn.init.constant_(points.bias, -2.19)  # CenterNet: points are rare, the start says 0.1 everywhere
        nn.init.normal_(likeness.weight, 0, (2 / config.features) ** 0.5)
        nn.init.zeros_(likeness.bias)
        if config.freeze_backbone:
            self.backbone.requires_grad_(False)

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB in -1..1."""
        count = batch.shape[0]
        mirrored = self.config.flip_test and not self.training
        decoded = self.decoder(self.backbone(torch.cat([batch, batch.flip(-1)]) if mirrored else batch))
        logit = self.class_head(decoded).squeeze(1)
        if mirrored:
            logit = (logit[:count] + logit[count:]) / 2
        own = decoded[:count]
        points = self.heatmap_head(own).squeeze(1)
        aux = {"points": points, "features": self.consistency_head(own)}
        return DetectorOutput(logit, heatmap=points.sigmoid(), aux=aux)

    def targets(self, mask: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """`heatmap` and `consistency`, both (S, S): the border of the blend in 256 levels, brought to the map's size.

        Corner pixels stay corner pixels, and nothing is averaged, as in the published warp.
        """
        levels = boundary_levels(np.asarray(mask, np.float32))
        side = mask.shape[0] // self.stride
        scale = (side - 1) / (mask.shape[0] - 1)
        affine = np.array([[scale, 0, 0], [0, scale, 0]], np.float64)
        small = cv2.warpAffine(levels, affine, (side, side), flags=cv2.INTER_LINEAR)
        heatmap, consistency = encode_boundary(np.asarray(small, np.uint8), self.config.centred, self.config.real_ones)
        return {"heatmap": heatmap, "consistency": consistency}

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """Cross entropy of the label; with targets, 10 times the heatmap's loss and 100 times the consistency's."""
        total = functional.binary_cross_entropy_with_logits(output.logit.float(), truth.label.float())
        if "heatmap" in truth.maps:
            total = total + self.config.heatmap_weight * heatmap_loss(output.aux["points"], truth.maps["heatmap"])
        if "consistency" in truth.maps:
            target = truth.maps["consistency"]
            total = total + self.config.consistency_weight * consistency_loss(output.aux["features"], target)
        return total

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[LaaConfig, dict[str, Tensor]]:
        """The authors' checkpoint, {epoch, state_dict, optimizer} in float64, as float32 in this module's names.

        Raises CheckpointError for another network, the variants with C2 or squeeze-and-excitation among them.
        """
        path = one_file(paths, "laa_net")
        state = converted(read_torch(path), path.name)
        config = LaaConfig()
        with torch.device("meta"):  # names and shapes only
            expected = cls(config).state_dict()
        match_state(state, expected, path.name)
        return config, state
