"""Face crops: the declared square, the same from crop and frame, alias-free, and invertible."""

import math

import cv2
import numpy as np
import pytest
from astronaut import HEAD, turned_head
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.crops import crop_transform, eye_roll, face_input, face_square
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.tracking import margin_crop

FACE = create_landmark_predictor().predict(HEAD, np.array([[79, 83, 166, 170]]))[0].astype(np.float64)

specs = st.builds(
    FaceInput, size=st.integers(16, 512), margin=st.floats(1.0, 2.2), align=st.sampled_from(["none", "eyes"])
)
moves = st.tuples(st.floats(-3, 3), st.floats(0.2, 6), st.floats(-300, 2000), st.floats(-300, 2000))


def moved(points: np.ndarray, move: tuple[float, float, float, float]) -> np.ndarray:
    angle, scale, x, y = move
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return points @ turn.T + [x, y]


@given(specs, moves)
def test_every_landmark_lies_in_the_crop_and_comes_back(
    spec: FaceInput, move: tuple[float, float, float, float]
) -> None:
    points = moved(FACE, move)
    matrix = crop_transform(points, spec)
    inside = points @ matrix[:, :2].T + matrix[:, 2]
    assert inside.min() >= -0.5 - 1e-6 and inside.max() <= spec.size - 0.5 + 1e-6
    inverse = cv2.invertAffineTransform(matrix)
    assert np.allclose(inside @ inverse[:, :2].T + inverse[:, 2], points, atol=1e-6 * np.abs(points).max())
    # The longer side of the landmarks' box takes 1 / margin of the crop, centred.
    low, high = inside.min(axis=0), inside.max(axis=0)
    assert np.allclose((low + high) / 2, (spec.size - 1) / 2, atol=1e-6 * spec.size)
    assert max(high - low) == pytest.approx(spec.size / spec.margin)


@given(specs, moves)
def test_eyes_are_level_in_an_aligned_crop(spec: FaceInput, move: tuple[float, float, float, float]) -> None:
    points = moved(FACE, move)
    matrix = crop_transform(points, FaceInput(spec.size, spec.margin, "eyes"))
    assert eye_roll(points @ matrix[:, :2].T + matrix[:, 2]) == pytest.approx(0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(24, 320),
    st.sampled_from(["none", "eyes"]),
    st.floats(-6, 6),
    st.floats(-6, 6),
    st.floats(0.6, 3.0),
)
def test_a_margin_crop_gives_what_the_frame_gives(size: int, align: str, x: float, y: float, scale: float) -> None:
    frame = cv2.resize(HEAD, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    points = FACE * scale + [x, y]
    box = np.array([79, 83, 166, 170]) * scale
    crop, offset = margin_crop(frame, box, 2.3)
    spec = FaceInput(size, 1.4, align)  # type: ignore[arg-type]
    assert np.array_equal(face_input(crop, offset, points, spec), face_input(frame, (0, 0), points, spec))


def test_a_crop_at_the_frames_own_scale_is_the_frames_pixels() -> None:
    corners = np.array([[60.0, 70.0], [159.0, 169.0]])
    points = np.concatenate([corners, np.tile(corners.mean(0), (66, 1))])
    crop = face_input(HEAD, (0, 0), points, FaceInput(99, 1.0))
    # Centre (109.5, 119.5): 99 pixels around it begin at 60.5, half a pixel off; 100 begin at 60.
    assert np.array_equal(
        face_input(HEAD, (0, 0), points * 100 / 99 - corners.mean(0) / 99, FaceInput(100, 1.0)), HEAD[70:170, 60:160]
    )
    between = HEAD[70:169, 60:159].astype(float) / 4
    between += HEAD[71:170, 60:159] / 4 + HEAD[70:169, 61:160] / 4 + HEAD[71:170, 61:160] / 4
    assert np.abs(crop - between).max() <= 1


def test_a_picture_turned_with_its_face_gives_the_same_aligned_crop() -> None:
    spec = FaceInput(128, 1.3, "eyes")
    upright, turned = turned_head(0), turned_head(30)
    turn = cv2.getRotationMatrix2D((180.0, 180.0), 30, 1.0)
    points = (FACE - [122, 126]) * (360 / 250) + 180
    there = points @ turn[:, :2].T + turn[:, 2]
    difference = face_input(upright, (0, 0), points, spec).astype(int) - face_input(turned, (0, 0), there, spec)
    assert np.abs(difference).mean() < 2.5


@pytest.mark.parametrize("shrink", [2.0, 3.7, 8.0])
def test_shrinking_averages_and_does_not_alias(shrink: float) -> None:
    board = ((np.indices((600, 600)).sum(axis=0) % 2) * 255).astype(np.uint8)
    picture = np.repeat(board[..., None], 3, axis=2)
    points = np.array([[300.0, 300.0]]) + np.random.default_rng(0).uniform(-100, 100, (68, 2))
    side = face_square(points, 1.6)[2]
    crop = face_input(picture, (0, 0), points, FaceInput(round(side / shrink), 1.6))
    assert np.abs(crop.astype(int) - 127).max() <= 45 and crop.std() < 20


@pytest.mark.parametrize("align", ["none", "eyes"])
def test_outside_the_frame_border_pixels_are_repeated(align: str) -> None:
    white = np.full((80, 60, 3), 255, np.uint8)
    for shift in ([0, 0], [-60, -90], [55, 70], [400, 0], [0, -900]):
        crop = face_input(white, (0, 0), FACE - FACE.mean(0) + [30, 40] + shift, FaceInput(64, 1.6, align))  # type: ignore[arg-type]
        assert crop.shape == (64, 64, 3) and crop.min() == 255


def test_the_forehead_does_not_change_the_square() -> None:
    more = np.concatenate([FACE, FACE[:13] - [0, 300]])
    assert face_square(more, 1.6) == face_square(FACE, 1.6)


def test_coinciding_landmarks_still_give_a_crop() -> None:
    assert face_input(HEAD, (0, 0), np.full((68, 2), 20.0), FaceInput(32)).shape == (32, 32, 3)
