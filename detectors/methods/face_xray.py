"""Face X-ray: where a blended face has its border (Li et al., CVPR 2020, arXiv 1912.13458)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detectors import backbone
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import match_state, one_file, read_torch, set_aside
from detectors.registry import register
from preprocessing.blending.targets import face_xray
from preprocessing.inputs import FaceInput

HRNET_WIDTHS = (18, 36, 72, 144)
"""Channels of HRNet-W18's branches, at strides 4, 8, 16 and 32."""
UNUSED_HEAD = tuple(
    f"HRNet_layer.{part}." for part in ("incre_modules", "downsamp_modules", "final_layer", "classifier")
)
"""HRNet's classification head: in the published files, without part in the answer."""


class FaceXrayConfig(DetectorConfig):
    """Which network, the crop that it sees, and how it is trained."""

    arch: Literal["hrnet_w18", "mobilenetv1"] = "hrnet_w18"
    size: int = Field(default=256, ge=64, multiple_of=32, description="pixels")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    width: int = Field(default=48, ge=8, description="channels of the light decoder; mobilenetv1 only")
    xray_weight: float = Field(
        default=100.0, ge=0, description="lambda, the map's share in the loss: 100 or 1000 in versions of the paper"
    )
    frozen: Literal["none", "weights", "all"] = Field(
        default="none",
        description="of the backbone: its weights, as in the first third of the published training, where the batch "
        "norms' statistics still move; or those too",
    )


def _enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(maps, list(size), mode="bilinear", align_corners=True)


class LightDecoder(nn.Module):
    """MobileNet v1 and a top-down path over its strides 16, 8 and 4: (B, 3, H, W) to one map (B, width, H/4, W/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = backbone.MobileNetV1()
        deep_to_shallow = self.encoder.widths[:0:-1]
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for channels in deep_to_shallow
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for _ in deep_to_shallow
        )

    def forward(self, batch: Tensor) -> list[Tensor]:
        maps = self.encoder(batch)[:0:-1]
        found = self.smooth[0](self.lateral[0](maps[0]))
        for level, lateral, smooth in zip(maps[1:], self.lateral[1:], self.smooth[1:], strict=True):
            side = lateral(level)
            found = smooth(side + _enlarge(found, side.shape[-2:]))
        return [found]


@register("face_xray", paper=FaceXrayConfig(), compact=FaceXrayConfig(arch="mobilenetv1", size=160))
class FaceXray(Detector):
    """Draws the border along which two pictures were blended; the more of it, the more fake. See docs/detectors.

    `heatmap` (B, size, size) is the X-ray, `aux["xray"]` the same before its sigmoid. The classifier sees nothing but
    the map's mean. Parameters: hrnet_w18 9,562,535; mobilenetv1 1,664,965.
    """

    meta = Meta(
        title="Face X-ray",
        paper="Face X-ray for More General Face Forgery Detection",
        year=2020,
        url="https://arxiv.org/abs/1912.13458",
        looks_at="The border along which a foreign face was blended into the picture; knows no forgery method.",
        licence="no published weights with a licence are known",
    )
    native_map = True
    config: FaceXrayConfig

    def __init__(self, config: FaceXrayConfig) -> None:
        super().__init__()
        self.config = config
        if config.arch == "hrnet_w18":
            import timm  # heavy; only where a network is made

            self.input = FaceInput(config.size, config.margin)
            self.backbone = timm.create_model(
                "hrnet_w18", features_only=True, feature_location="", out_indices=(1, 2, 3, 4)
            )
            channels = sum(HRNET_WIDTHS)
        else:
            self.input = FaceInput(config.size, config.margin, mean=backbone.MEAN, std=backbone.STD)
            self.backbone = LightDecoder(config.width)
            channels = config.width
        self.xray = nn.Conv2d(channels, 1, 1)
        self.classifier = nn.Linear(1, 2)
        with torch.no_grad():
            # The published start is random, and half of all starts would teach the map to be dark on fakes.
            self.classifier.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.classifier.bias.zero_()
        if config.frozen != "none":
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> FaceXray:
        super().train(mode)
        if self.config.frozen == "all":
            self.backbone.eval()
        return self

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB, in 0..1 for hrnet_w18, in -1..1 for mobilenetv1."""
        maps = self.backbone(batch)
        largest = maps[0].shape[-2:]
        joined = torch.cat([maps[0], *(_enlarge(m, largest) for m in maps[1:])], 1)
        xray = _enlarge(self.xray(joined), batch.shape[-2:]).squeeze(1)
        heatmap = xray.sigmoid()
        real, fake = self.classifier(heatmap.mean((1, 2))[:, None]).unbind(1)
        return DetectorOutput(fake - real, heatmap=heatmap, aux={"xray": xray})

    def targets(self, mask: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """`xray` (size, size): 4 M (1 - M) in 256 levels, as the published targets are stored."""
        return {"xray": face_xray(mask, quantised=True)}

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """lambda times the map's binary cross entropy (where targets are known) plus the two-class cross entropy.

        On the map's logits and in float32: sigmoid and logarithm apart overflow in half precision.
        """
        total = functional.binary_cross_entropy_with_logits(output.logit.float(), truth.label.float())
        if "xray" in truth.maps:
            borders = functional.binary_cross_entropy_with_logits(output.aux["xray"].float(), truth.maps["xray"])
            total = total + self.config.xray_weight * borders
        return total

    @staticmethod
    def track_logit(logits: NDArray[np.float32]) -> float:
        """Log-odds of the mean frame probability."""
        values = np.asarray(logits, np.float64)
        return float(np.logaddexp.reduce(-np.logaddexp(0, -values)) - np.logaddexp.reduce(-np.logaddexp(0, values)))

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[FaceXrayConfig, dict[str, Tensor]]:
        """A checkpoint of the HRNet-W18 repository (wkq-wukaiqi/Face-X-Ray); its unused classification head is dropped.

        Raises CheckpointError for any other network, DeepfakeBench's HRNet-W48 for one.
        """
        path = one_file(paths, "face_xray")
        renamed = {"HRNet_layer.": "backbone.", "one_channel_conv.": "xray.", "cls_layer.2.": "classifier."}
        state: dict[str, Tensor] = {}
        for key, value in read_torch(path).items():
            if key.startswith(UNUSED_HEAD):
                set_aside(key)
                continue
            for old, new in renamed.items():
                if key.startswith(old):
                    key = new + key.removeprefix(old)
                    break
            state[key] = value
        config = FaceXrayConfig()
        match_state(state, cls(config).state_dict(), path.name)
        return config, state
