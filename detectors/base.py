"""The contract of a detector: it declares its input, normalises it, answers with one dataclass, and owns its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from preprocessing.inputs import ClipInput, FaceInput, InputSpec
from preprocessing.settings import Strict

Profile = Literal["paper", "compact"]


@dataclass(frozen=True)
class Meta:
    """Where a method comes from and what it looks at; shown wherever its score is shown."""

    title: str
    paper: str
    year: int
    url: str
    looks_at: str
    """One plain sentence: what the method takes as evidence."""
    licence: str
    """Under which terms the published weights come, or that there are none, in a few words."""


class DetectorConfig(Strict):
    """Base of each detector's own small config."""


@dataclass
class DetectorOutput:
    """What a forward pass gives. Leading dimension B everywhere; absent where the method has none.

    `logit` (B,): > 0 means fake, before calibration. `heatmap` (B, H, W) in 0..1, in crop coordinates.
    `embedding` (B, D). `frame_logit` (B, T). `aux`: the method's own maps, for its loss and its tests.
    """

    logit: Tensor
    heatmap: Tensor | None = None
    embedding: Tensor | None = None
    frame_logit: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Truth:
    """What a batch of training samples is. Leading dimension B everywhere.

    `label` (B,): 0 real, 1 fake, or the method's own soft label. `frame_label` (B, T): the same for each frame of a
    clip, where frames differ. `source` (B,) integers: a real sample and the fakes made from it share one.
    `maps`: what `Detector.targets` gave for each sample, stacked; empty where no blending mask is known.
    """

    label: Tensor
    frame_label: Tensor | None = None
    source: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Truth:
        """The same on another device."""
        return Truth(
            self.label.to(device),
            None if self.frame_label is None else self.frame_label.to(device),
            None if self.source is None else self.source.to(device),
            {name: value.to(device) for name, value in self.maps.items()},
        )


class Detector(nn.Module):
    """A published method as a torch module, pre- and post-processing inside, so that no two programs can disagree."""

    name: ClassVar[str]
    meta: ClassVar[Meta]
    native_map: ClassVar[bool] = False
    """The forward pass gives a heatmap; without, Grad-CAM draws one."""
    config: DetectorConfig
    input: InputSpec

    def prepare(self, samples: NDArray[Any] | Tensor) -> Tensor:
        """Samples of the declared input to the network's batch (B, ...).

        FaceInput: uint8 (B, size, size, 3) RGB -> (B, 3, size, size). ClipInput: uint8 (B, length, size, size, 3) ->
        (B, length, 3, size, size). LandmarkInput: float (B, length, 136), LRNet's normalised space, as it is.
        Samples may be a tensor on any device, where a loader makes them there. The batch has the precision and the
        device of the network's parameters. Another shape is a ValueError.
        """
        weight = next(self.parameters())
        spec = self.input
        face = spec.face if isinstance(spec, ClipInput) else spec
        if not isinstance(face, FaceInput):
            rows = _tensor(samples)
            if rows.ndim != 3 or rows.shape[1:] != (face.length, 136):
                raise ValueError(f"{self.name} takes (B, {face.length}, 136) landmark rows, not {tuple(rows.shape)}")
            return rows.to(weight.device, weight.dtype)
        length = (spec.length,) if isinstance(spec, ClipInput) else ()
        pixels = _tensor(samples)
        expected = (*length, face.size, face.size, 3)
        if pixels.shape[1:] != expected or pixels.dtype != torch.uint8:
            shape = ", ".join(map(str, expected))
            raise ValueError(f"{self.name} takes uint8 RGB (B, {shape}), not {pixels.dtype} {tuple(pixels.shape)}")
        batch = pixels.to(weight.device).movedim(-1, -3).contiguous().to(weight.dtype) / 255
        mean, std = (
            torch.tensor(v, dtype=weight.dtype, device=weight.device)[:, None, None] for v in (face.mean, face.std)
        )
        return (batch - mean) / std

    def forward(self, batch: Tensor) -> DetectorOutput:
        raise NotImplementedError

    def targets(self, mask: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The method's own training maps for one sample, made in the data loader; none by default.

        `mask` (size, size), for a clip (length, size, size): the weight of the foreign face in each pixel of the
        input, 0 to 1; 0 everywhere for a real sample.
        """
        return {}

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """Training loss, a scalar."""
        return nn.functional.binary_cross_entropy_with_logits(output.logit, truth.label.to(output.logit.dtype))

    @staticmethod
    def track_logit(logits: NDArray[np.float32]) -> float:
        """One logit for a track from its samples' logits (N,), N >= 1. Default: their mean."""
        return float(np.mean(logits))

    def heatmaps(self, batch: Tensor) -> Tensor | None:
        """(B, H, W) in 0..1, evidence for *fake*; the native map where the method has one, else None."""
        if not self.native_map:
            return None
        with torch.inference_mode():
            return self.forward(batch).heatmap

    def cam_layer(self) -> nn.Module | None:
        """The layer that Grad-CAM looks at, (B, C, h, w); None where the method sees no image."""
        return None

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[DetectorConfig, dict[str, Tensor]]:
        """A published checkpoint's config and state in this module's names; `paths` are the files that were given.

        Written with the readers in detectors.checkpoints, which never run code from a file. Raises CheckpointError.
        """
        from detectors.checkpoints import CheckpointError

        raise CheckpointError(f"no published checkpoint format is known for {cls.name}")


def _tensor(samples: NDArray[Any] | Tensor) -> Tensor:
    return samples if isinstance(samples, Tensor) else torch.as_tensor(np.ascontiguousarray(samples))
