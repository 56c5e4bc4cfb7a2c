"""GenD: a foundation encoder of which only layer norms learn (Yermakov et al., WACV 2026, arXiv 2508.06248)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from detectors import backbone
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import match_state, one_file
from detectors.methods.gend import published
from detectors.methods.gend.encoders import ENCODERS, MappedNorm, MeanOfMobileNet
from detectors.methods.gend.losses import alignment, uniformity
from detectors.registry import register
from preprocessing.inputs import FaceInput


class GendConfig(DetectorConfig):
    """Which encoder, the crop that it sees, what of it learns, and the loss."""

    arch: Literal["clip_l14", "clip_b16", "clip_b32", "pe_l14", "dinov3_l16", "mobilenetv1"] = "clip_l14"
    size: int = Field(default=224, ge=64, multiple_of=32, description="pixels; the published encoders see 224")
    margin: float = Field(
        default=1.6, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )
    learns: Literal["norms", "all"] = Field(default="norms", description="of the encoder; the head always does")
    normalised: bool = Field(
        default=True, description='the head sees features of length 1 ("LinearNorm" in the published configs)'
    )
    patches: Literal["unused", "concatenated", "averaged"] = Field(
        default="unused", description="dinov3_l16 only: the mean of the patch tokens, with the class token or beside it"
    )
    uniformity: float = Field(default=0.5, ge=0)
    alignment: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _has_patches(self) -> GendConfig:
        if self.patches != "unused" and self.arch != "dinov3_l16":
            raise ValueError(f"patches: only dinov3_l16 offers its patch tokens, {self.arch} does not")
        return self


@register("gend", paper=GendConfig(), compact=GendConfig(arch="mobilenetv1", size=160, learns="all", normalised=False))
class GenD(Detector):
    """A linear layer on an image encoder, whose features a metric loss spreads over the sphere. See docs/detectors.

    `embedding` (B, D) has length 1; `aux["classes"]` (B, 2) are the outputs for real and fake. Parameters: clip_l14
    303,181,826, of which 104,450 learn; mobilenetv1 1,614,146.
    """

    meta = Meta(
        title="GenD",
        paper="Deepfake Detection that Generalizes Across Benchmarks",
        year=2026,
        url="https://arxiv.org/abs/2508.06248",
        looks_at="The whole face, as a general image encoder describes it; no single trace is named.",
        licence="published weights: MIT",
    )
    config: GendConfig

    def __init__(self, config: GendConfig) -> None:
        super().__init__()
        self.config = config
        if config.arch == "mobilenetv1":
            self.input = FaceInput(config.size, config.margin, mean=backbone.MEAN, std=backbone.STD)
            self.encoder: Any = MeanOfMobileNet()
            width = backbone.WIDTHS[3]
        else:
            import timm  # heavy; only where a network is made

            known = ENCODERS[config.arch]
            width = known.width
            self.input = FaceInput(config.size, config.margin, mean=known.mean, std=known.std)
            # Positions are stored for the network's own size; another one is for timm to resample.
            sized = {} if "dynamic_img_size" in known.options else {"img_size": config.size}
            self.encoder = timm.create_model(known.timm_name, **known.options, **sized)
            # In the last block patches still reach the class token; after it they have no part in the answer.
            self.encoder.blocks[-1].norm1 = MappedNorm(self.encoder.blocks[-1].norm1, self.encoder.num_prefix_tokens)
        self.head = nn.Linear(2 * width if config.patches == "concatenated" else width, 2)
        if config.learns == "norms":
            norms = [m for m in self.encoder.modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d)]
            self.encoder.requires_grad_(False)
            for norm in norms:
                norm.requires_grad_(True)

    def features(self, batch: Tensor) -> Tensor:
        """(B, 3, size, size) to what describes each picture (B, D)."""
        features: Tensor
        if self.config.patches == "unused":
            features = self.encoder(batch)
            return features
        tokens = self.encoder.forward_features(batch)
        token, mean = tokens[:, 0], tokens[:, self.encoder.num_prefix_tokens :].mean(1)
        return torch.cat([token, mean], 1) if self.config.patches == "concatenated" else (token + mean) / 2

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB with the encoder's own mean and deviation."""
        features = self.features(batch)
        embedding = functional.normalize(features, dim=1)
        classes = self.head(embedding if self.config.normalised else features)
        return DetectorOutput(classes[:, 1] - classes[:, 0], embedding=embedding, aux={"classes": classes})

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """Cross entropy of the two classes, 0.5 times the uniformity and 0.1 times the alignment of the embeddings."""
        assert output.embedding is not None
        entropy = functional.binary_cross_entropy_with_logits(output.logit.float(), truth.label.float())
        spread = self.config.uniformity * uniformity(output.embedding)
        return entropy + spread + self.config.alignment * alignment(output.embedding, truth.label)

    @staticmethod
    def track_logit(logits: NDArray[np.float32]) -> float:
        """Log-odds of the mean frame probability."""
        values = np.asarray(logits, np.float64)
        return float(np.logaddexp.reduce(-np.logaddexp(0, -values)) - np.logaddexp.reduce(-np.logaddexp(0, values)))

    def cam_layer(self) -> nn.Module:
        """The last map of patches that the answer depends on; of MobileNet its last map."""
        layer: nn.Module = (
            self.encoder.net.net.blocks[-1] if self.config.arch == "mobilenetv1" else self.encoder.blocks[-1].norm1.map
        )
        return layer

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[GendConfig, dict[str, Tensor]]:
        """A published GenD (model.safetensors with its config.json beside it), on CLIP, the Perception Encoder L/14 or
        DINOv3 L/16.

        config.json says whether the head sees normalised features, which the weights do not show. Raises
        CheckpointError for any other file.
        """
        path = one_file(paths, "gend")
        state = published.read(path)
        config = GendConfig.model_validate(
            {"arch": published.arch(state, path.name), "normalised": published.normalised(path)}
        )
        with torch.device("meta"):  # names and shapes only
            expected = cls(config).state_dict()
        found = published.converted(state)
        match_state(found, expected, path.name)
        return config, found
