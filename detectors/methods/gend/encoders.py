"""The encoders that GenD tunes, from timm, and the small one of the compact profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from detectors import backbone

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Encoder:
    """A published encoder: timm's network of it, its input range, and its patches' side and width, which tell it."""

    timm_name: str
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    patch: int = 14
    width: int = 1024
    options: Mapping[str, Any] = field(default_factory=dict)


# OpenAI trained CLIP with x * sigmoid(1.702 x) for GELU: timm's names without "quickgelu" are other functions.
ENCODERS: dict[str, Encoder] = {
    "clip_l14": Encoder("vit_large_patch14_clip_quickgelu_224", options={"num_classes": 0}),
    "clip_b16": Encoder("vit_base_patch16_clip_quickgelu_224", patch=16, width=768, options={"num_classes": 0}),
    "clip_b32": Encoder("vit_base_patch32_clip_quickgelu_224", patch=32, width=768, options={"num_classes": 0}),
    # At 224 px the published model, too, resamples the positions of 336 px in each pass.
    "pe_l14": Encoder(
        "vit_pe_core_large_patch14_336",
        backbone.MEAN,
        backbone.STD,
        options={"num_classes": 0, "dynamic_img_size": True},
    ),
    # Queries and values have biases in transformers' DINOv3, keys none: timm's "qkvb". It has no positions to learn.
    "dinov3_l16": Encoder(
        "vit_large_patch16_dinov3_qkvb",
        IMAGENET_MEAN,
        IMAGENET_STD,
        patch=16,
        options={"num_classes": 0, "global_pool": "token", "dynamic_img_size": True},
    ),
}


class PatchMap(nn.Module):
    """Patch tokens (B, h * w, C) as a picture (B, C, h, w), for Grad-CAM."""

    def forward(self, patches: Tensor) -> Tensor:
        side = round(patches.shape[1] ** 0.5)
        return patches.transpose(1, 2).unflatten(2, (side, side))


class MappedNorm(nn.LayerNorm):
    """A layer norm whose patch tokens pass through a picture on their way; `before` tokens, the class first, do not."""

    def __init__(self, like: nn.LayerNorm, before: int) -> None:
        super().__init__(like.normalized_shape, like.eps)
        self.weight, self.bias, self.before = like.weight, like.bias, before
        self.map = PatchMap()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = super().forward(tokens)
        patches = self.map(tokens[:, self.before :]).flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, : self.before], patches], 1)


class MeanOfMobileNet(nn.Module):
    """(B, 3, H, W) in -1..1 to the mean of MobileNet v1's map at stride 16, (B, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = backbone.MobileNetV1(last=3)

    def forward(self, batch: Tensor) -> Tensor:
        return self.net(batch)[-1].mean((2, 3))
