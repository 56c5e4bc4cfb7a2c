"""Small sets of real faces to train on, made from the public-domain portrait that scikit-image ships."""

from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from preprocessing.landmarks import to_81
from preprocessing.samples import landmarks, motion
from train.faces import FacePack, _store


def make_pack(path: Path, people: int = 24) -> Path:
    """The portrait, resized and turned a little, as so many people's."""
    picture = astronaut()
    points = landmarks(picture)[:68]
    rows = []
    for number in range(people):
        matrix = cv2.getRotationMatrix2D((224.0, 120.0), float(number % 5 - 2), 0.8 + 0.03 * (number % 12))
        image = cv2.warpAffine(picture, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
        stored = _store(image, (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
        assert stored is not None
        rows.append(stored)
    names = np.array([f"portraits/person-{number}" for number in range(people)])
    pack = FacePack(
        np.frombuffer(b"".join(data for data, _ in rows), np.uint8),
        np.cumsum([len(data) for data, _ in rows]).astype(np.int64),
        np.stack([points for _, points in rows]),
        names,
        np.full(people, "portraits"),
        np.array([f"{number:064x}" for number in range(people)]),
    )
    pack.save(path)
    return path
