"""GenD's metric losses on embeddings of length 1 (paper, section 3; after Wang and Isola, ICML 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_POTENTIAL = 1e-6
"""Under the logarithm of the uniformity."""


def squared_distances(embedding: Tensor) -> Tensor:
    """(B, D) to (B, B), in float32 at least, also inside autocast."""
    with torch.autocast(embedding.device.type, enabled=False):
        z = embedding if embedding.dtype == torch.float64 else embedding.float()
        squares = z.square().sum(1)
        return (squares[:, None] + squares[None] - 2 * z @ z.T).clamp(min=0)


def uniformity(embedding: Tensor) -> Tensor:
    """log of the mean of exp(-2 d^2) over all pairs of (B, D): low where they spread; 0 without a pair."""
    if len(embedding) < 2:
        return embedding.sum() * 0
    pairs = torch.triu_indices(len(embedding), len(embedding), 1, device=embedding.device)
    potentials = (-2 * squared_distances(embedding)).exp()[pairs[0], pairs[1]]
    return potentials.mean().clamp(min=SMALLEST_POTENTIAL).log()


def alignment(embedding: Tensor, label: Tensor) -> Tensor:
    """Mean of d^2 over the pairs of (B, D) with the same label (B,); 0 without such a pair."""
    same = (label[:, None] == label[None]).triu(1)
    return (squared_distances(embedding) * same).sum() / same.sum().clamp(min=1)
