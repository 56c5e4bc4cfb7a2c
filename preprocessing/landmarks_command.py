"""`unmask landmarks`: the calibrated landmarks of one face of a video, as LRNet's text and as an overlay video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from preprocessing.calibration import CalibratedTrack, calibrate_tracks, face_size, normalise_track
from preprocessing.errors import MediaError, UndecodableMedia, UnsupportedMedia
from preprocessing.landmark_files import OpenFaceRows, is_openface, read_openface, read_points_txt, write_lrnet_txt
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.media import open_media
from preprocessing.overlay import write_overlay
from preprocessing.settings import Settings
from preprocessing.tracking import FaceTracker
from preprocessing.types import Frame, Points, Track

Progress = Callable[[str, int], None]
"""Called with the stage (`tracking`, `calibration`, `overlay`) and the frames that it has seen."""


class NoFace(MediaError):
    """A video in which no face was found, or not the one that was asked for."""

    code = "no_face"
    status = 422


@dataclass(frozen=True)
class LandmarksSummary:
    """What was written. `rows` frames of face `track`, of `size` pixels on average; `tracks` gives the rows of every
    face that there was; `messages` are sentences for the person."""

    rows: int
    track: int
    tracks: dict[int, int]
    size: int
    rejected_share: float
    calibrated: bool
    out: Path
    video: Path | None
    messages: tuple[str, ...]


def landmarks(
    input: Path,
    out: Path,
    *,
    source: Path | None = None,
    video: Path | None = None,
    calibrate: bool = True,
    track: int | None = None,
    settings: Settings | None = None,
    progress: Progress = lambda stage, frames: None,
) -> LandmarksSummary:
    """Write the landmarks of one face of the video `input` to `out`, normalised and calibrated as LRNet's text.

    `source`: an OpenFace CSV or rows of 136 pixel coordinates, one row a frame; without it unmask finds and follows the
    faces itself. `track` chooses among several faces (a track's number, or OpenFace's face_id); by default the longest
    of unmask's tracks. `calibrate=False` only normalises. `video`: where the overlay before and after calibration goes.

    Raises a MediaError, or a ValueError for arguments that do not fit; both are sentences for the person.
    """
    settings = settings or Settings()
    if video is not None and not calibrate:
        raise ValueError("the overlay shows landmarks before and after calibration: it needs the calibration")
    _check_targets(out, video, input, source)
    messages: list[str] = []
    with open_media(input, settings.limits) as media:
        if media.info.kind != "video":
            raise UnsupportedMedia(f"{input.name} is an image", "landmarks over time need a video")
        if source is not None:
            chosen, complete = _read_source(source, track, messages)
            tracks = {chosen.id: chosen}
        else:
            tracks = _find_tracks(media, settings, messages, progress)
            chosen, complete = _choose(tracks, track, messages), False
        frames = iter(media)
        result = _calibrate(_told(frames, "calibration", progress), chosen, calibrate, source, input)
        # A file with a row for every frame may not stop before the video does: then it belongs to another one.
        if complete and next(frames, None) is not None:
            count = len(chosen) + 1 + sum(1 for _ in frames)
            raise _mismatch(source, input, len(chosen), count)
        del frames
        _describe(result, chosen, messages)
        with _writing(out):
            write_lrnet_txt(out, result.values)
        if video is not None:
            with _writing(video):
                write_overlay(_told(media, "overlay", progress), result, video)
        messages.extend(media.warnings)
    return LandmarksSummary(
        rows=len(result),
        track=chosen.id,
        tracks={key: len(found) for key, found in tracks.items()},
        size=face_size(chosen.landmarks),
        rejected_share=result.rejected_share,
        calibrated=calibrate,
        out=out,
        video=video,
        messages=tuple(dict.fromkeys(messages)),
    )


def _check_targets(out: Path, video: Path | None, input: Path, source: Path | None) -> None:
    """What cannot be written is said before minutes of work, and no input is overwritten."""
    targets = [path for path in (out, video) if path is not None]
    for path in targets:
        if path.is_dir():
            raise ValueError(f"{path} is a directory: name a file to write to")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"no permission to write to the folder {path.parent}")
        if path.resolve() in {taken.resolve() for taken in (input, source) if taken is not None}:
            raise ValueError(f"{path} is an input: name another file to write to")
    if len(targets) == 2 and targets[0].resolve() == targets[1].resolve():
        raise ValueError(f"{out} was named for both the landmarks and the overlay video")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None


def _told(frames: Iterable[Frame], stage: str, progress: Progress) -> Iterator[Frame]:
    for count, frame in enumerate(frames, 1):
        progress(stage, count)
        yield frame


def _read_source(path: Path, face: int | None, messages: list[str]) -> tuple[Track, bool]:
    """The file's landmarks, and whether it must have a row for every frame of the video."""
    if is_openface(path):
        rows = read_openface(path, face)
        lost = int((~rows.success).sum())
        if lost:
            messages.append(f"OpenFace lost the face in {lost} of {len(rows.frames)} frames; its points are kept there")
        return _as_track(rows), face is None
    if face is not None:
        raise ValueError(f"{path.name} holds one face: there is no other to choose")
    points = read_points_txt(path)
    every = np.arange(len(points))
    return _as_track(OpenFaceRows(0, every, points, np.ones(len(points), dtype=np.bool_))), True


