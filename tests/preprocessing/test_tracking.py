"""Tracks: every frame once, one track a person and scene, bounded memory, and what was left out is told."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut import HEAD, film, noise, room, with_heads

from preprocessing.cuts import CutDetector
from preprocessing.settings import TrackingSettings
from preprocessing.tracking import CHUNK_BYTES, FaceTracker, margin_crop
from preprocessing.types import FaceCrop, Frame, Image

HOG = TrackingSettings(detector="hog")


def track(
    frames: list[Frame], settings: TrackingSettings = HOG, still: bool = False
) -> tuple[dict[int, list[FaceCrop]], FaceTracker]:
    """The faces by track, after checking what holds for every input."""
    tracker = FaceTracker(settings)
    chunks = list(tracker.chunks(frames, still))
    assert [c.first_frame for c in chunks] == np.cumsum([0] + [c.frames for c in chunks])[:-1].tolist()
    assert sum(c.frames for c in chunks) == tracker.frames_seen == len(frames)
    assert all(0 < c.frames <= 64 for c in chunks)
    by_frame = {frame.index: frame for frame in frames}
    tracks: dict[int, list[FaceCrop]] = {}
    for chunk in chunks:
        order = [(face.frame, face.track) for face in chunk.faces]
        assert order == sorted(order) and len(set(order)) == len(order)
        for face in chunk.faces:
            frame = by_frame[face.frame]
            x, y = face.offset
            height, width = face.image.shape[:2]
            assert face.time == frame.time
            assert np.array_equal(face.image, frame.image[y : y + height, x : x + width])
            assert not np.shares_memory(face.image, frame.image)
            tracks.setdefault(face.track, []).append(face)
    assert sorted(tracks) == list(range(len(tracks)))
    for faces in tracks.values():
        assert np.diff([face.frame for face in faces]).tolist() == [1] * (len(faces) - 1)
    return tracks, tracker


def spans(tracks: dict[int, list[FaceCrop]]) -> list[tuple[int, int]]:
    return [(faces[0].frame, faces[-1].frame) for faces in tracks.values()]


def swaying(count: int, x: int = 100, step: float = 3) -> list[Image]:
    return [with_heads([(int(x + step * i), 60, 250)]) for i in range(count)]


def test_one_face_is_one_track_in_every_frame() -> None:
    tracks, tracker = track(film(swaying(30)))
    assert spans(tracks) == [(0, 29)]
    assert all(face.detected for face in tracks[0])
    assert tracker.warnings == [] and tracker.faces_dropped == 0
    centres = np.array([face.box[[0, 2]].mean() for face in tracks[0]])
    assert np.abs(centres - (100 + 122 + 3 * np.arange(30))).max() < 14


def test_boxes_between_two_detections_are_interpolated() -> None:
    tracks, _ = track(film(swaying(9, step=8)), TrackingSettings(detector="hog", box_every=4))
    boxes = np.array([face.box for face in tracks[0]])
    for start in (0, 4):
        for part in (1, 2, 3):
            expected = boxes[start] + part / 4 * (boxes[start + 4] - boxes[start])
            assert np.allclose(boxes[start + part], expected, atol=1e-3)
    assert boxes[8, 0] - boxes[0, 0] > 40


def test_every_frame_is_detected_where_box_every_is_one() -> None:
    tracks, _ = track(film(swaying(5)), TrackingSettings(detector="hog", box_every=1))
    assert spans(tracks) == [(0, 4)]


def test_several_people_have_a_track_each() -> None:
    pictures = [with_heads([(4 * i, 60, 250), (480 - 3 * i, 70, 220)], 720) for i in range(20)]
    tracks, _ = track(film(pictures))
    assert spans(tracks) == [(0, 19), (0, 19)]
    first, second = (np.array([face.box[0] for face in tracks[i]]) for i in (0, 1))
    assert (first < second).all() or (first > second).all()


def test_a_cut_ends_the_track_and_the_face_is_found_again_in_the_next_frame() -> None:
    before = swaying(11)
    after = [noise(5) // 3 for _ in range(10)]
    for i, picture in enumerate(after):
        picture[40:290, 150 + i : 400 + i] = with_heads([(100, 60, 250)])[60:310, 100:350]
    tracks, _ = track(film(before + after))
    assert spans(tracks) == [(0, 10), (11, 20)]
    assert all(face.detected for faces in tracks.values() for face in faces)


def test_a_cut_to_a_scene_without_a_face() -> None:
    tracks, _ = track(film(swaying(10) + [noise(3)] * 12))
    assert spans(tracks) == [(0, 9)]


def test_a_face_missed_once_is_carried_on_the_same_track() -> None:
    pictures = [with_heads([(100, 60, 250)]) for _ in range(24)]
    for index in range(7, 10):
        pictures[index] = _hide_face(pictures[index])
    tracks, _ = track(film(pictures))
    assert spans(tracks) == [(0, 23)]
    assert [face.frame for face in tracks[0] if not face.detected] == list(range(5, 13))


def test_a_face_that_vanishes_and_comes_back_is_a_new_track_and_the_gap_has_no_face() -> None:
    pictures = [with_heads([(100, 60, 250)]) for _ in range(48)]
    for index in range(13, 33):
        pictures[index] = _hide_face(pictures[index])
    tracks, _ = track(film(pictures))
    assert spans(tracks) == [(0, 12), (36, 47)]
    assert all(face.detected for faces in tracks.values() for face in faces)


def _hide_face(picture: Image) -> Image:
    hidden = picture.copy()
    hidden[110:260, 160:290] = hidden[300, 40]
    return hidden


def test_a_face_of_a_few_frames_is_left_out_and_told() -> None:
    with_face = room(640, 480).copy()
    with_face[150:330, 250:420] = HEAD[50:230, 40:210]
    pictures = [room(640, 480)] * 12 + [with_face] * 5 + [room(640, 480)] * 20
    tracks, tracker = track(film(pictures))
    assert tracks == {}
    assert len(tracker.warnings) == 1 and "too briefly" in tracker.warnings[0]


def test_a_video_of_two_frames_keeps_its_face() -> None:
    tracks, _ = track(film(swaying(2)))
    assert spans(tracks) == [(0, 1)]


@pytest.mark.parametrize("pictures", [[room(240, 180)] * 70, [noise(i, 240, 180) for i in range(9)]])
def test_frames_without_a_face_are_covered_by_empty_chunks(pictures: list[Image]) -> None:
    tracks, tracker = track(film(pictures))
    assert tracks == {} and tracker.warnings == []


def test_nothing_in_nothing_out() -> None:
    assert list(FaceTracker(HOG).chunks([])) == []


def test_times_of_a_variable_frame_rate_are_kept() -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.005, 0.3, 12)).tolist()
    frames = [Frame(3 * i, t, picture) for i, (t, picture) in enumerate(zip(times, swaying(12), strict=True))]
    chunks = list(FaceTracker(HOG).chunks(frames))
    assert [(f.frame, f.time) for c in chunks for f in c.faces] == [(3 * i, t) for i, t in enumerate(times)]


def test_a_change_of_size_is_a_cut() -> None:
    small = [cv2.resize(picture, (360, 270), interpolation=cv2.INTER_AREA) for picture in swaying(9)]
    tracks, _ = track(film(swaying(9) + small))
    assert spans(tracks) == [(0, 8), (9, 17)]


def test_200_faces_in_a_still_are_cut_to_the_largest_and_told() -> None:
    size = [180 if column == 0 else 120 for column in range(20)]
    places = [(int(sum(size[:c])), 180 * row, size[c]) for row in range(10) for c in range(20)]
    picture = with_heads(places, sum(size), 1800)
    tracks, tracker = track([Frame(0, 0.0, picture)], TrackingSettings(), still=True)
    assert len(tracks) == 50
    # At 44 pixels of the searched picture a few of the small heads are missed; none of those found goes untold.
    found = 50 + tracker.faces_dropped
    assert 190 <= found <= 200
    assert f"{found} faces in a frame: the 50 largest were analysed; raise max_faces" in tracker.warnings
    large = [face for faces in tracks.values() for face in faces if face.box[0] < 180]
    assert len(large) == 10  # none of the large ones is among the dropped


def test_tracks_over_the_limit_are_not_opened_and_told() -> None:
    pictures = swaying(6) + [noise(1)] * 6 + swaying(6)
    tracks, tracker = track(film(pictures), TrackingSettings(detector="hog", max_tracks=1))
    assert spans(tracks) == [(0, 5)]
    assert tracker.faces_dropped == 1 and "raise max_tracks" in tracker.warnings[0]


def test_a_chunk_of_many_large_faces_ends_before_64_frames() -> None:
    head = cv2.resize(with_heads([(100, 60, 250)])[60:310, 100:350], (1000, 1000))
    chunks = list(FaceTracker(HOG).chunks(film([head] * 40)))
    assert len(chunks) > 1
    for chunk in chunks:
        assert sum(face.image.nbytes for face in chunk.faces) <= CHUNK_BYTES
    assert sum(len(chunk.faces) for chunk in chunks) == 40


def test_memory_does_not_grow_with_the_video() -> None:
    alive: set[int] = set()
    most = 0

    def frames(count: int) -> Iterator[Frame]:
        nonlocal most
        for index in range(count):
            image = with_heads([(100 + index % 7, 60, 250)])
            alive.add(index)
            weakref.finalize(image, alive.discard, index)
            most = max(most, len(alive))
            yield Frame(index, index / 25, image)
            del image

    chunks = list(FaceTracker(TrackingSettings(detector="hog", box_every=5)).chunks(frames(120)))
    assert sum(len(chunk.faces) for chunk in chunks) == 120
    assert most <= 5 + 2


def test_a_margin_crop_is_clipped_at_the_border_and_keeps_its_offset() -> None:
    frame = noise(2)
    crop, offset = margin_crop(frame, np.array([-20, 300, 60, 380]), 2.3)
    assert offset == (0, 248) and crop.shape == (360 - 248, 113, 3)
    far, where = margin_crop(frame, np.array([900, 900, 950, 950]), 2.0)
    assert far.shape == (1, 1, 3) and where == (479, 359)


def test_motion_and_flicker_are_not_cuts_but_a_new_picture_is() -> None:
    def cuts(pictures: list[Image]) -> list[int]:
        detector = CutDetector()
        return [i for i, picture in enumerate(pictures) if detector.is_cut(picture)]

    wide = cv2.resize(noise(4, 480, 120), (2400, 600), interpolation=cv2.INTER_CUBIC)
    pan = [np.ascontiguousarray(wide[:, 15 * i : 15 * i + 800]) for i in range(30)]
    flicker = [
        np.clip(with_heads([(100, 60, 250)]) * (1 + 0.04 * (-1) ** i), 0, 255).astype(np.uint8) for i in range(9)
    ]
    assert cuts(pan) == [] and cuts(flicker) == []
    assert cuts(flicker + [noise(9)] * 4 + flicker) == [9, 13]
    whip = [np.ascontiguousarray(wide[:, 100 * i : 100 * i + 800]) for i in range(14)]
    assert len(cuts(pan[:8] + whip)) <= 4


def test_real_clips_have_one_track_and_a_real_cut_two(shared: Path) -> None:
    from preprocessing.media import open_media
    from preprocessing.settings import MediaLimits

    def first(path: Path, count: int) -> list[Frame]:
        with open_media(path, MediaLimits()) as media:
            return [frame for frame, _ in zip(media, range(count), strict=False)]

    videos = shared / "data/videos"
    one, _ = track(first(videos / "dev/lrnet_demo/real/ff_real.mp4", 20), TrackingSettings())
    assert spans(one) == [(0, 19)]
    two, _ = track(first(videos / "train/liveportrait_driving/real/d12.mp4", 112), HOG)
    assert spans(two) == [(0, 102), (103, 111)]
