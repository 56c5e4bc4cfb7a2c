"""Which landmarks, and which moments, move the score of a detector that sees landmarks alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.base import Detector
from detectors.explain import private_copy

STEPS = 32
"""Points on the way from the still face to the clip."""
CLIPS_AT_ONCE = 8
"""Clips whose ways are walked in one pass, STEPS sequences each."""
SPREAD = 0.025
"""Standard deviation of a drawn landmark, of the picture's side."""


@dataclass(frozen=True)
class LandmarkEvidence:
    """Of N clips, float32, in logits: what each frame, `moments` (N, T), and each landmark, `landmarks` (N, 68), adds
    to the clip's; below 0 speaks for real."""

    moments: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def evidence(detector: Detector, rows: NDArray[Any]) -> LandmarkEvidence:
    """Of clips (N, T, 136), N >= 1."""
    weights = attribution(detector, detector.prepare(rows)).cpu().numpy()
    return LandmarkEvidence(weights.sum(2), weights.sum(1))


def attribution(detector: Detector, batch: Tensor, steps: int = STEPS) -> Tensor:
    """Integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365) of the logit, (B, T, 68).

    `batch` (B, T, 136). The way starts at the clip's own mean face, held still, so it is the movement that is
    accounted for: the sum over a clip is its logit less that of the still face, up to the error of `steps` points. What
    the detector makes of the still face itself has no place in it.
    """
    along = ((torch.arange(steps, device=batch.device) + 0.5) / steps)[:, None, None, None]
    found = []
    with private_copy(detector) as ours:
        for clips in batch.detach().split(CLIPS_AT_ONCE):
            still = clips.mean(1, keepdim=True)
            way = (still + along * (clips - still)).flatten(0, 1).requires_grad_()
            with torch.enable_grad():
                slope = torch.autograd.grad(ours(way).logit.sum(), way)[0].unflatten(0, (steps, -1)).mean(0)
            found.append(((clips - still) * slope).unflatten(2, (68, 2)).sum(3).float())
    return torch.cat(found)


def own_square(rows: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Where landmarks (..., 136) lie, (..., 68, 2), in a picture of LRNet's own square, `size` pixels a side."""
    # The square has the corners (-1, -1) and (1, 1).
    return (np.asarray(rows, np.float64).reshape(*rows.shape[:-1], 68, 2) + 1) * (size / 2) - 0.5


def draw(points: NDArray[np.floating], landmarks: NDArray[np.floating], score: float, size: int) -> NDArray[np.float32]:
    """Landmarks (68, 2) in pixels as soft dots on black, (size, size) in 0..1, by what they add to the logit, (68,).

    The brightest is as bright as the clip's calibrated `score`; one that speaks for real is dark. Where dots overlap
    the brighter one shows.
    """
    speak = landmarks > 0
    picture = np.zeros((size, size), np.float32)
    if not speak.any():
        return picture
    place = np.arange(size)
    spread = 2 * (SPREAD * size) ** 2
    seen = points[speak]
    across, down = (np.exp(-((place - seen[:, axis, None]) ** 2) / spread).astype(np.float32) for axis in (0, 1))
    bright = (landmarks[speak] / landmarks.max() * score).astype(np.float32)
    for row, column, weight in zip(down, across, bright, strict=True):
        np.maximum(picture, (weight * row)[:, None] * column, out=picture)
    return picture
