"""Frame-by-frame CNN of "Detecting Deepfakes with Metric Learning" (Kumar et al., IWBF 2020, arXiv 2003.08645)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbone import MEAN, STD
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.checkpoints import match_state, one_file
from detectors.methods.frame_cnn.backbones import MOBILE, WIDTHS, Backbone, FrameBackbone, check_size
from detectors.methods.frame_cnn.keras import convert, read_frame_cnn
from detectors.registry import register
from preprocessing.inputs import FaceInput


class FrameCNNConfig(DetectorConfig):
    """Which backbone, the head above it, and the crop that it sees."""

    backbone: Backbone = "xception"
    keras: bool = Field(default=True, description="Keras' epsilon and padding; false: timm's own, for timm's weights")
    size: int = Field(default=160, ge=64, multiple_of=16, description="pixels; published 160")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    hidden: int = Field(default=512, ge=1, description="units of fc1")
    dropout: tuple[float, ...] = Field(default=(0.4, 0.5), description="after fc1, one after another; published both")

    @model_validator(mode="after")
    def _large_enough(self) -> FrameCNNConfig:
        check_size(self.backbone, self.size)
        return self


def he_uniform(layer: nn.Linear) -> nn.Linear:
    """Keras' he_uniform for the kernel, zeros for the bias."""
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


@register(
    "frame_cnn",
    paper=FrameCNNConfig(),
    compact=FrameCNNConfig(backbone="mobilenetv1", hidden=128),
)
class FrameCNN(Detector):
    """Backbone, average pool, fc1 with ReLU, dropout, two classes.

    The reference's class 0 is fake and class 1 real: `logit` is the first output less the second, so that its sigmoid
    is the softmax's P(fake), and the loss the published categorical cross entropy. `embedding` (B, hidden) is fc1 after
    its ReLU, what the recurrent networks read; `aux["classes"]` (B, 2) both outputs.
    """

    meta = Meta(
        title="Frame CNN",
        paper="Detecting Deepfakes with Metric Learning",
        year=2020,
        url="https://arxiv.org/abs/2003.08645",
        looks_at="The whole face in a single frame: whatever a plain image classifier learns to tell fakes by.",
        licence="none published; the reference's code is MIT",
    )
    config: FrameCNNConfig

    def __init__(self, config: FrameCNNConfig) -> None:
        super().__init__()
        self.config = config
        # The reference scales by 1/255 whatever the backbone; MobileNet's ImageNet weights want -1..1.
        mobile = config.backbone in MOBILE
        mean, std = (MEAN, STD) if mobile else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.input = FaceInput(config.size, config.margin, mean=mean, std=std)
        self.backbone = FrameBackbone(config.backbone, config.keras)
        self.fc1 = he_uniform(nn.Linear(WIDTHS[config.backbone], config.hidden))
        self.dropout = nn.Sequential(*(nn.Dropout(rate) for rate in config.dropout))
        self.output = he_uniform(nn.Linear(config.hidden, 2))

    def features(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) to fc1 (B, hidden), after its ReLU and before dropout."""
        return functional.relu(self.fc1(self.backbone(batch).mean((2, 3))))

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB, in 0..1 for the published backbones."""
        features = self.features(batch)
        classes = self.output(self.dropout(features))
        return DetectorOutput(classes[:, 0] - classes[:, 1], embedding=features, aux={"classes": classes})

    def cam_layer(self) -> nn.Module:
        """The last activation of the backbone, as in the reference's figure."""
        return self.backbone.last_activation

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[FrameCNNConfig, dict[str, Tensor]]:
        """A Keras weight file that the reference's trainer wrote, of any of its seven backbones with its head.

        The file tells neither the crop's size nor its margin: the defaults are assumed.
        """
        path = one_file(paths, "frame_cnn")
        backbone, layers = read_frame_cnn(path)
        hidden = max(layer.weights[0].shape[-1] for layer in layers if layer.weights[0].ndim == 2)
        config = FrameCNNConfig(backbone=backbone, hidden=hidden)
        with torch.device("meta"):
            expected = cls(config).state_dict()
        state = convert(backbone, layers, expected)
        match_state(state, expected, path.name)
        return config, state
