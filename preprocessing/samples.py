"""The bundled sample, made from a public-domain photograph that scikit-image ships (NASA's portrait of Eileen Collins).

    python -m preprocessing.samples ui/samples

Three files, labelled as what they are: the photograph, a pseudo-fake of it, and a synthetic clip (the photograph moved
about) whose face is a pseudo-fake from the middle on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending import BlendSettings, sample_rng, self_blend
from preprocessing.faces import create_face_detector
from preprocessing.landmarks import create_landmark_predictor, to_81
from preprocessing.types import Image, Points

FPS = 25
SECONDS = 4
SIDE = 448
SEED = 7

LABELS = {
    "astronaut-real.jpg": ("real", "A public-domain NASA portrait, as scikit-image ships it."),
    "astronaut-fake.jpg": ("fake", "The same portrait with its face blended with a changed copy of itself."),
    "astronaut-clip.mp4": ("fake", "The portrait moved about by a program; from 2 s on its face is a pseudo-fake."),
}


def photograph() -> Image:
    """(448, 448, 3) RGB: the upper part of the portrait, the face about 100 pixels wide."""
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:SIDE, 20 : 20 + SIDE])


def landmarks(image: Image) -> Points:
    """(81, 2) landmarks of the largest face, the forehead extrapolated."""
    faces = create_face_detector("hog", still=True).detect(image)
    boxes = np.stack([face.box for face in faces])
    largest = boxes[np.argmax(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))]
    return to_81(create_landmark_predictor().predict(image, largest[None]))[0]


def pseudo_fake(image: Image, points: Points, index: int = 0) -> Image:
    """The picture with its whole face self-blended at full strength; `index` picks one of many."""
    settings = BlendSettings(families={"face": 1.0}, ratios=(1.0,))
    pair = self_blend(image, points, sample_rng(SEED, 0, index), settings)
    weights = pair.mask[..., None]
    # Only the face changes: outside it the photograph stays as it is, whichever side was augmented.
    return (weights * pair.fake + (1 - weights) * image).astype(np.uint8)


def motion(index: int) -> NDArray[np.float64]:
    """(2, 3) affine map of a slow, smooth camera movement at one frame."""
    t = index / FPS
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 3 * np.sin(1.3 * t), 1.08 + 0.05 * np.sin(0.9 * t))
    matrix[:, 2] += (10 * np.sin(0.8 * t), 7 * np.sin(1.1 * t))
    return np.asarray(matrix, np.float64)


def moving_portrait(frames: int, fake_from: int | None = None) -> Iterator[Image]:
    """`frames` pictures of the moving portrait; from frame `fake_from` on, each is a pseudo-fake of its own."""
    image = photograph()
    points = landmarks(image)
    for index in range(frames):
        matrix = motion(index)
        moved = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        if fake_from is not None and index >= fake_from:
            there = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
            moved = pseudo_fake(moved, there, index)
        yield moved


def write_video(path: Path, frames: Iterable[Image], fps: int = FPS, quality: int = 20) -> Path:
    """H.264 in MP4 at a constant rate; `quality` is the CRF. Sides must be even."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.pix_fmt = "yuv420p"
        # One thread: the same bytes on every machine.
        stream.options = {"crf": str(quality), "threads": "1", "preset": "medium"}
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def make(folder: Path) -> None:
    """Write the three files and labels.json, which says what each is."""
    folder.mkdir(parents=True, exist_ok=True)
    image = photograph()
    pictures = {"astronaut-real.jpg": image, "astronaut-fake.jpg": pseudo_fake(image, landmarks(image))}
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    count = FPS * SECONDS
    write_video(folder / "astronaut-clip.mp4", moving_portrait(count, fake_from=count // 2))
    labels = {name: {"label": label, "what": what} for name, (label, what) in LABELS.items()}
    (folder / "labels.json").write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
