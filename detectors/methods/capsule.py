"""Capsule-Forensics v2: ten capsules on VGG features and a routing between them (Nguyen et al., arXiv 1910.12467)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detectors import backbone
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import CheckpointError, match_state, read_torch
from detectors.registry import register
from preprocessing.inputs import FaceInput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VGG19_TO_POOL3 = 11
"""Entries of torchvision's layer list up to the third pooling: features 0 to 18."""
FEATURES = 256
"""Channels of both feature networks, at an eighth of the resolution."""
CAPSULES, INPUT_VALUES, OUTPUT_VALUES = 10, 8, 4
SMALLEST_SQUARE = 1e-24
"""Below, a capsule's square length counts as this, so that the root of a zero vector has a gradient."""


class CapsuleConfig(DetectorConfig):
    """Which features, how many classes, and the randomness of training."""

    features: Literal["vgg19", "mobilenetv1"] = "vgg19"
    frozen: bool = Field(default=True, description="the feature network does not learn (published: so)")
    classes: int = Field(default=2, ge=2, description="published: 2, or 4 (real and three manipulations); 0 is real")
    size: int = Field(default=300, ge=64, description="pixels; published 300")
    margin: float = Field(
        default=1.3, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    noise: float = Field(default=0.01, ge=0, description="in training, deviation of what is added to routing weights")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="in training, share of priors set to 0, no rescaling")


def squash(values: Tensor, dim: int) -> Tensor:
    """Vectors along `dim` shortened to below 1: |s|^2 / (1 + |s|^2) * s / |s|."""
    square = (values**2).sum(dim, keepdim=True)
    return values * square.clamp_min(SMALLEST_SQUARE).sqrt() / (1 + square)


