"""Landmarks: the same on a crop and on the frame, user models, the extrapolated forehead, mirrored faces."""

from pathlib import Path

import dlib
import numpy as np
import pytest
from astronaut import HEAD, with_heads
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.landmarks import (
    DEFAULT_MODEL,
    FLIP_ORDER,
    LANDMARK_LICENCE,
    create_landmark_predictor,
    flip_points,
    to_81,
    with_forehead,
)
from preprocessing.models import ModelFileError, bundled_dlib_model
from preprocessing.tracking import margin_crop

BOX = np.array([79.0, 83.0, 166.0, 170.0], np.float32)
"""dlib's HOG box in HEAD."""


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return create_landmark_predictor().predict(HEAD, BOX[None])


def test_the_astronauts_landmarks_lie_on_her_face(points: np.ndarray) -> None:
    assert points.shape == (1, 68, 2) and points.dtype == np.float32
    left_eye, right_eye, nose, chin = points[0, 36:42].mean(0), points[0, 42:48].mean(0), points[0, 30], points[0, 8]
    assert np.allclose(left_eye, [104, 101], atol=3)
    assert np.allclose(right_eye, [146, 103], atol=3)
    assert left_eye[0] < nose[0] < right_eye[0] and left_eye[1] < nose[1] < chin[1]


def test_points_are_finer_than_whole_pixels_and_close_to_plain_dlib(points: np.ndarray) -> None:
    predictor = dlib.shape_predictor(str(bundled_dlib_model(DEFAULT_MODEL)))
    shape = predictor(HEAD.copy(), dlib.rectangle(*BOX.astype(int).tolist()))
    plain = np.array([(part.x, part.y) for part in shape.parts()])
    assert np.abs(points[0] - plain).mean() < 0.6
    assert (points != np.round(points)).mean() > 0.5


@pytest.mark.parametrize("size", [90, 180, 300, 340])
def test_a_margin_crop_gives_what_the_frame_gives(size: int) -> None:
    frame = with_heads([(97, 13, size)])
    box = (BOX * (size / 250) + np.array([97, 13, 97, 13]) + 0.37).astype(np.float32)
    predictor = create_landmark_predictor()
    crop, offset = margin_crop(frame, box, 2.3)
    on_crop = predictor.predict(crop, (box - np.array([*offset, *offset], np.float32))[None]) + np.array(offset)
    assert np.abs(on_crop - predictor.predict(frame, box[None])).max() < 1e-3


def test_no_box_gives_no_landmarks_and_a_box_outside_does_no_harm() -> None:
    predictor = create_landmark_predictor()
    assert predictor.predict(HEAD, np.empty((0, 4))).shape == (0, 68, 2)
    outside = np.array([[-500, -500, -400, -400], [240, 240, 400, 400], [10, 10, 10, 10]])
    assert np.isfinite(predictor.predict(HEAD, outside)).all()


def test_the_names_of_models(tmp_path: Path) -> None:
    assert create_landmark_predictor().name == "dlib68"
    link = tmp_path / "mine.dat"
    link.symlink_to(bundled_dlib_model(DEFAULT_MODEL))
    assert create_landmark_predictor(link).name == "mine"
    assert "300-W" in LANDMARK_LICENCE and "commercial" in LANDMARK_LICENCE


def test_a_bad_model_file_is_named_with_the_reason(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.dat"
    damaged.write_bytes(b"not a model" * 100)
    empty = tmp_path / "empty.dat"
    empty.touch()
    for path, reason in (
        (tmp_path / "absent.dat", "no landmark model"),
        (tmp_path, "no landmark model"),
        (damaged, "damaged"),
        (empty, "damaged"),
        (bundled_dlib_model("shape_predictor_5_face_landmarks.dat"), "5 landmarks"),
    ):
        with pytest.raises(ModelFileError, match=reason) as caught:
            create_landmark_predictor(path)
        assert path.name in str(caught.value)


def test_a_users_81_point_model_comes_with_the_forehead_from_left_to_right(points: np.ndarray, tmp_path: Path) -> None:
    scrambled = to_81(points)[0]
    order = [77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78]
    model_points = scrambled.copy()
    model_points[order] = scrambled[68:]
    parts = [dlib.point(round(float(x)), round(float(y))) for x, y in model_points]
    face = dlib.full_object_detection(dlib.rectangle(*BOX.astype(int).tolist()), parts)
    options = dlib.shape_predictor_training_options()
    options.oversampling_amount, options.cascade_depth, options.tree_depth = 5, 4, 2
    options.num_trees_per_cascade_level, options.feature_pool_size, options.num_threads = 40, 60, 1
    path = tmp_path / "mine_81.dat"
    dlib.train_shape_predictor([HEAD.copy()], [[face]], options).save(str(path))

    predictor = create_landmark_predictor(path)
    found = predictor.predict(HEAD, BOX[None])
    assert (predictor.name, predictor.count, found.shape) == ("mine_81", 81, (1, 81, 2))
    assert (np.diff(found[0, 68:, 0]) > 0).all()
    assert np.abs(found[0] - scrambled).mean() < 5
    assert not with_forehead(found).extrapolated
    assert np.array_equal(with_forehead(found).points, found)


def test_the_forehead_is_extrapolated_left_to_right_above_the_brows(points: np.ndarray) -> None:
    full = with_forehead(points)
    assert full.extrapolated and full.points.shape == (1, 81, 2)
    assert np.array_equal(full.points[:, :68], points)
    forehead = full.points[0, 68:]
    assert (np.diff(forehead[:, 0]) > 0).all()
    assert forehead[6, 1] < points[0, 17:27, 1].min() - 0.15 * (points[0, 8, 1] - points[0, 27, 1])
    with pytest.raises(ValueError, match=r"\(N, 68, 2\)"):
        to_81(points[0])


similarity = st.tuples(
    st.floats(-3.1, 3.1), st.floats(0.2, 5), st.floats(-500, 500), st.floats(-500, 500), st.booleans()
)


@given(similarity)
def test_the_forehead_moves_with_the_face(move: tuple[float, float, float, float, bool]) -> None:
    angle, scale, x, y, mirror = move
    face = np.random.default_rng(3).uniform(0, 200, (1, 68, 2))
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    moved = to_81(face @ linear.T + [x, y])
    assert np.allclose(moved, to_81(face).astype(np.float64) @ linear.T + [x, y], atol=0.02)


@given(st.sampled_from([68, 81]), st.integers(1, 4000))
def test_mirroring_twice_gives_the_face_back(count: int, width: int) -> None:
    face = np.random.default_rng(count).uniform(0, width, (2, count, 2)).astype(np.float32)
    assert np.allclose(flip_points(flip_points(face, width), width), face, atol=1e-3)


def test_a_mirrored_faces_landmarks_are_the_mirrored_landmarks(points: np.ndarray) -> None:
    assert sorted(FLIP_ORDER.tolist()) == list(range(81))
    width = HEAD.shape[1]
    box = np.array([width - 1 - BOX[2], BOX[1], width - 1 - BOX[0], BOX[3]])
    seen = create_landmark_predictor().predict(np.ascontiguousarray(HEAD[:, ::-1]), box[None])
    assert np.linalg.norm(seen[0] - flip_points(points[0], width), axis=1).mean() < 3
    forehead = flip_points(to_81(points), width)[0, 68:]
    assert (np.diff(forehead[:, 0]) > 0).all()
