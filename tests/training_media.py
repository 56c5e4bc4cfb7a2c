"""Small sets of real faces to train on, made from the public-domain portrait that scikit-image ships."""

from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from preprocessing.samples import SIDE, landmarks, motion, photograph
from train.clip_pack import join, store_clip
from train.faces import FacePack, store_face


def as_another(picture: np.ndarray, number: int, strength: float = 60) -> np.ndarray:
    """The picture under a pattern of its own, so that it counts as another one: training refuses near-duplicates."""
    drawn = np.random.default_rng(number).uniform(-strength, strength, (48, 48)).astype(np.float32)
    pattern = cv2.resize(drawn, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + pattern[..., None], 0, 255).astype(np.uint8)


def make_pack(path: Path, people: int = 24) -> Path:
    """The portrait, resized and turned a little, as so many people's."""
    picture = astronaut()
    points = landmarks(picture)[:68]
    rows = []
    for number in range(people):
        matrix = cv2.getRotationMatrix2D((224.0, 120.0), float(number % 5 - 2), 0.8 + 0.03 * (number % 12))
        image = cv2.warpAffine(as_another(picture, number), matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
        stored = store_face(image, (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
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


def make_clip_pack(path: Path, people: int = 12, frames: int = 32) -> Path:
    """The portrait moved about, another stretch of its path for each of so many people."""
    picture = photograph()
    points = landmarks(picture)[:68]
    clips = []
    for number in range(people):
        matrices = [motion(index + 40 * number) for index in range(frames)]
        shown = as_another(picture, number)
        images = [cv2.warpAffine(shown, m, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT) for m in matrices]
        moved = np.stack([points @ m[:, :2].T + m[:, 2] for m in matrices]).astype(np.float32)
        clip = store_clip(images, moved)
        assert clip is not None
        clips.append(clip)
    names = [f"portraits/person-{number}" for number in range(people)]
    pack = join(clips, names, ["portraits"] * people, [f"{number:064x}" for number in range(people)])
    pack.save(path)
    return path
