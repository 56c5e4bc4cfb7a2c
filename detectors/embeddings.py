"""Where a vector of a face comes from, for classical classifiers, maps and neighbours: dlib or FaceNet.

A detector's own vectors come from `detectors.predict.predict`. Classifiers belong to the source they were fitted on:
keep its `name` beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from preprocessing.landmarks import LandmarkPredictor, create_landmark_predictor
from preprocessing.models import ModelFileError, bundled_dlib_model
from preprocessing.types import Image, Points

DLIB_MODEL = "dlib_face_recognition_resnet_model_v1.dat"
CHIP_PIXELS = 150
CHIP_PADDING = 0.25
"""What dlib's network was trained on (dlib, `get_face_chip`)."""
FACENET_PIXELS = 160


class EmbeddingSource(Protocol):
    """Turns face crops into vectors; `name` says which network made them, `dimension` is D."""

    name: str
    dimension: int

    def embed(self, crops: NDArray[np.uint8], margin: float) -> NDArray[np.float32]:
        """Crops (N, S, S, 3) RGB, centred on the landmarks' box with side `margin` times its longer side, to (N, D)."""
        ...


class DlibEmbedding:
    """dlib's ResNet of 128 dimensions, which comes with face_recognition_models: nothing has to be downloaded.

    Trained to tell people apart (faces of one person closer than 0.6), not real from fake. Raises ModelFileError where
    the model file is missing or damaged.
    """

    name = "dlib-resnet-v1"
    dimension = 128

    def __init__(self, landmarks: LandmarkPredictor | None = None) -> None:
        import dlib

        path = bundled_dlib_model(DLIB_MODEL)
        try:
            self._network = dlib.face_recognition_model_v1(str(path))
        except RuntimeError as error:
            raise ModelFileError(f"{path} is not dlib's face recognition model, or it is damaged: {error}") from error
        self._landmarks = landmarks or create_landmark_predictor()

    def faces(self, image: Image, points: Points) -> NDArray[np.float32]:
        """(N, 128) of the faces with landmarks `points` (N, 68, 2) in pixels of `image` (H, W, 3) RGB."""
        found = [self._network.compute_face_descriptor(self._chip(image, face)) for face in points]
        return np.array(found, np.float32).reshape(-1, self.dimension)

    def embed(self, crops: NDArray[np.uint8], margin: float) -> NDArray[np.float32]:
        """Landmarks are found in each crop first, within its central square."""
        pixels = _checked(crops)
        side = pixels.shape[1]
        edge = (side - side / margin) / 2
        box = np.array([[edge, edge, side - edge, side - edge]], np.float32)
        found = [self.faces(crop, self._landmarks.predict(crop, box)[:, :68]) for crop in pixels]
        return np.concatenate(found) if found else np.zeros((0, self.dimension), np.float32)

    def _chip(self, image: Image, points: NDArray[np.floating]) -> Image:
        import dlib

        low, high = points.min(axis=0), points.max(axis=0)
        box = dlib.rectangle(*(round(float(v)) for v in (*low, *high)))
        shape = dlib.full_object_detection(box, [dlib.point(round(float(x)), round(float(y))) for x, y in points])
        chip: Image = dlib.get_face_chip(np.ascontiguousarray(image), shape, CHIP_PIXELS, CHIP_PADDING)
        return chip


class FaceNetEmbedding:
    """FaceNet's 512 dimensions of unit norm from the user's weights, such as 20180402-114759-vggface2.pt.

    `scale`: pixels as (x - 127.5) / 127.5 (keras_facenet) or / 128. Raises CheckpointError for another file.
    """

    dimension = 512

    def __init__(
        self, weights: Path, scale: Literal["keras_facenet", "facenet_pytorch"] = "keras_facenet", batch: int = 16
    ) -> None:
        from detectors.methods.triplet.networks import facenet

        self.name = f"facenet-{weights.stem}-{scale}"
        self._network = facenet(weights)
        self._divisor = 127.5 if scale == "keras_facenet" else 128.0
        self._batch = batch

    def embed(self, crops: NDArray[np.uint8], margin: float) -> NDArray[np.float32]:
        """Crops of 160 pixels, else a ValueError; the margin is not used."""
        pixels = _checked(crops)
        if pixels.shape[1] != FACENET_PIXELS:
            raise ValueError(f"FaceNet takes crops of {FACENET_PIXELS} pixels, not {pixels.shape[1]}")
        found = [np.zeros((0, self.dimension), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(pixels), self._batch):
                part = torch.from_numpy(pixels[start : start + self._batch]).permute(0, 3, 1, 2).float()
                found.append(self._network((part - 127.5) / self._divisor).numpy())
        return np.concatenate(found)


def _checked(crops: NDArray[Any]) -> NDArray[np.uint8]:
    if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3 or crops.dtype != np.uint8:
        raise ValueError(f"embeddings are made of uint8 RGB crops (N, S, S, 3), not {crops.dtype} {crops.shape}")
    return np.ascontiguousarray(crops)
