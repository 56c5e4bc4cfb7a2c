"""Triplet network on face embeddings: "Detecting Deepfakes with Metric Learning" (arXiv 2003.08645)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbone import MEAN, STD
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import KERAS_SUFFIXES, CheckpointError, match_state, read_torch
from detectors.methods.triplet.loss import semi_hard_triplet_loss
from detectors.methods.triplet.networks import (
    FaceBackbone,
    FaceNet,
    MobileFace,
    TripletNetwork,
    read_facenet,
    read_triplet_network,
)
from detectors.registry import register
from preprocessing.inputs import FaceInput

CLASSIFIER = {"classifier.weight", "classifier.bias"}


class TripletConfig(DetectorConfig):
    """The network that turns a face into a vector, the layers above it, and the crop."""

    backbone: FaceBackbone = "inception_resnet_v1"
    frozen: bool = Field(default=True, description="the backbone is not trained, as in the paper")
    scale: Literal["keras_facenet", "facenet_pytorch"] = Field(
        default="keras_facenet", description="pixels reach FaceNet as (x - 127.5) / 127.5, or / 128"
    )
    size: int = Field(default=160, ge=96, multiple_of=16, description="pixels; published 160")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    widths: tuple[int, ...] = Field(default=(256, 256, 128, 64), min_length=1, description="of the dense layers")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in training, after each dense layer but the last")
    triplet_margin: float = Field(default=1.0, gt=0, description="in squared distance")


@register(
    "triplet",
    paper=TripletConfig(),
    compact=TripletConfig(backbone="mobilenetv1", frozen=False, widths=(128, 64)),
)
class Triplet(Detector):
    """Face, embedding, triplet network, linear classifier.

    `embedding` (B, widths[-1]) is the triplet network's, `aux["face"]` (B, 512) the backbone's. The classifier learns
    beside the network but never through it, as the paper fits it afterwards (SGD with logistic loss).
    """

    meta = Meta(
        title="Triplet network",
        paper="Detecting Deepfakes with Metric Learning",
        year=2020,
        url="https://arxiv.org/abs/2003.08645",
        looks_at="A single face as a vector, in a space where fakes were pulled together and pushed away from real.",
        licence="published triplet network: MIT; FaceNet's weights and a classifier are the user's own",
    )
    config: TripletConfig

    def __init__(self, config: TripletConfig) -> None:
        super().__init__()
        self.config = config
        mobile = config.backbone == "mobilenetv1"
        std = STD if mobile or config.scale == "keras_facenet" else (128 / 255,) * 3
        self.input = FaceInput(config.size, config.margin, mean=MEAN, std=std)
        self.backbone: FaceNet | MobileFace = MobileFace() if mobile else FaceNet()
        self.backbone.requires_grad_(not config.frozen)
        self.network = TripletNetwork(self.backbone.width, config.widths, config.dropout)
        self.classifier = nn.Linear(config.widths[-1], 1)

    def train(self, mode: bool = True) -> Self:
        """A frozen backbone stays in evaluation mode: its statistics and dropout are not part of the training."""
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB, about -1..1."""
        face = self.backbone(batch)
        embedding = self.network(face)
        logit = self.classifier(embedding.detach() if self.training else embedding).squeeze(1)
        return DetectorOutput(logit, embedding=embedding, aux={"face": face})

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """The triplet loss for the embedding and the logistic loss for the classifier, which share no parameter."""
        assert output.embedding is not None
        triplet = semi_hard_triplet_loss(output.embedding, truth.label > 0.5, self.config.triplet_margin)
        target = truth.label.to(output.logit.dtype)
        return triplet + functional.binary_cross_entropy_with_logits(output.logit, target)

    def cam_layer(self) -> nn.Module:
        """The backbone's last map."""
        return self.backbone.last_activation

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[TripletConfig, dict[str, Tensor]]:
        """Three files: facenet-pytorch's weights, the published triplet model (.hdf5), and a classifier.

        The last is a PyTorch file with `classifier.weight` (1, 64) and `classifier.bias` (1,), fitted by the user on
        the network's embeddings with fake as 1: nobody published one in a form that can be read safely, and without
        one there is no score.
        """
        state: dict[str, Tensor] = {}
        config = TripletConfig()
        found: list[str] = []
        for path in paths:
            if path.suffix.lower() in KERAS_SUFFIXES:
                network = read_triplet_network(path)
                kernels = [value for value in network.values() if value.ndim == 2]
                config = TripletConfig(widths=tuple(len(kernel) for kernel in kernels))
                state |= {f"network.{key}": value for key, value in network.items()}
                found.append("triplet network")
                continue
            given = read_torch(path)
            if set(given) == CLASSIFIER:
                state |= given
                found.append("classifier")
            else:
                state |= {f"backbone.{key}": value for key, value in read_facenet(given, path.name).items()}
                found.append("FaceNet")
        wanted = {"FaceNet", "triplet network", "classifier"}
        if len(found) != 3 or set(found) != wanted:
            raise CheckpointError(
                f"triplet needs FaceNet's weights (.pt), the triplet network (.hdf5) and a classifier (.pt with "
                f"classifier.weight and classifier.bias, fitted on its embeddings); given: {', '.join(found) or 'none'}"
            )
        with torch.device("meta"):
            expected = cls(config).state_dict()
        match_state(state, expected, "triplet")
        return config, state
