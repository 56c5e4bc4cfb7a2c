"""The dual-level network: a score for every frame and one for the clip (Pu et al., Pattern Recognition 130, 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import CheckpointError, match_state, one_file, read_torch
from detectors.methods.dual_level.dct import Subset
from detectors.methods.dual_level.encoders import (
    DCTEncoder,
    Encoder,
    MobileNetEncoder,
    ResNetEncoder,
    ResViTEncoder,
    ViTEncoder,
)
from detectors.methods.dual_level.losses import branch_loss
from detectors.methods.dual_level.recurrent import ConvRecurrent, resnet3d_10
from detectors.registry import register
from preprocessing.inputs import ClipInput, FaceInput

BINS = 16
"""The video head reads this many time slots times as many groups of hidden units."""
PADDED = -1.0
"""The frame label of a frame that only repeats the last one of a short track."""

EncoderName = Literal["resnet50", "resnet101", "resnet152", "mobilenetv1", "vit", "resvit", "dct"]


class DualLevelConfig(DetectorConfig):
    """The published network by default; `arch` and `encoder` choose its variants."""

    arch: Literal["dual", "crnn", "resnet3d"] = Field(
        default="dual", description="crnn: convolutional recurrence to one score; resnet3d: 3-D ResNet-10"
    )
    encoder: EncoderName = Field(default="resnet50", description="of a frame; resnet3d has none")
    recurrent: Literal["gru", "lstm"] = "gru"
    hidden: int = Field(default=256, ge=BINS, description="units of a recurrent layer; crnn has its own")
    layers: int = Field(default=3, ge=1)
    bidirectional: bool = False
    size: int = Field(default=64, ge=32, multiple_of=16, description="pixels of a crop")
    margin: float = Field(default=1.3, ge=1.0, le=3.0, description="side of the crop over that of the landmark box")
    frames: int = Field(default=300, ge=1, description="crops in a clip")
    stride: int = Field(default=1, ge=1, description="frames from one crop to the next")
    chunk: int = Field(default=20, ge=1, description="time steps that the encoder sees at once; bounds the memory")
    freeze_norm: bool = Field(default=False, description="keep the encoder's batch norm statistics in training")
    frequencies: Subset = Field(default="192", description="of the encoder dct")
    gate: bool = Field(default=False, description="the encoder dct learns which frequencies to let through")
    strided_patches: bool = Field(default=False, description="the encoder vit cuts patches as the reference does")
    loss: Literal["auc", "bce", "focal"] = "auc"
    alpha: float = Field(default=0.5, ge=0, le=1, description="share of cross entropy in a branch; the rest is AUC")
    beta: float = Field(default=0.6, ge=0, le=1, description="share of the video branch; 1: video only, 0: frames only")
    gamma: float = Field(default=0.15, gt=0, le=1, description="margin between a real and a fake score")
    power: float = Field(default=2.0, gt=1)

    @model_validator(mode="after")
    def _fits(self) -> DualLevelConfig:
        if self.arch == "crnn" and self.encoder in ("vit", "resvit"):
            raise ValueError(f"arch crnn needs an encoder with a map; {self.encoder} gives a vector")
        if self.encoder == "dct" and self.size < 64:
            raise ValueError("encoder dct needs crops of 64 pixels or more")
        return self


def _encoder(config: DualLevelConfig) -> Encoder:
    if config.encoder == "mobilenetv1":
        return MobileNetEncoder()
    if config.encoder == "vit":
        return ViTEncoder(config.size, config.strided_patches)
    if config.encoder == "resvit":
        return ResViTEncoder(config.size)
    if config.encoder == "dct":
        return DCTEncoder(config.frequencies, config.gate)
    return ResNetEncoder(int(config.encoder.removeprefix("resnet")))


def pad_clip(crops: NDArray[np.uint8], length: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The first `length` of crops (n, S, S, 3), n >= 1, the last one repeated where there are fewer.

    Returns the clip (length, S, S, 3) and which of its frames are real ones (length,).
    """
    rows = np.minimum(np.arange(length), len(crops) - 1)
    return crops[rows], np.arange(length) < len(crops)


