"""The detector's crops of a clip: what all frames of a real clip and its fake go through alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending import Degradation, PostAugmentation
from preprocessing.crops import face_input, face_square
from preprocessing.inputs import FaceInput
from preprocessing.perturb.video import recompress
from preprocessing.types import Points
from train.shared_settings import ChangeSettings


class ClipCrop:
    """What all frames of both clips go through alike; only the noise differs from frame to frame."""

    def __init__(
        self,
        post: PostAugmentation | None,
        worse: Degradation | None,
        spec: FaceInput,
        shift: NDArray[np.float64],
        side: float,
        crf: int | None,
    ) -> None:
        self.post, self.worse, self.spec, self.shift, self.side = post, worse, spec, shift, side
        self.crf = crf

    @classmethod
    def draw(cls, rng: np.random.Generator, spec: FaceInput, chosen: ChangeSettings, landmarks: Points) -> ClipCrop:
        """For a clip whose faces have these `landmarks` (T, 68 or more, 2)."""
        post = PostAugmentation.draw(rng)
        worse = Degradation.draw(rng, chosen.face_sides, chosen.qualities)
        margin = spec.margin * (1 + float(rng.uniform(-chosen.margin_jitter, chosen.margin_jitter)))
        side = float(np.median([face_square(points[:68], 1.0)[2] for points in landmarks]))
        shift = rng.uniform(-chosen.shift_jitter, chosen.shift_jitter, 2) * side
        used = post if chosen.post else None, worse if chosen.degrade else None
        coded, crf = rng.random() < chosen.h264, int(rng.integers(chosen.crfs[0], chosen.crfs[1] + 1))
        return cls(*used, replace(spec, margin=margin), shift, side, crf if coded else None)

    def images(self, frames: list[NDArray[np.uint8]], landmarks: list[Points]) -> list[NDArray[np.uint8]]:
        """The detector's crops (size, size, 3) of the changed frames."""
        changed, factor = [], 1.0
        for number, image in enumerate(frames):
            if self.post is not None:
                image = self.post(image)
            if self.worse is not None:
                noisy = replace(self.worse, noise_seed=(self.worse.noise_seed + number) % 2**32)
                image, factor = noisy(image, self.side)
            changed.append(image)
        if self.crf is not None:
            changed = list(recompress(_of_one_size(changed), self.crf))
        # Pixel centres are at whole coordinates on both sides of the resize.
        moved = [(points[:68] + self.shift + 0.5) * factor - 0.5 for points in landmarks]
        return [face_input(image, (0, 0), there, self.spec) for image, there in zip(changed, moved, strict=True)]

    def mask(self, mask: NDArray[np.float32], points: Points, seen: bool) -> NDArray[np.float32]:
        """A frame's mask (H, W) in the same crop, (size, size); of a frame that is not manipulated (`seen`), zeros."""
        if not seen:
            return np.zeros((self.spec.size, self.spec.size), np.float32)
        weights: Any = mask
        cut: Any = face_input(weights, (0, 0), points[:68] + self.shift, self.spec)
        return np.clip(np.asarray(cut, np.float32), 0, 1)


def _of_one_size(frames: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """The stored crops of a clip differ by some pixels; grown to the right and below, so that landmarks hold."""
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    return [
        np.asarray(cv2.copyMakeBorder(f, 0, height - f.shape[0], 0, width - f.shape[1], cv2.BORDER_REPLICATE), np.uint8)
        for f in frames
    ]