class Statistics(nn.Module):
    """Mean and unbiased deviation of each channel over positions: (B, C, H, W) to (B, 2, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        positions = maps.flatten(2)
        return torch.stack([positions.mean(2), positions.std(2)], 1)


def primary_capsule() -> nn.Sequential:
    """(B, 256, H, W) to (B, 1, 8); the positions are those of the published state dict."""
    return nn.Sequential(
        nn.Conv2d(FEATURES, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Statistics(),
        nn.Conv1d(2, 8, 5, stride=2, padding=2),
        nn.BatchNorm1d(8),
        nn.Conv1d(8, 1, 3, padding=1),
        nn.BatchNorm1d(1),
    )


class Routing(nn.Module):
    """Routing by agreement from (B, values, inputs) to (B, output values, classes), two iterations.

    Unlike Sabour et al. the agreement is kept for each value of a vote, not summed over its vector.
    """

    def __init__(self, classes: int, inputs: int, outputs: int, values: int, noise: float, dropout: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(classes, inputs, outputs, values))
        self.noise, self.dropout = noise, dropout

    def forward(self, capsules: Tensor) -> Tensor:
        weights: Tensor = self.weights
        if self.training:
            weights = weights + self.noise * torch.randn_like(weights)
        votes = torch.einsum("oikv,bvi->boik", weights, capsules)
        if self.training:
            votes = votes * (torch.rand_like(votes) >= self.dropout)
        found = squash(votes.mean(2), 2)
        agreement = votes * found[:, :, None]
        found = squash((agreement.softmax(2) * votes).sum(2), 2)
        return found.transpose(1, 2)


@register(
    "capsule",
    paper=CapsuleConfig(),
    compact=CapsuleConfig(features="mobilenetv1", frozen=False, size=128),
)
class Capsule(Detector):
    """Ten small networks summarise the features by their statistics; routing weighs what they agree on.

    `aux["classes"]` (B, 4, classes): the output capsules, whose softmaxes' mean is the score, class 0 being real.
    `embedding` (B, 80): the primary capsules after squashing. Parameters without features: 1,571,070 for two classes;
    vgg19 adds 2,325,568, mobilenetv1 134,208.
    """

    meta = Meta(
        title="Capsule-Forensics v2",
        paper="Use of a Capsule Network to Detect Fake Images and Videos",
        year=2019,
        url="https://arxiv.org/abs/1910.12467",
        looks_at="Statistics of textures over the whole face, as ten capsules see them.",
        licence="published weights: in a BSD-3-Clause repository",
    )
    config: CapsuleConfig

    def __init__(self, config: CapsuleConfig) -> None:
        super().__init__()
        self.config = config
        if config.features == "vgg19":
            from torchvision.models.vgg import cfgs, make_layers  # heavy; only where a network is made

            self.input = FaceInput(config.size, config.margin, mean=IMAGENET_MEAN, std=IMAGENET_STD)
            self.backbone: nn.Module = make_layers(cfgs["E"][:VGG19_TO_POOL3])
        else:
            self.input = FaceInput(config.size, config.margin, mean=backbone.MEAN, std=backbone.STD)
            self.backbone = backbone.MobileNetV1(2)
        self.capsules = nn.ModuleList(primary_capsule() for _ in range(CAPSULES))
        self.routing = Routing(config.classes, CAPSULES, OUTPUT_VALUES, INPUT_VALUES, config.noise, config.dropout)
        _initialise(self.capsules)
        if config.features == "vgg19":
            _initialise(self.backbone)
        if config.frozen:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Capsule:
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB, as `prepare` makes it."""
        features = self.backbone(batch)
        maps = features[-1] if isinstance(features, list) else features
        values = torch.cat([capsule(maps) for capsule in self.capsules], 1).transpose(1, 2)
        # Along the ten capsules, not along the eight values of one: unusual, but what the published weights expect.
        primary = squash(values, 2)
        classes = self.routing(primary)
        fakeness = _fake_logits(classes)
        logit = functional.logsigmoid(fakeness).logsumexp(1) - functional.logsigmoid(-fakeness).logsumexp(1)
        return DetectorOutput(logit, embedding=primary.flatten(1), aux={"classes": classes})

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """Sum over the four components of their cross entropy; with more than two classes, of real against the rest."""
        fakeness = _fake_logits(output.aux["classes"].float())
        label = truth.label.float()[:, None].expand_as(fakeness)
        return OUTPUT_VALUES * functional.binary_cross_entropy_with_logits(fakeness, label)

    def cam_layer(self) -> nn.Module:
        """The features that all capsules look at."""
        network: Any = self.backbone
        layer: nn.Module = network.net.blocks[-1] if self.config.features == "mobilenetv1" else network[-1]
        return layer

    @staticmethod
    def track_logit(logits: NDArray[np.float32]) -> float:
        """Log-odds of the mean frame probability."""
        values = np.asarray(logits, np.float64)
        return float(np.logaddexp.reduce(-np.logaddexp(0, -values)) - np.logaddexp.reduce(-np.logaddexp(0, values)))

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[CapsuleConfig, dict[str, Tensor]]:
        """The authors' capsule_N.pt together with torchvision's ImageNet weights of VGG-19.

        Their files hold the capsules alone. The keys tell which file is which. Raises CheckpointError.
        """
        states = [(path.name, read_torch(path)) for path in paths]
        vgg = [named for named in states if "features.0.weight" in named[1]]
        own = [named for named in states if "features.0.weight" not in named[1]]
        if len(own) != 1 or len(vgg) != 1:
            given = ", ".join(path.name for path in paths) or "none"
            raise CheckpointError(
                "capsule is imported from two files: the authors' capsule_N.pt, which holds the capsules alone, and "
                f"torchvision's VGG-19 ImageNet weights (vgg19-dcbb9e9d.pth), its features; files given: {given}"
            )
        (name, published), (vgg_name, imagenet) = own[0], vgg[0]
        renamed = {"fea_ext.": "", "routing_stats.route_weights": "routing.weights"}
        state = {_renamed(key, renamed): value for key, value in published.items()}
        routing = state.get("routing.weights")
        config = CapsuleConfig(classes=max(len(routing), 2) if routing is not None and routing.ndim else 2)
        expected = cls(config).state_dict()
        match_state(state, {k: v for k, v in expected.items() if not k.startswith("backbone.")}, name)
        features = {k: v for k, v in expected.items() if k.startswith("backbone.")}
        found = {_renamed(k, {"features.": "backbone."}): v for k, v in imagenet.items()}
        found = {k: v for k, v in found.items() if k in features}
        match_state(found, features, vgg_name)
        return config, state | found


def _initialise(network: nn.Module) -> None:
    """Published for the capsules: kernels N(0, 0.02), norms N(1, 0.02). Behind batch norms the scale of a kernel does
    not show in training; but at 0.02 an untrained network cannot tell any two pictures apart."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)


def _fake_logits(classes: Tensor) -> Tensor:
    """Log-odds of *not class 0* in each component: (B, values, classes) to (B, values)."""
    return classes[:, :, 1:].logsumexp(2) - classes[:, :, 0]


def _renamed(key: str, prefixes: dict[str, str]) -> str:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
