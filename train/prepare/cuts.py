"""Crops at the frame's own resolution, and how crops and points are written."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.crops import face_square
from preprocessing.types import Image, Points
from train.prepare.settings import PrepareSettings


def margin_cut(
    image: Image, offset: tuple[int, int], points: Points, settings: PrepareSettings
) -> tuple[Image, NDArray[np.float64]]:
    """The upright square around the landmarks at the frame's own resolution, clipped to the picture and shrunk (never
    enlarged) to `size`; and the map (2, 3) from frame pixels to its pixels, whole at pixel centres."""
    x, y, side = face_square(points, settings.margin)
    height, width = image.shape[:2]
    left, top = (
        min(max(round(c - side / 2) - o, 0), n - 1) for c, o, n in ((x, offset[0], width), (y, offset[1], height))
    )
    right = min(max(round(x + side / 2) - offset[0] + 1, left + 1), width)
    bottom = min(max(round(y + side / 2) - offset[1] + 1, top + 1), height)
    cut = image[top:bottom, left:right]
    scale = np.ones(2)
    longest = max(cut.shape[:2])
    if longest > settings.size:
        to = [max(1, round(n * settings.size / longest)) for n in (cut.shape[1], cut.shape[0])]
        scale = np.array(to) / np.array([cut.shape[1], cut.shape[0]])
        cut = cv2.resize(cut, (to[0], to[1]), interpolation=cv2.INTER_AREA)
    origin = np.array([left + offset[0], top + offset[1]], np.float64)
    return np.ascontiguousarray(cut), np.column_stack([np.diag(scale), (0.5 - origin) * scale - 0.5])


def frame_number(name: str) -> tuple[int, str]:
    """The last number of a file's name, to sort frames by."""
    numbers = re.findall(r"\d+", name.rsplit(".", 1)[0])
    return int(numbers[-1]) if numbers else -1, name


def rounded(values: NDArray[Any]) -> list[Any]:
    """To a thousandth of a pixel: a third of what single precision holds, and far below what any model tells apart."""
    rounded: list[Any] = np.round(values.astype(np.float64), 3).tolist()
    return rounded


def encoded(kind: str, image: NDArray[np.uint8], options: list[int]) -> bytes:
    """A picture, RGB or grey, as a file of `kind` (".png"); `options` are OpenCV's."""
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(kind, stored, options)
    if not done:
        raise RuntimeError(f"the {kind} encoder refused a crop of {image.shape}")
    return bytes(data)
