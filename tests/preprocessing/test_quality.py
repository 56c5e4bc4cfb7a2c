"""Quality flags: none for a plain portrait, the right one for each defect."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut import turned_head, with_heads

from preprocessing.landmarks import create_landmark_predictor
from preprocessing.quality import head_yaw, quality_flags
from preprocessing.settings import TrackingSettings
from preprocessing.tracking import FaceTracker
from preprocessing.types import FaceCrop, Frame, Image

PREDICTOR = create_landmark_predictor()


def only_face(picture: Image) -> tuple[FaceCrop, np.ndarray]:
    faces = [f for c in FaceTracker(TrackingSettings()).chunks([Frame(0, 0.0, picture)], still=True) for f in c.faces]
    assert len(faces) == 1
    shift = np.array(faces[0].offset, np.float32)
    box = faces[0].box - np.tile(shift, 2)
    return faces[0], PREDICTOR.predict(faces[0].image, box[None])[0] + shift


def flags(picture: Image) -> frozenset[str]:
    crop, points = only_face(picture)
    return quality_flags(crop, points, (picture.shape[1], picture.shape[0]))


def test_a_plain_portrait_has_no_flag() -> None:
    assert flags(with_heads([(100, 60, 250)])) == frozenset()


def test_a_small_face() -> None:
    assert flags(with_heads([(100, 60, 110)])) == {"small"}


def test_a_blurred_face() -> None:
    assert flags(cv2.GaussianBlur(with_heads([(100, 60, 250)]), (0, 0), 4)) == {"blurred"}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_rotated_face(mirrored: bool) -> None:
    step = -1 if mirrored else 1
    assert "rotated" in flags(np.ascontiguousarray(turned_head(35)[:, ::step]))
    assert "rotated" not in flags(np.ascontiguousarray(turned_head(12)[:, ::step]))


def test_a_face_that_leaves_the_frame() -> None:
    picture = with_heads([(100, 60, 250)])
    crop, points = only_face(picture)
    assert quality_flags(crop, points, (480, 360)) == frozenset()
    assert quality_flags(crop, points, (int(points[:, 0].max()) - 20, 360)) == {"cut_off"}


def test_a_doubtful_detection() -> None:
    crop, points = only_face(with_heads([(100, 60, 250)]))
    assert quality_flags(replace(crop, score=0.1), points, (480, 360)) == {"uncertain"}


def test_yaw_follows_the_nose_and_changes_its_sign_in_the_mirror() -> None:
    _, points = only_face(with_heads([(100, 60, 250)]))
    assert abs(head_yaw(points)) < 15
    turned = points.copy()
    half = (points[45, 0] - points[36, 0]) / 2
    turned[30] = (points[36] + points[45]) / 2 + [0.9 * half, half]
    assert head_yaw(turned) == pytest.approx(45, abs=2)
    mirrored = (turned * [-1, 1])[[*range(36), 45, *range(37, 45), 36, *range(46, 68)]]
    assert head_yaw(mirrored) == pytest.approx(-head_yaw(turned))
    assert head_yaw(np.zeros((68, 2))) == 90.0


def test_a_profile_and_ordinary_faces_of_the_data(shared: Path) -> None:
    faces = shared / "data/real_faces/train"
    profile = cv2.imread(str(faces / "photos_deepshield/real_0.jpg"))[..., ::-1].copy()
    assert "profile" in flags(profile)
    ordinary = sorted((faces / "civilservice_us-house").glob("*.jpg"))[:100:20]
    found = {path.name: flags(cv2.imread(str(path))[..., ::-1].copy()) for path in ordinary}
    assert len(found) == 5 and not any(found.values()), found
