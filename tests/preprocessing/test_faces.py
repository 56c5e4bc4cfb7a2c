"""Faces are found in real pictures, in dlib HOG's box convention, and a picture without one costs little."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut import noise, room, turned_head, with_heads

from preprocessing.faces import create_face_detector, mtcnn, search
from preprocessing.faces.base import boxes_of, overlaps, to_hog_box, without_duplicates
from preprocessing.faces.dlib_detectors import HogDetector
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.models import ModelFileError
from preprocessing.types import Detection, Image

PORTRAIT = with_heads([(100, 60, 250)])
FACE_CENTRE = (100 + 122, 60 + 126)


def only(found: list[Detection]) -> np.ndarray:
    assert len(found) == 1
    return found[0].box


@pytest.mark.parametrize("name", ["auto", "hog", "mtcnn", "cnn"])
def test_every_detector_finds_the_astronaut_in_hogs_box_convention(name: str) -> None:
    box = only(create_face_detector(name, still=True).detect(PORTRAIT))
    hog = only(create_face_detector("hog", still=True).detect(PORTRAIT))
    assert box.dtype == np.float32
    assert overlaps(box[None], hog[None])[0, 0] > 0.6
    assert np.allclose((box[:2] + box[2:]) / 2, FACE_CENTRE, atol=10)


def test_landmarks_hardly_depend_on_who_found_the_face() -> None:
    predictor = create_landmark_predictor()
    boxes = np.stack([only(create_face_detector(n, still=True).detect(PORTRAIT)) for n in ("hog", "mtcnn")])
    by_hog, by_mtcnn = predictor.predict(PORTRAIT, boxes)
    side = by_hog.max() - by_hog.min()
    assert np.linalg.norm(by_hog - by_mtcnn, axis=1).mean() < 0.02 * side


def test_auto_finds_a_turned_head_that_hog_does_not() -> None:
    picture = turned_head(45)
    assert create_face_detector("hog", still=True).detect(picture) == []
    assert len(create_face_detector("auto", still=True).detect(picture)) == 1


@pytest.mark.parametrize("name", ["auto", "hog"])
def test_a_75_pixel_picture_of_a_face_is_enlarged_until_the_face_is_found(name: str) -> None:
    small = cv2.resize(PORTRAIT[100:260, 140:300], (75, 75), interpolation=cv2.INTER_AREA)
    box = only(create_face_detector(name, still=True).detect(small))
    assert 25 < box[2] - box[0] < 60


@pytest.mark.parametrize("still", [True, False])
def test_several_people_are_found_in_one_picture(still: bool) -> None:
    picture = with_heads([(0, 20, 250), (260, 60, 220), (520, 100, 130)], 700, 360)
    found = create_face_detector("auto", still).detect(picture)
    centres = sorted(float(face.box[[0, 2]].mean()) for face in found)
    assert np.allclose(centres, [122, 260 + 107, 520 + 63], atol=12)


@pytest.mark.parametrize("name", ["auto", "hog", "mtcnn"])
@pytest.mark.parametrize("still", [True, False])
def test_nothing_is_found_in_noise_or_an_empty_room(name: str, still: bool) -> None:
    detector = create_face_detector(name, still)
    for picture in (noise(0, 320, 240), noise(1, 320, 240), room(320, 240), np.zeros((90, 120, 3), np.uint8)):
        assert detector.detect(picture) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (7, 5)])
def test_a_picture_too_small_for_a_face_has_none(shape: tuple[int, int]) -> None:
    for name in ("auto", "mtcnn"):
        assert create_face_detector(name, still=True).detect(np.zeros((*shape, 3), np.uint8)) == []


def test_the_same_pictures_give_the_same_faces() -> None:
    pictures = [with_heads([(100 + 6 * i, 60, 250)]) for i in range(4)]
    once, twice = create_face_detector("auto", False), create_face_detector("auto", False)
    first = [boxes_of(once.detect(p)) for p in pictures]
    once.reset()
    assert all(np.array_equal(a, boxes_of(once.detect(p))) for a, p in zip(first, pictures, strict=True))
    assert all(np.array_equal(a, boxes_of(twice.detect(p))) for a, p in zip(first, pictures, strict=True))


class Counting(HogDetector):
    """HOG that counts its calls."""

    calls = 0

    def detect(self, image: Image) -> list[Detection]:
        self.calls += 1
        return super().detect(image)


def test_a_video_without_a_face_is_searched_finely_less_and_less() -> None:
    coarse, fine = Counting(320, 1.0), Counting(640, 2.0)
    detector = search.SearchingDetector([coarse, fine], still=False)
    for seed in range(40):
        detector.detect(noise(seed, 160, 120))
    assert 40 <= coarse.calls <= 47
    assert fine.calls <= 7


def test_a_lost_face_is_searched_finely_at_once() -> None:
    coarse, fine = Counting(400, 1.0), Counting(960, 3.0)
    detector = search.SearchingDetector([coarse, fine], still=False)
    near, far = with_heads([(20, 10, 480)], 640, 500), with_heads([(40, 60, 150)], 640, 500)
    for _ in range(5):
        assert len(detector.detect(near)) == 1
    assert fine.calls == 1
    assert len(detector.detect(far)) == 1
    assert fine.calls == 2
    assert len(detector.detect(far)) == 1
    assert fine.calls == 3 and coarse.calls == 7  # only the fine scale from here on


def test_without_facenet_pytorch_auto_works_and_mtcnn_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "mtcnn_installed", lambda: False)
    monkeypatch.setattr(mtcnn, "mtcnn_installed", lambda: False)
    assert len(create_face_detector("auto", still=True).detect(PORTRAIT)) == 1
    with pytest.raises(ModelFileError, match="pip install --no-deps facenet-pytorch"):
        create_face_detector("mtcnn", still=True)


def test_an_unknown_detector_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'haar'.*auto, hog, cnn and mtcnn"):
        create_face_detector("haar", still=True)  # type: ignore[arg-type]


def test_overlapping_and_nested_boxes_are_one_face() -> None:
    boxes = [(0, 0, 100, 100), (10, 5, 112, 108), (30, 30, 70, 70), (150, 0, 250, 100)]
    faces = [Detection(np.array(box, np.float32), 1.0) for box in boxes]
    assert without_duplicates(faces) == [faces[0], faces[3]]


def test_a_mapped_box_is_square_and_follows_a_move_and_a_scale() -> None:
    box = np.array([10.0, 20.0, 90.0, 120.0])
    mapped = to_hog_box(box, 0.94, 0.01, 0.07)
    assert mapped[2] - mapped[0] == pytest.approx(mapped[3] - mapped[1])
    assert np.allclose(to_hog_box(box * 3 + 7, 0.94, 0.01, 0.07), mapped * 3 + 7, atol=1e-3)


def test_every_development_still_shows_a_face(shared: Path) -> None:
    detector = create_face_detector("auto", still=True)
    paths = sorted((shared / "data/stills/dev").rglob("*.jpg"))[::3]
    assert len(paths) == 11
    assert [p.name for p in paths if not detector.detect(cv2.imread(str(p))[..., ::-1])] == []
