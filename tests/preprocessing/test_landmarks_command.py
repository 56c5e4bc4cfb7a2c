"""`unmask landmarks` behind its command line: real videos in, LRNet's text and an overlay out, errors in words."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from preprocessing.errors import MediaError, MediaMissing, UnsupportedMedia
from preprocessing.landmark_files import read_lrnet_txt
from preprocessing.landmarks_command import NoFace, landmarks
from preprocessing.settings import Settings, TrackingSettings

FRAMES = 28
HOG = Settings(tracking=TrackingSettings(detector="hog"))


def portrait() -> NDArray[np.uint8]:
    from skimage.data import astronaut

    return cv2.resize(astronaut()[:260, 90:350], (200, 200), interpolation=cv2.INTER_AREA)


def encode(path: Path, pictures: list[NDArray[np.uint8]]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that drifts, and the same face mirrored, which comes in from the right and stays from frame 12 on."""
    face = portrait()
    pictures = []
    for n in range(FRAMES):
        canvas = np.full((240, 480, 3), 90, np.uint8)
        canvas[10 + n // 2 : 210 + n // 2, 10 + n : 210 + n] = face
        left = max(480 - 20 * n, 240)
        canvas[20:220, left : left + 200] = face[:, ::-1][:, : 480 - left]
        pictures.append(canvas)
    return encode(tmp_path_factory.mktemp("video") / "two.mp4", pictures)


@pytest.fixture(scope="module")
def no_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flat = [np.full((120, 160, 3), 100 + n, np.uint8) for n in range(6)]
    return encode(tmp_path_factory.mktemp("video") / "empty.mp4", flat)


def points_file(path: Path, rows: int) -> Path:
    points = np.random.default_rng(0).uniform(30, 110, (1, 136)) + np.zeros((rows, 1))
    np.savetxt(path, points, fmt="%.2f")
    return path


def test_the_published_example_comes_out_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden/lrnet/calibrator_example"
    video = shared / "data/videos/dev/lrnet_demo/fake/000_003.mp4"
    found = landmarks(video, tmp_path / "out.txt", source=folder / "000_003.csv")
    assert (tmp_path / "out.txt").read_bytes() == (folder / "000_003.calibrated.txt").read_bytes()
    assert (found.rows, found.size, found.rejected_share) == (396, 107, 2074 / 26860)
    assert found.calibrated and not found.messages


def test_the_longest_face_is_taken_and_the_others_are_named(two_people: Path, tmp_path: Path) -> None:
    stages: dict[str, int] = {}
    found = landmarks(
        two_people, tmp_path / "a.txt", video=tmp_path / "a.mp4", settings=HOG, progress=stages.__setitem__
    )
    assert found.track == 0 and found.tracks[0] == found.rows == FRAMES
    assert len(found.tracks) == 2 and found.tracks[1] < FRAMES
    assert any("took the longest of 2 face tracks" in message and "1 (" in message for message in found.messages)
    assert read_lrnet_txt(tmp_path / "a.txt").shape == (FRAMES, 136)
    assert stages == {"tracking": FRAMES, "calibration": FRAMES, "overlay": FRAMES}
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) == FRAMES

    other = landmarks(two_people, tmp_path / "b.txt", track=1, settings=HOG)
    assert other.track == 1 and other.rows == found.tracks[1]
    assert len(read_lrnet_txt(tmp_path / "b.txt")) == other.rows
    with pytest.raises(NoFace, match=r"no face track 7; found: 0 \(28 frames\), 1 \("):
        landmarks(two_people, tmp_path / "c.txt", track=7, settings=HOG)


def test_without_calibration_the_detections_are_only_normalised(two_people: Path, tmp_path: Path) -> None:
    landmarks(two_people, tmp_path / "calibrated.txt", settings=HOG)
    plain = landmarks(two_people, tmp_path / "plain.txt", calibrate=False, settings=HOG)
    assert not plain.calibrated and plain.rejected_share == 0
    calibrated, detected = (read_lrnet_txt(tmp_path / f"{name}.txt") for name in ("calibrated", "plain"))
    assert np.array_equal(calibrated[0], detected[0])
    assert 0 < np.abs(calibrated - detected).mean() < 0.05


def test_rows_in_pixels_are_calibrated_without_looking_for_faces(no_people: Path, tmp_path: Path) -> None:
    found = landmarks(no_people, tmp_path / "out.txt", source=points_file(tmp_path / "in.txt", 6))
    assert found.rows == 6 and found.tracks == {0: 6}
    rows = read_lrnet_txt(tmp_path / "out.txt")
    assert (rows == rows[0]).all()


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize("rows", [4, 8])
def test_landmarks_of_another_length_than_the_video_are_refused(
    no_people: Path, tmp_path: Path, rows: int, calibrate: bool
) -> None:
    source = points_file(tmp_path / "in.txt", rows)
    message = rf"in.txt has landmarks for {rows} frames, empty.mp4 has 6 frames"
    with pytest.raises(UnsupportedMedia, match=message):
        landmarks(no_people, tmp_path / "out.txt", source=source, calibrate=calibrate)
    assert not (tmp_path / "out.txt").exists()


def test_a_video_without_a_face_is_an_answer_of_its_own(no_people: Path, tmp_path: Path) -> None:
    with pytest.raises(NoFace, match="no face was found"):
        landmarks(no_people, tmp_path / "out.txt", settings=HOG)
    assert not list(tmp_path.iterdir())


def test_landmarks_outside_the_picture_give_no_file(no_people: Path, tmp_path: Path) -> None:
    far = np.random.default_rng(0).uniform(3000, 3100, (6, 136))
    np.savetxt(tmp_path / "in.txt", far)
    with pytest.raises(NoFace, match="outside the picture in every frame"):
        landmarks(no_people, tmp_path / "out.txt", source=tmp_path / "in.txt")


def test_inputs_that_are_not_there_or_not_videos_are_named(no_people: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), portrait())
    with pytest.raises(UnsupportedMedia, match=r"still.png is an image"):
        landmarks(tmp_path / "still.png", tmp_path / "out.txt")
    with pytest.raises(MediaMissing, match="no such file"):
        landmarks(tmp_path / "none.mp4", tmp_path / "out.txt")
    with pytest.raises(MediaMissing, match=r"none\.csv"):
        landmarks(no_people, tmp_path / "out.txt", source=tmp_path / "none.csv")
    (tmp_path / "words.txt").write_text("hello world\n")
    with pytest.raises(MediaError, match="line 1: 2 values, expected 136"):
        landmarks(no_people, tmp_path / "out.txt", source=tmp_path / "words.txt")


def test_outputs_that_cannot_be_written_are_said_before_any_work(no_people: Path, tmp_path: Path) -> None:
    source = points_file(tmp_path / "in.txt", 6)
    with pytest.raises(ValueError, match="is a directory"):
        landmarks(no_people, tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        landmarks(no_people, tmp_path / "deep" / "out.txt")
    with pytest.raises(ValueError, match="is an input"):
        landmarks(no_people, source, source=source)
    with pytest.raises(ValueError, match="both the landmarks and the overlay"):
        landmarks(no_people, tmp_path / "out", video=tmp_path / "out")
    with pytest.raises(ValueError, match="needs the calibration"):
        landmarks(no_people, tmp_path / "out.txt", video=tmp_path / "out.mp4", calibrate=False)
    with pytest.raises(ValueError, match="holds one face"):
        landmarks(no_people, tmp_path / "out.txt", source=source, track=1)
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
