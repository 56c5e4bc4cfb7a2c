"""The semi-hard triplet loss over a batch (arXiv 2003.08645; section 9 of its specification)."""

from __future__ import annotations

import torch
from torch import Tensor


def semi_hard_triplet_loss(embedding: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Mean over all ordered pairs (a, p) of one class of max(0, margin + D(a, p) - D(a, n)), D squared Euclidean.

    n is the nearest negative of a that is farther than p; where none is, the farthest negative. `embedding` (B, D),
    `labels` (B,), any values that compare equal within a class. 0 with zero gradient where the batch has one class
    only, or no two samples of any: the reference then pulls everything together, or divides 0 by 0.
    """
    embedding = embedding.float() if embedding.dtype in (torch.float16, torch.bfloat16) else embedding
    distance = (embedding[:, None] - embedding[None]).square().sum(-1)
    same = labels[:, None] == labels[None]
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device) & ~same.all()
    ordered = distance.masked_fill(same, torch.inf).sort(1).values
    beyond = torch.searchsorted(ordered.detach(), distance.detach(), right=True).clamp_max(len(labels) - 1)
    nearest = ordered.gather(1, beyond)
    farthest = distance.masked_fill(same, -torch.inf).amax(1, keepdim=True)
    negative = torch.where(torch.isfinite(nearest), nearest, farthest)
    negative = torch.where(pairs, negative, 0.0)
    terms = torch.where(pairs, (margin + distance - negative).relu(), 0.0)
    return terms.sum() / pairs.sum().clamp_min(1)
