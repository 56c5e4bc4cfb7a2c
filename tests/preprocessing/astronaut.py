"""Pictures and clips with a real face, made from the public-domain portrait that scikit-image ships."""

from collections.abc import Sequence

import cv2
import numpy as np
import skimage.data

from preprocessing.types import Frame, Image

HEAD = skimage.data.astronaut()[0:250, 100:350]
"""The head, 250 x 250; dlib's HOG box of the face is about 87 pixels wide, its centre at (122, 126)."""


def room(width: int = 480, height: int = 360) -> Image:
    """A wall without a face."""
    across = np.linspace(90, 150, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    return np.broadcast_to(across + np.array([0, 8, 16]), (height, width, 3)).astype(np.uint8)


def with_heads(places: Sequence[tuple[int, int, int]], width: int = 480, height: int = 360) -> Image:
    """The room with heads of `size` pixels (face box about 0.35 of it), each at its x, y."""
    picture = room(width, height).copy()
    for x, y, size in places:
        head = cv2.resize(HEAD, (size, size), interpolation=cv2.INTER_AREA if size < 250 else cv2.INTER_CUBIC)
        picture[y : y + size, x : x + size] = head
    return picture


def turned_head(degrees: float, size: int = 360) -> Image:
    """A square picture of the head turned in its plane."""
    turn = cv2.getRotationMatrix2D((122.0, 126.0), degrees, size / 250)
    turn[:, 2] += size / 2 - np.array([122.0, 126.0])
    return cv2.warpAffine(HEAD, turn, (size, size), borderMode=cv2.BORDER_REPLICATE)


def film(pictures: Sequence[Image], fps: float = 25.0) -> list[Frame]:
    """The pictures as frames."""
    return [Frame(index, index / fps, picture) for index, picture in enumerate(pictures)]


def noise(seed: int, width: int = 480, height: int = 360) -> Image:
    """Smooth and rough noise in colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    rough = rng.integers(-20, 20, (height, width, 3))
    return np.clip(cv2.resize(coarse, (width, height)).astype(int) + rough, 0, 255).astype(np.uint8)
