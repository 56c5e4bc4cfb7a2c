"""LAA-Net's losses on its maps (paper, section 3.4; constants of the published code), in float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

SMOOTHED = 0.65 + 0.35 * 0.2
"""Weight of a positive pixel: label smoothing of 0.35, of which a fifth stays."""
CLAMP = 1e-4


def heatmap_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of maps (B, H, W): pixels with target 1 are positive, others count the less the nearer to 1 they are.

    Divided by the number of positives in the batch; by nothing where there is none.
    """
    p = logits.float().sigmoid().clamp(CLAMP, 1 - CLAMP)
    target = target.float()
    positive = (target == 1).float()
    found = SMOOTHED * (1 - p) ** 2 * p.log() * positive
    silent = (1 - target) ** 4 * p**2 * (1 - p).log() * (1 - positive)
    return -(found + silent).sum() / positive.sum().clamp(min=1)


def consistency(features: Tensor, anchor: Tensor) -> Tensor:
    """Logits (B, H, W) of each pixel's likeness to the anchor pixel.

    `features` (B, D, H, W), not normalised; `anchor` (B,) is the pixel's row-major index.
    """
    flat = features.float().flatten(2)
    chosen = flat.gather(2, anchor[:, None, None].expand(-1, flat.shape[1], 1))
    return ((chosen * flat).sum(1) / flat.shape[1] ** 0.5).unflatten(1, features.shape[-2:])


def consistency_loss(features: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of the likeness to the first pixel of the highest target (B, H, W); mean over all pixels."""
    likeness = consistency(features, target.flatten(1).argmax(1))
    return functional.binary_cross_entropy_with_logits(likeness, target.float())
