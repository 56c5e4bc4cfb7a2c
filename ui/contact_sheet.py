"""A contact sheet of pseudo-fakes: the real, the fake, the mask and the X-ray side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from preprocessing.blending.masks import Mask
from preprocessing.blending.targets import face_xray
from preprocessing.types import Image

TILE = 176
CAPTION = 18
COLUMNS = 2
ROWS = 32
"""Fakes shown, at most: the first."""
PAPER, INK = 24, 220


class ContactSheet:
    """Collects fakes and draws them COLUMNS a row."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._strips: list[Image] = []
        self._left_out = 0

    def add(self, real: Image, fake: Image, mask: Mask, caption: str) -> None:
        """One fake: pictures (H, W, 3) and weights (H, W) of one size."""
        if len(self._strips) == ROWS:
            self._left_out += 1
            return
        tiles = [_tile(part) for part in (real, fake, _grey(mask), _grey(face_xray(mask)))]
        strip = np.full((TILE + CAPTION, 4 * TILE, 3), PAPER, np.uint8)
        strip[:TILE] = np.hstack(tiles)
        self._strips.append(_written(strip, caption, TILE + CAPTION - 5))

    def save(self, path: Path) -> None:
        """As JPEG."""
        gap = np.full((TILE + CAPTION, 8, 3), PAPER, np.uint8)
        blank = np.full((TILE + CAPTION, 4 * TILE, 3), PAPER, np.uint8)
        columns = min(COLUMNS, len(self._strips))
        strips = self._strips + [blank] * (-len(self._strips) % columns)
        rows = []
        for start in range(0, len(strips), columns):
            parts = [part for strip in strips[start : start + columns] for part in (strip, gap)]
            rows.append(np.hstack(parts[:-1]))
        head = np.full((2 * CAPTION, rows[0].shape[1], 3), PAPER, np.uint8)
        more = f"; {self._left_out} more not shown" if self._left_out else ""
        _written(head, f"{self._title}: real, fake, mask, X-ray{more}", 2 * CAPTION - 12)
        sheet = np.vstack([head, *rows])
        done, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        if not done:
            raise RuntimeError("the JPEG encoder refused the contact sheet")
        path.write_bytes(bytes(data))


def _grey(values: Mask) -> Image:
    return np.repeat(np.rint(values * 255).astype(np.uint8)[..., None], 3, axis=2)


def _tile(picture: Image) -> Image:
    factor = TILE / max(picture.shape[:2])
    size = (max(round(picture.shape[1] * factor), 1), max(round(picture.shape[0] * factor), 1))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, size, interpolation=method)
    tile = np.full((TILE, TILE, 3), PAPER, np.uint8)
    tile[: size[1], : size[0]] = small[:TILE, :TILE]
    return tile


def _written(picture: Image, text: str, baseline: int) -> Image:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, (6, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (INK, INK, INK), 1, cv2.LINE_AA)
    return picture
