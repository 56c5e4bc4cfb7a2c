"""Pictures of pages: where the tests keep them, and how alike two are in what stands where, whatever its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = Path(__file__).resolve().parents[2] / ".artifacts"
"""Ignored by git. Of each test that opens pages: how they looked when it ended, well or not."""
WIDTH, HEIGHT, BLOCK = 1280, 832, 32
"""Pixels; what is below is left out, and a picture of another width is scaled to this one."""
NAVIGATION = 2
"""Rows of blocks at the top, which all pages share."""
EDGE = 24
"""Difference of two neighbouring pixels, of 255, that counts as an edge: text and lines do, shades do not."""
SAME, ANOTHER = 0.8, 0.7
"""Likenesses: a page and its picture of another scheme or palette have 0.97 and more; those of the
pages compared here have 0.64 and less with each other."""


def edges(picture: Image.Image) -> np.ndarray:
    """The share of edges in each block, (HEIGHT / BLOCK - NAVIGATION, WIDTH / BLOCK), 0..1."""
    scaled = picture.convert("L").resize((WIDTH, round(picture.height * WIDTH / picture.width)))
    grey = np.zeros((HEIGHT, WIDTH))
    there = np.asarray(scaled, np.float64)[:HEIGHT]
    grey[: len(there)], grey[len(there) :] = there, there[-1:]
    steps = np.zeros_like(grey)
    steps[1:] = np.abs(np.diff(grey, axis=0))
    steps[:, 1:] = np.maximum(steps[:, 1:], np.abs(np.diff(grey, axis=1)))
    blocks = (steps > EDGE).reshape(HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK).mean((1, 3))
    return blocks[NAVIGATION:]


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Pearson correlation of the blocks' edges: 1 the same, around 0 unrelated; 0 where one has no edge at all."""
    first, second = edges(one), edges(other)
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
