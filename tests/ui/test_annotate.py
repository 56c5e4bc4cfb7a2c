"""The media with what was found drawn in: at the right places, at the right times, nothing else changed."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hostile import write_video
from PIL import Image
from results import face, media, result

from detectors.result import Analysis
from preprocessing.settings import MediaLimits
from ui.annotate import annotate


def analysis(kind: str, width: int, height: int) -> Analysis:
    """A face that wanders from left to right between second 0.2 and 0.6, in a grey picture."""
    boxes = [(20.0, 30.0, 60.0, 80.0), (120.0, 30.0, 160.0, 80.0)]
    person = face(times=(0.2, 0.6), boxes=boxes, box_times=[0.2, 0.6], box=boxes[0])
    return Analysis(result(faces=[person], media=media(kind=kind, width=width, height=height)))


def frames(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(frame.time or 0.0, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def changed(picture: np.ndarray) -> np.ndarray:
    """(H, W) where it is not the grey that it was."""
    return np.abs(picture.astype(int) - 128).max(2) > 40


@pytest.mark.parametrize("size", [(240, 320), (241, 321)])
def test_a_box_follows_its_face_and_only_while_it_is_there(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    grey = np.full((240, 320, 3), 128, np.uint8)
    source = write_video(tmp_path / "clip.mp4", [grey] * 20, fps=20)
    out = annotate(source, analysis("video", width, height), tmp_path / "out", MediaLimits())
    assert out.name == "clip.annotated.mp4"
    seen = frames(out)
    assert len(seen) == 20
    for time, picture in seen:
        marks = changed(picture)
        if time < 0.15 or time > 0.65:
            assert not marks.any(), f"something is drawn at {time}"
    middle = changed(min(seen, key=lambda one: abs(one[0] - 0.4))[1])
    columns = np.flatnonzero(middle[40:70].sum(0) > 20)  # the box's upright sides, half way
    assert abs(columns.min() - 70) <= 3 and abs(columns.max() - 110) <= 3


def test_of_a_picture_a_picture_is_written(tmp_path: Path) -> None:
    source = tmp_path / "face.png"
    Image.fromarray(np.full((200, 300, 3), 128, np.uint8)).save(source)
    out = annotate(source, analysis("image", 300, 200), tmp_path / "out", MediaLimits())
    picture = np.asarray(Image.open(out))
    assert out.suffix == ".jpg" and picture.shape == (200, 300, 3) and changed(picture)[30:80, 20:60].any()
    assert list((tmp_path / "out").iterdir()) == [out]


def test_the_score_stands_on_the_colour_of_the_verdict_and_fits_into_a_narrow_picture(tmp_path: Path) -> None:
    source = tmp_path / "face.png"
    Image.fromarray(np.full((200, 160, 3), 128, np.uint8)).save(source)
    given = analysis("image", 160, 200)
    given.result.faces[0].boxes = [(20.0, 30.0, 60.0, 80.0)] * 2
    picture = np.asarray(Image.open(annotate(source, given, tmp_path / "out", MediaLimits()))).astype(int)
    below = picture[82:150]
    red = np.abs(below - (0xE5, 0x48, 0x4D)).max(2) < 30
    white = below.min(2) > 160
    assert red.sum() > 300 and white.sum() > 20, "white letters on the colour"
    assert np.flatnonzero(white.any(0)).max() < 158, "they end within the picture"