def _as_track(rows: OpenFaceRows) -> Track:
    # float64 on purpose: a coordinate such as 262.2 rounded to float32 can end in another whole pixel of the square.
    points = cast(Points, rows.points)
    corners = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)
    return Track(rows.face, rows.frames, np.zeros(len(rows.frames)), corners, points)


def _find_tracks(
    media: Iterable[Frame], settings: Settings, messages: list[str], progress: Progress
) -> dict[int, Track]:
    tracker, predictor = FaceTracker(settings.tracking), create_landmark_predictor()
    rows: dict[int, list[tuple[int, float, NDArray[np.float32], Points]]] = {}
    for chunk in tracker.chunks(_told(media, "tracking", progress)):
        for face in chunk.faces:
            shift = np.array(face.offset, np.float32)
            points = predictor.predict(face.image, (face.box - np.tile(shift, 2))[None])[0, :68] + shift
            rows.setdefault(face.track, []).append((face.frame, face.time, face.box, points))
    messages.extend(tracker.warnings)
    if not rows:
        raise NoFace("no face was found in the video", "landmarks from another program can be given (--landmarks)")
    return {
        number: Track(
            number,
            np.array([row[0] for row in found], np.int64),
            np.array([row[1] for row in found], np.float64),
            np.stack([row[2] for row in found]),
            np.stack([row[3] for row in found]),
        )
        for number, found in rows.items()
    }


def _choose(tracks: dict[int, Track], number: int | None, messages: list[str]) -> Track:
    listed = {key: f"{key} ({len(found)} frames)" for key, found in tracks.items()}
    if number is not None and number not in tracks:
        raise NoFace(f"there is no face track {number}", f"found: {', '.join(listed.values())}")
    chosen = tracks[number] if number is not None else max(tracks.values(), key=lambda found: (len(found), -found.id))
    others = [text for key, text in listed.items() if key != chosen.id]
    if others and number is None:
        messages.append(
            f"took the longest of {len(tracks)} face tracks, {listed[chosen.id]}; "
            f"others, to be chosen by number: {', '.join(others)}"
        )
    return chosen


def _calibrate(
    frames: Iterator[Frame], track: Track, calibrate: bool, source: Path | None, input: Path
) -> CalibratedTrack:
    counted = _Counted(frames)
    try:
        if calibrate:
            return calibrate_tracks(counted, {track.id: track})[track.id]
        size = (0, 0)
        for frame in counted:
            size = (frame.image.shape[1], frame.image.shape[0])
            if frame.index >= track.frames[-1]:
                return normalise_track(track, size)
        raise UndecodableMedia("the video ends before its landmarks do")
    except UndecodableMedia:
        if source is not None and counted.ended:
            raise _mismatch(source, input, int(track.frames[-1]) + 1, counted.count) from None
        raise


class _Counted:
    """Frames, how many passed, and whether they came to their end by themselves."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self.count = 0
        self.ended = False

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.count += 1
            yield frame
        self.ended = True


def _mismatch(source: Path | None, input: Path, rows: int, frames: int) -> MediaError:
    name = source.name if source is not None else "the landmark file"
    return UnsupportedMedia(
        f"{name} has landmarks for {rows} frames, {input.name} has {frames} frames",
        "give the video from which the landmarks were made, uncut and at its own frame rate",
    )


def _describe(result: CalibratedTrack, track: Track, messages: list[str]) -> None:
    if not len(result):
        raise NoFace("the face lies outside the picture in every frame", "are the landmarks in pixels of this video?")
    if result.dropped:
        messages.append(f"{result.dropped} frames whose face lies outside the picture have no row")
    gaps = int((np.diff(track.frames) > 1).sum())
    if gaps:
        messages.append(f"the face is missing {gaps} times in between; calibration starts anew after each")
