"""The worst mistakes as pictures: the face that decided, and where the detector that decided it looked."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detectors.local import LocalStages, analyse_file
from detectors.overlay import overlay
from detectors.result import Analysis, FaceResult, Heatmap
from preprocessing.errors import MediaError
from preprocessing.settings import Settings
from train.levels import EVEN
from train.measure import Row

SIDE = 224
"""Pixels of a picture's side."""


@dataclass(frozen=True)
class Picture:
    """A mistake. `crop`, and `heat`, the crop under the heatmap of `detector`, are JPEG data addresses."""

    name: str
    label: int
    score: float
    data: str
    crop: str
    heat: str | None
    detector: str
    scores: dict[str, float]


def worst(rows: Sequence[Row], count: int) -> list[Row]:
    """The rows whose fused score lies furthest on the wrong side of even odds, missed fakes first.

    At most `count` of each class.
    """
    scored = [row for row in rows if row["score"] is not None]
    missed = sorted((r for r in scored if r["label"] and r["score"] < EVEN), key=lambda r: r["score"])
    alarms = sorted((r for r in scored if not r["label"] and r["score"] >= EVEN), key=lambda r: -r["score"])
    return missed[:count] + alarms[:count]


def draw(
    rows: Sequence[Row], stages: LocalStages, settings: Settings, told: Callable[[int, int], None] = lambda *_: None
) -> list[Picture]:
    """Analyse the files of these rows again, now with heatmaps; a file that is gone since is left out."""
    settings = settings.model_copy(update={"heatmaps": 1})
    found = []
    for number, row in enumerate(rows):
        told(number, len(rows))
        try:
            analysis = analyse_file(Path(row["path"]), stages, settings)
        except MediaError:
            continue
        faces = [face for face in analysis.result.faces if face.fused is not None]
        if faces:
            found.append(_picture(row, analysis, max(faces, key=lambda face: face.fused or 0.0)))
    return found


def _picture(row: Row, analysis: Analysis, face: FaceResult) -> Picture:
    heat, detector, crop = None, "", analysis.artifacts.get(face.thumbnail or "", b"")
    towards = 1 if (face.fused or 0) >= EVEN else -1
    # Of the detectors that can show where they looked, the one that moved the score furthest to the wrong side.
    for name in sorted(face.detectors, key=lambda n: -towards * face.contributions.get(n, 0.0)):
        maps: list[Heatmap] = face.detectors[name].heatmaps
        if maps:
            detector, crop = name, analysis.artifacts[maps[0].crop]
            grey = np.asarray(Image.open(io.BytesIO(analysis.artifacts[maps[0].map])).convert("L")) / 255
            heat = _address(Image.fromarray(overlay(np.asarray(_opened(crop)), grey)))
            break
    scores = {name: found.score for name, found in face.detectors.items() if found.score is not None}
    data = " · ".join(part for part in (row["dataset"], row["method"]) if part)
    picture = _address(_opened(crop)) if crop else ""
    return Picture(Path(row["path"]).name, row["label"], row["score"], data, picture, heat, detector, scores)


def _opened(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def _address(image: Image.Image) -> str:
    out = io.BytesIO()
    image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(out, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
