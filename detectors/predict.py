"""A loaded detector on samples of its declared input: logits and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.store import LoadedDetector
from preprocessing.inputs import ClipInput, InputSpec

BATCH = 4
"""Pictures at once on a CPU: as fast as eight and more, whose activations no cache holds, and less memory."""
HEATMAP_BATCH = 8
"""Grad-CAM keeps the activations of a whole batch."""


@dataclass(frozen=True)
class Prediction:
    """`logits` (N,) float32, > 0 means fake, before calibration; `embeddings` (N, D) float32 where there are some."""

    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None


def clips_of(pictures: int, spec: InputSpec) -> int:
    """How many samples of an input make a batch of about `pictures` pictures: of clips fewer, of one at least."""
    return max(pictures // spec.length, 1) if isinstance(spec, ClipInput) else pictures


def predict(loaded: LoadedDetector, samples: NDArray[Any], batch_size: int | None = None) -> Prediction:
    """Score N samples of the detector's declared input, in batches; the batch size does not change the answer (1e-5).

    `batch_size` is in samples; BATCH pictures by default, of clips as many as have no more.

    Raises ValueError for samples of another shape, FloatingPointError where a score is not a number.
    """
    logits: list[Tensor] = []
    embeddings: list[Tensor] = []
    batch_size = batch_size or clips_of(BATCH, loaded.detector.input)
    with torch.inference_mode():
        for start in range(0, len(samples), batch_size):
            output = loaded.run(loaded.detector.prepare(samples[start : start + batch_size]))
            logits.append(output.logit.float().cpu())
            if output.embedding is not None:
                embeddings.append(output.embedding.float().cpu())
    joined = torch.cat(logits).numpy() if logits else np.zeros(0, np.float32)
    if not np.isfinite(joined).all():
        raise FloatingPointError(f"{loaded.detector.name} gave a score that is not a number")
    return Prediction(joined, torch.cat(embeddings).numpy() if embeddings else None)
