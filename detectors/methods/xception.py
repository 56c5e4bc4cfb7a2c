"""Xception as the baseline of FaceForensics++ (Roessler et al., ICCV 2019, arXiv 1901.08971)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from detectors import backbone
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.checkpoints import CheckpointError, match_state, one_file, read_torch
from detectors.registry import register
from preprocessing.inputs import FaceInput

BOX_SCALE = 1.3
"""Side of the published crop over the longer side of dlib's box."""
XCEPTION_WIDTH = 2048


class XceptionConfig(DetectorConfig):
    """Which network, and the crop that it sees."""

    arch: Literal["xception", "mobilenetv1"] = "xception"
    size: int = Field(default=299, ge=64, description="pixels; the published network takes 299")
    margin: float = Field(
        default=BOX_SCALE, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="in training, before the last layer")


def published_square(face: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int]:
    """The square (x1, y1, side) that the published code cuts around a detector's box, in pixels of the frame.

    `face`: left, top, right, bottom; `width`, `height`: of the frame. Where the square leaves the frame it is moved at
    the left and top and shrunk at the right and bottom, so the face is then off its centre.
    """
    left, top, right, bottom = face
    side = int(BOX_SCALE * max(right - left, bottom - top))
    x1 = max((left + right) // 2 - side // 2, 0)
    y1 = max((top + bottom) // 2 - side // 2, 0)
    return x1, y1, min(width - x1, height - y1, side)


@register("xception", paper=XceptionConfig(), compact=XceptionConfig(arch="mobilenetv1", size=160, dropout=0.2))
class Xception(Detector):
    """A whole-face classifier: separable convolutions, average pool, two classes of which the second is fake.

    `embedding` (B, 2048), compact (B, 512), is what the last layer sees. Parameters: xception 20,811,050; mobilenetv1
    1,614,146.
    """

    meta = Meta(
        title="Xception",
        paper="FaceForensics++: Learning to Detect Manipulated Facial Images",
        year=2019,
        url="https://arxiv.org/abs/1901.08971",
        looks_at="The whole face in a single frame: whatever a plain image classifier learns to tell fakes by.",
        licence="published weights: no licence known; the code is MIT",
    )
    config: XceptionConfig

    def __init__(self, config: XceptionConfig) -> None:
        super().__init__()
        self.config = config
        # Both networks take RGB in -1..1.
        self.input = FaceInput(config.size, config.margin, mean=backbone.MEAN, std=backbone.STD)
        if config.arch == "xception":
            import timm  # heavy; only where a network is made

            self.backbone = timm.create_model("legacy_xception", num_classes=0)
            width = XCEPTION_WIDTH
        else:
            self.backbone = backbone.MobileNetV1()
            width = self.backbone.widths[-1]
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, 2)

    def features(self, batch: Tensor) -> Tensor:
        """The last feature map, (B, 2048, 10, 10) for 299 px."""
        if self.config.arch == "xception":
            maps: Tensor = self.backbone.forward_features(batch)
            return maps
        deepest: Tensor = self.backbone(batch)[-1]
        return deepest

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB in -1..1."""
        embedding = self.features(batch).mean((2, 3))
        real, fake = self.output(self.dropout(embedding)).unbind(1)
        return DetectorOutput(fake - real, embedding=embedding)

    def cam_layer(self) -> nn.Module:
        """The last feature map."""
        layer = self.backbone.act4 if self.config.arch == "xception" else self.backbone.net.blocks[-1]
        assert isinstance(layer, nn.Module)
        return layer

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[XceptionConfig, dict[str, Tensor]]:
        """A state dict of the FaceForensics++ network, in any of its spellings.

        With and without the prefixes `module.` and `model.`; the last layer as `last_linear`, `last_linear.1` (behind a
        dropout) or `fc`; pointwise kernels with two axes (the ImageNet port). Raises CheckpointError, for the whole
        pickled networks that the authors distribute as well: those can run code.
        """
        path = one_file(paths, "xception")
        config = XceptionConfig()
        expected = cls(config).state_dict()
        # Files older than PyTorch 0.4.1 have no such counters, and evaluation does not use them.
        state = {k: torch.zeros_like(v) for k, v in expected.items() if k.endswith("num_batches_tracked")}
        for key, value in read_torch(path).items():
            if key.endswith("pointwise.weight") and value.ndim == 2:
                value = value[:, :, None, None]
            state[_own_name(key)] = value
        if "output.weight" in state and len(state["output.weight"]) != 2:
            raise CheckpointError(
                f"{path.name} tells {len(state['output.weight'])} classes apart, not real from fake: "
                "these are weights to start a training from, not a detector's"
            )
        match_state(state, expected, path.name)
        return config, state


def _own_name(published: str) -> str:
    while published.startswith(("module.", "model.")):
        published = published.partition(".")[2]
    for head in ("last_linear.1.", "last_linear.", "fc."):
        if published.startswith(head):
            return f"output.{published.removeprefix(head)}"
    return f"backbone.{published}"
