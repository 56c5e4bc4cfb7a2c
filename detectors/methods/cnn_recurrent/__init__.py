"""Recurrent networks on frame features: "Detecting Deepfakes with Metric Learning" (arXiv 2003.08645)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbone import MEAN, STD
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.checkpoints import CheckpointError, match_state
from detectors.methods.cnn_recurrent.head import Model, RecurrentHead
from detectors.methods.cnn_recurrent.keras import read_head
from detectors.methods.frame_cnn import FrameCNN, he_uniform
from detectors.methods.frame_cnn.backbones import MOBILE, WIDTHS, Backbone, FrameBackbone, check_size
from detectors.methods.frame_cnn.keras import is_frame_cnn
from detectors.registry import register
from preprocessing.inputs import ClipInput, FaceInput


class CNNRecurrentConfig(DetectorConfig):
    """The network that sees frames, the one that reads their features, and the clip."""

    model: Model = "bidirectional"
    units: int = Field(default=256, ge=1, description="of each direction of the bidirectional layer")
    length: int = Field(default=25, ge=2, description="frames in a clip; published 25")
    stride: int = Field(default=1, ge=1, description="frames from one to the next in a clip")
    backbone: Backbone = "xception"
    keras: bool = Field(default=True, description="the backbone has Keras' epsilon and padding")
    hidden: int = Field(default=512, ge=1, description="units of fc1, the features")
    frozen: bool = Field(default=True, description="frame network is not trained, as in the paper")
    size: int = Field(default=160, ge=64, multiple_of=16, description="pixels; published 160")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )

    @model_validator(mode="after")
    def _large_enough(self) -> CNNRecurrentConfig:
        check_size(self.backbone, self.size)
        return self


@register(
    "cnn_recurrent",
    paper=CNNRecurrentConfig(),
    compact=CNNRecurrentConfig(model="temporal_max", units=64, backbone="mobilenetv1", hidden=128, frozen=False),
)
class CNNRecurrent(Detector):
    """A frame CNN up to fc1, shared by all frames, and a recurrent network over its features.

    Black frames at the end of a clip are padding, and masked: a short clip scores as it would at its own length.
    `embedding` is what the last layer reads; `aux["features"]` (B, length, hidden); `aux["length"]` (B,) valid frames.
    """

    meta = Meta(
        title="CNN and recurrent network",
        paper="Detecting Deepfakes with Metric Learning",
        year=2020,
        url="https://arxiv.org/abs/2003.08645",
        looks_at="Twenty-five frames of a face in their order: what a frame classifier sees, and how that changes.",
        licence="none published; the reference's code is MIT",
    )
    config: CNNRecurrentConfig

    def __init__(self, config: CNNRecurrentConfig) -> None:
        super().__init__()
        self.config = config
        mobile = config.backbone in MOBILE
        mean, std = (MEAN, STD) if mobile else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.input = ClipInput(config.length, config.stride, FaceInput(config.size, config.margin, mean=mean, std=std))
        self.black = -mean[0] / std[0]
        self.backbone = FrameBackbone(config.backbone, config.keras)
        self.fc1 = he_uniform(nn.Linear(WIDTHS[config.backbone], config.hidden))
        for module in (self.backbone, self.fc1):
            module.requires_grad_(not config.frozen)
        self.head = RecurrentHead(config.model, config.hidden, config.units)

    def train(self, mode: bool = True) -> Self:
        """A frozen frame network stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    def features(self, batch: Tensor) -> Tensor:
        """(B, T, 3, size, size) to fc1 of each frame after its ReLU (B, T, hidden)."""
        frames = functional.relu(self.fc1(self.backbone(batch.flatten(0, 1)).mean((2, 3))))
        return frames.reshape(batch.shape[0], batch.shape[1], self.config.hidden)

    def valid(self, batch: Tensor) -> Tensor:
        """Frames (B,) up to the last that is not black, at least one."""
        seen = (batch != self.black).flatten(2).any(2)
        number = torch.arange(1, batch.shape[1] + 1, device=batch.device)
        return (seen * number).amax(1).clamp_min(1)

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, length, 3, size, size) RGB, in 0..1 for the published backbones."""
        length, features = self.valid(batch), self.features(batch)
        classes, embedding = self.head(features, length)
        aux = {"classes": classes, "features": features, "length": length}
        return DetectorOutput(classes[:, 0] - classes[:, 1], embedding=embedding, aux=aux)

    def cam_layer(self) -> nn.Module:
        """The frame network, whose last map is each frame's."""
        return self.backbone

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[CNNRecurrentConfig, dict[str, Tensor]]:
        """Two Keras weight files: the frame CNN's, and the lstm, bidirectional or temporal_max network's.

        Files do not tell how many frames a clip has: 25 is assumed. Raises CheckpointError for other files.
        """
        frames = [path for path in paths if is_frame_cnn(path)]
        heads = [path for path in paths if path not in frames]
        if len(frames) != 1 or len(heads) != 1:
            names = ", ".join(path.name for path in paths) or "none"
            raise CheckpointError(
                f"cnn_recurrent needs two Keras files, a frame CNN and a recurrent network; given: {names}"
            )
        frame, state = FrameCNN.import_checkpoint(frames)
        kept = {key: value for key, value in state.items() if not key.startswith("output.")}
        model, units, found = read_head(heads[0], frame.hidden)
        config = CNNRecurrentConfig(model=model, units=units, backbone=frame.backbone, hidden=frame.hidden)
        kept |= {f"head.{key}": value for key, value in found.items()}
        with torch.device("meta"):
            expected = cls(config).state_dict()
        match_state(kept, expected, "cnn_recurrent")
        return config, kept


def pad_clip(frames: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """At most `length` frames (n, size, size, 3), n >= 1, to exactly that many: black ones are added at the end."""
    if not 1 <= len(frames) <= length:
        raise ValueError(f"a clip of {length} frames cannot be made of {len(frames)}")
    return np.concatenate([frames, np.zeros((length - len(frames), *frames.shape[1:]), np.uint8)])


def frame_features(detector: CNNRecurrent, clips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (N, length, hidden) of uint8 clips (N, length, size, size, 3), and their valid frames (N,).

    What the paper keeps on disk to train recurrent networks from; one clip at a time, in evaluation mode.
    """
    was = detector.training
    detector.eval()
    found, lengths = [], []
    with torch.inference_mode():
        for clip in clips:
            batch = detector.prepare(clip[None])
            found.append(detector.features(batch)[0].float().cpu().numpy())
            lengths.append(int(detector.valid(batch)))
    detector.train(was)
    return np.stack(found), np.array(lengths, np.int64)
