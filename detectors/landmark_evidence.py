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
from detectors.store import LoadedDetector

STEPS = 32
"""Points on the way from the still face to the clip."""
SPREAD = 0.025
"""Standard deviation of a drawn landmark, of the picture's side."""


@dataclass(frozen=True)
class LandmarkEvidence:
    """Of N clips, float32: `maps` (N, size, size) in 0..score, of the frames `frames` (N,) int64; `moments` (N, T) and
    `landmarks` (N, 68) in logits."""

    maps: NDArray[np.float32]
    frames: NDArray[np.int64]
    moments: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def explain_landmarks(
    loaded: LoadedDetector, rows: NDArray[Any], points: NDArray[np.floating] | None, size: int
) -> LandmarkEvidence:
    """See `detectors.explain.explain`. The frame shown is the one that speaks most for fake.

    The brightest landmark is as bright as the clip's calibrated score; one that speaks for real is dark.
    """
    if points is None:
        # LRNet's square has the corners (-1, -1) and (1, 1).
        points = (np.asarray(rows, np.float64).reshape(*rows.shape[:2], 68, 2) + 1) * (size / 2) - 0.5
    if points.shape != (*rows.shape[:2], 68, 2):
        raise ValueError(f"points are {points.shape} and should be {(*rows.shape[:2], 68, 2)}")
    batch = loaded.detector.prepare(rows)
    weights = attribution(loaded.detector, batch).cpu().numpy()
    with torch.inference_mode():
        score = loaded.score(loaded.detector(batch).logit.float().cpu().numpy())
    landmarks, moments = weights.sum(1), weights.sum(2)
    frames = moments.argmax(1)
    bright = np.maximum(landmarks, 0)
    peak = bright.max(1, keepdims=True)
    bright = np.divide(bright, peak, out=np.zeros_like(bright), where=peak > 0) * score[:, None]
    shown = points[np.arange(len(points)), frames]
    maps = np.stack([draw(one, weight, size) for one, weight in zip(shown, bright, strict=True)])
    return LandmarkEvidence(maps, frames, moments, landmarks)


def attribution(detector: Detector, batch: Tensor, steps: int = STEPS) -> Tensor:
    """Integrated gradients (Sundararajan et al., ICML 2017, arXiv 1703.01365) of the logit, (B, T, 68).

    `batch` (B, T, 136). The way starts at the clip's own mean face, held still, so it is the movement that is
    accounted for: the sum over a clip is its logit less that of the still face, up to the error of `steps` points. What
    the detector makes of the still face itself has no place in it.
    """
    ours = private_copy(detector)
    batch = batch.detach().clone()
    still = batch.mean(1, keepdim=True).expand_as(batch)
    slope = torch.zeros_like(batch)
    for step in range(steps):
        at = (still + (step + 0.5) / steps * (batch - still)).requires_grad_()
        with torch.enable_grad():
            slope += torch.autograd.grad(ours(at).logit.sum(), at)[0] / steps
    return ((batch - still) * slope).unflatten(2, (68, 2)).sum(3).float()


def draw(points: NDArray[np.floating], weights: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Landmarks (68, 2) in pixels as soft dots of brightness `weights` (68,) on black, (size, size).

    Where dots overlap the brighter one shows.
    """
    place = np.arange(size)
    spread = 2 * (SPREAD * size) ** 2
    across, down = (np.exp(-((place - points[:, axis, None]) ** 2) / spread) for axis in (0, 1))
    dots = down[:, :, None] * across[:, None, :] * weights[:, None, None]
    picture: NDArray[np.float32] = dots.max(0).astype(np.float32)
    return picture