@register(
    "dual_level",
    paper=DualLevelConfig(),
    compact=DualLevelConfig(encoder="mobilenetv1", hidden=48, size=128, margin=1.6, frames=16, stride=2),
)
class DualLevel(Detector):
    """CNN, recurrent layers, and two linear heads: on each time step, and on the states pooled to 16 x 16.

    `logit` is the video head's, `frame_logit` (B, frames) the frame head's. `embedding` (B, 256): the pooled states, of
    which the logit is a linear function. crnn and resnet3d have one head and features of 512 values.
    """

    meta = Meta(
        title="Dual-level network",
        paper="Learning a Deep Dual-level Network for Robust DeepFake Detection",
        year=2022,
        url="https://doi.org/10.1016/j.patcog.2022.108832",
        looks_at="Texture of the face in each frame and how it changes over a clip. Needs a video.",
        licence="published weights: no licence stated, not for commercial use",
    )
    config: DualLevelConfig

    def __init__(self, config: DualLevelConfig) -> None:
        super().__init__()
        self.config = config
        if config.arch == "resnet3d":
            self.network = resnet3d_10()
            mean, std = Encoder.mean, Encoder.std
        else:
            self.encoder = _encoder(config)
            mean, std = self.encoder.mean, self.encoder.std
            if config.arch == "crnn":
                self.recurrent = ConvRecurrent(self.encoder.width, config.recurrent)
            else:
                cells = nn.GRU if config.recurrent == "gru" else nn.LSTM
                self.rnn = cells(
                    self.encoder.width,
                    config.hidden,
                    config.layers,
                    batch_first=True,
                    bidirectional=config.bidirectional,
                )
                self.frame_head = nn.Linear(config.hidden * (2 if config.bidirectional else 1), 1)
                self.video_head = nn.Linear(BINS * BINS, 1)
        self.input = ClipInput(config.frames, config.stride, FaceInput(config.size, config.margin, mean=mean, std=std))

    def train(self, mode: bool = True) -> DualLevel:
        super().train(mode)
        if mode and self.config.freeze_norm and self.config.arch != "resnet3d":
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, T, 3, size, size); T may be any length >= 1."""
        if self.config.arch == "resnet3d":
            pair = self.network(batch.transpose(1, 2))
            return DetectorOutput(pair[:, 1] - pair[:, 0])
        if self.config.arch == "crnn":
            pair, features = self.recurrent(self._each_frame(self.encoder.features, batch))
            return DetectorOutput(pair[:, 1] - pair[:, 0], embedding=features)
        states, _ = self.rnn(self._each_frame(self.encoder, batch))
        pooled = functional.adaptive_avg_pool2d(states[:, None], BINS).flatten(1)
        logit, frame_logit = self.video_head(pooled).squeeze(1), self.frame_head(states).squeeze(2)
        return DetectorOutput(logit, embedding=pooled, frame_logit=frame_logit)

    def _each_frame(self, encode: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """(B, T, ...) to what `encode` makes of each frame, (B, T, ...), `chunk` time steps in one pass.

        In training a chunk's activations are made again for the gradient, else a batch of 300 frames a clip would not
        fit into memory. Batch norm then sees a chunk's frames of all clips together, where the reference, going step by
        step, sees one frame of each; its running statistics move twice a pass. Evaluation does not depend on `chunk`.
        """
        steps = batch.shape[1]
        chunk = steps if torch.compiler.is_exporting() else self.config.chunk
        found = []
        for part in batch.split(chunk, 1):
            frames = part.flatten(0, 1)
            again = self.training and steps > chunk and torch.is_grad_enabled()
            made: Tensor = checkpoint(encode, frames, use_reentrant=False) if again else encode(frames)
            found.append(made.unflatten(0, (-1, part.shape[1])))
        return torch.cat(found, 1)

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """beta * video branch + (1 - beta) * frame branch; frames have the clip's label where `frame_label` is absent.

        A negative frame label (PADDED) marks a frame that does not count. One head has the video branch alone.
        """
        config = self.config
        logit = output.logit
        label = truth.label.to(logit.dtype)

        def branch(logits: Tensor, targets: Tensor) -> Tensor:
            return branch_loss(logits, targets, config.loss, config.alpha, config.gamma, config.power)

        video = branch(logit, label)
        if output.frame_logit is None:
            return video
        frames = output.frame_logit.to(logit.dtype)
        targets = label[:, None].expand_as(frames) if truth.frame_label is None else truth.frame_label.to(logit.dtype)
        counted = targets >= 0
        return config.beta * video + (1 - config.beta) * branch(frames[counted], targets[counted])

    def cam_layer(self) -> nn.Module:
        """Called with the frames of `chunk` time steps at once, clip by clip; resnet3d's has the time in its map."""
        layer = self.network.layer3 if self.config.arch == "resnet3d" else self.encoder.cam_layer()
        assert isinstance(layer, nn.Module)
        return layer

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[DualLevelConfig, dict[str, Tensor]]:
        """The authors' dual network (ResNet-50; GRU or LSTM, either direction), with or without `module.`.

        Its `label_map` says which class is 1; where that is *real*, the heads are negated. Without one, 1 is fake, as
        in the authors' demo. Checkpoints of the other model types of their code are refused.
        """
        path = one_file(paths, "dual_level")
        found = read_torch(path)
        kernel, first = found.get("rnn.weight_hh_l0"), found.get("cnn.0.weight")
        if kernel is None or first is None or kernel.ndim != 2:
            raise CheckpointError(
                f"{path.name} is not a checkpoint of the dual network (its keys begin with "
                f"{', '.join(sorted({k.split('.')[0] for k in found})[:5])}, not with cnn, rnn, fc_cnn, fc_rnn); "
                "only that of the published model types is imported"
            )
        hidden = kernel.shape[1]
        config = DualLevelConfig(
            recurrent="lstm" if kernel.shape[0] == 4 * hidden else "gru",
            hidden=hidden,
            layers=sum(k.startswith("rnn.weight_hh_l") and not k.endswith("_reverse") for k in found),
            bidirectional="rnn.weight_hh_l0_reverse" in found,
        )
        state = {}
        for key, value in found.items():
            part, _, rest = key.partition(".")
            state[f"{_PARTS.get(part, part)}.{rest}"] = value
        match_state(state, cls(config).state_dict(), path.name)
        if not _one_is_fake(path):
            for head in ("frame_head", "video_head"):
                state |= {f"{head}.{kind}": -state[f"{head}.{kind}"] for kind in ("weight", "bias")}
        return config, state


_PARTS = {"cnn": "encoder.net", "rnn": "rnn", "fc_cnn": "frame_head", "fc_rnn": "video_head"}


def _one_is_fake(path: Path) -> bool:
    """Whether target 1 is fake; the lists' classes are 0 fake and 1 real, numbered anew in the order of the file."""
    whole: Any = torch.load(path, weights_only=True, map_location="cpu")  # readable: read_torch took it
    label_map = whole.get("label_map")
    if label_map is None:
        return True
    names = {"0": "fake", "1": "real", "fake": "fake", "real": "real"}
    try:
        classes = {names[str(k).lower()]: int(v) for k, v in label_map.items()}
        if sorted(classes.values()) != [0, 1]:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{path.name} has the label_map {label_map}, which does not say what 0 (fake) and 1 (real) became"
        ) from None
    return classes["fake"] == 1
