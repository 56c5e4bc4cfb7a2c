"""From frames to tracks: faces detected every few frames, followed by overlap, cut out with a margin, in chunks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from preprocessing.cuts import CutDetector
from preprocessing.faces import FaceDetector, create_face_detector
from preprocessing.faces.base import boxes_of, overlaps
from preprocessing.settings import TrackingSettings
from preprocessing.types import CropChunk, Detection, FaceCrop, Frame, Image

CHUNK_FRAMES = 64
CHUNK_BYTES = 8 * 2**20
"""Pixels of a chunk's crops, at most (a single frame's crops may be more)."""
AHEAD_BYTES = 128 * 2**20
"""Pixels of the frames kept between two detections: very large frames are detected more often to stay below."""
HELD_BYTES = 32 * 2**20
"""Pixels of the crops that wait until their track is known to be a face."""
SAME_TRACK_OVERLAP = 0.2
"""A face moves by less than about half its width between two detections; a neighbour's box overlaps less."""
MISSES = 2
"""Detections in a row that may miss a face while its box is carried."""
CONFIRMATIONS = 3
"""Detections that make a track; background rarely looks like a face in the same place three times."""
CLEAR = 0.9
"""A dropped track with this score is told of: it was likely a face."""


@dataclass(eq=False)
class _Track:
    """A track being followed. `sighted`: position of its last detection; rows after it are carried."""

    box: NDArray[np.float32]
    score: float
    sighted: int
    sightings: int = 1
    misses: int = 0
    confirmed: bool = False
    ended: bool = False
    id: int | None = None
    refused: bool = False


@dataclass(eq=False)
class _Row:
    """A face of one frame, cut out, that waits for its track to be confirmed."""

    track: _Track
    box: NDArray[np.float32]
    score: float
    detected: bool
    offset: tuple[int, int]
    image: Image

    def face(self, frame: _Waiting) -> FaceCrop:
        """The crop that leaves the tracker; the track has its number."""
        assert self.track.id is not None
        return FaceCrop(
            self.track.id, frame.index, frame.time, self.box, self.score, self.detected, self.offset, self.image
        )


@dataclass(eq=False)
class _Waiting:
    """A frame whose faces are known, without its pixels. `position` counts frames from 0."""

    position: int
    index: int
    time: float
    rows: list[_Row] = field(default_factory=list)


class FaceTracker:
    """Follows every face of a video (or finds those of a still) and cuts it out of each frame.

    Boxes are detected every `box_every` frames and interpolated linearly in between. A scene cut ends all tracks in the
    frame before it and starts new ones in the frame after it. A face missed by up to MISSES detections keeps its last
    box (`detected` False); if it does not come back, the track ends where it was last detected. A track with fewer than
    CONFIRMATIONS detections is dropped as a false find, unless it was there at every detection of its scene.

    After (or while) `chunks` is consumed: `frames_seen`, `faces_dropped` (faces of the fullest frame over `max_faces`,
    plus tracks over `max_tracks`) and `warnings`, sentences for people.
    """

    def __init__(self, settings: TrackingSettings, detector: FaceDetector | None = None) -> None:
        self.settings = settings
        self._detector = detector
        self._reset()

    def _reset(self) -> None:
        self.frames_seen = 0
        self._over_faces = 0
        self._most_faces = 0
        self._over_tracks = 0
        self._brief_tracks = 0
        self._cuts = CutDetector()
        self._ahead: list[Frame] = []
        self._tracks: list[_Track] = []
        self._waiting: deque[_Waiting] = deque()
        self._held = 0
        self._next_id = 0
        self._steps = 0

    @property
    def faces_dropped(self) -> int:
        """Faces over `max_faces` in the fullest frame plus tracks over `max_tracks`."""
        return self._over_faces + self._over_tracks

    @property
    def warnings(self) -> list[str]:
        """What was left out and which setting takes it in."""
        told = []
        if self._over_faces:
            told.append(
                f"{self._most_faces} faces in a frame: the {self.settings.max_faces} largest were analysed;"
                " raise max_faces"
            )
        if self._over_tracks:
            told.append(
                f"{self._over_tracks} more faces appear after the first {self.settings.max_tracks} and were not"
                " analysed; raise max_tracks"
            )
        if self._brief_tracks:
            told.append(
                f"{self._brief_tracks} clear faces were seen too briefly to be followed and were left out;"
                " lower box_every"
            )
        return told

    def chunks(self, frames: Iterable[Frame], still: bool = False) -> Iterator[CropChunk]:
        """The faces of all frames in chunks that cover every frame once, in order.

        Memory is bounded: at most `box_every` frames (AHEAD_BYTES), HELD_BYTES of waiting crops and one chunk.
        """
        self._reset()
        detector = self._detector or create_face_detector(self.settings.detector, still)
        detector.reset()
        chunk = _ChunkBuilder()
        position = -1
        for frame in frames:
            position += 1
            self.frames_seen = position + 1
            every = self._spacing(frame.image)
            if self._cuts.is_cut(frame.image) or position == 0:
                self._close_scene(detector, position)
                yield from self._emit(chunk, everything=True)
                detector.reset()
                self._ahead.append(frame)
                self._detect_newest(detector, position)
            else:
                self._ahead.append(frame)
                if len(self._ahead) >= every:
                    self._detect_newest(detector, position)
            yield from self._emit(chunk, everything=self._held > HELD_BYTES)
        self._close_scene(detector, position + 1)
        yield from self._emit(chunk, everything=True)
        if chunk.frames:
            yield chunk.take()

    def _spacing(self, image: Image) -> int:
        return max(1, min(self.settings.box_every, AHEAD_BYTES // max(image.nbytes, 1)))

    def _close_scene(self, detector: FaceDetector, end: int) -> None:
        """The scene ends before position `end`: detect in its last frame, so that no box is carried over the cut."""
        if self._ahead:
            self._detect_newest(detector, end - 1)
        for track in self._tracks:
            # Short scenes cannot confirm anything: what was there all the time is taken for a face.
            track.confirmed = track.confirmed or track.sightings == self._steps
            self._end(track)
        self._tracks = []
        self._steps = 0

    def _detect_newest(self, detector: FaceDetector, position: int) -> None:
        """Detect in the newest kept frame, give its faces to tracks, and cut out the faces of all kept frames."""
        found = self._largest(detector.detect(self._ahead[-1].image))
        self._steps += 1
        known = list(self._tracks)
        matches = _match(np.array([t.box for t in known], np.float32).reshape(-1, 4), boxes_of(found))
        count = len(self._ahead)
        waiting = [_Waiting(position - count + 1 + i, f.index, f.time) for i, f in enumerate(self._ahead)]
        for i, track in enumerate(known):
            face = found[matches[i]] if i in matches else None
            for step in range(count):
                share = (step + 1) / count
                box = track.box if face is None else track.box + np.float32(share) * (face.box - track.box)
                score = track.score if face is None else (1 - share) * track.score + share * face.score
                self._add(waiting[step], self._ahead[step], track, box, score, face is not None and track.misses == 0)
            if face is None:
                track.misses += 1
            else:
                track.box, track.score, track.sighted, track.misses = face.box, face.score, position, 0
                track.sightings += 1
                track.confirmed = track.confirmed or track.sightings >= CONFIRMATIONS
        taken = set(matches.values())
        for j, face in enumerate(found):
            if j not in taken:
                track = _Track(face.box, face.score, position)
                known.append(track)
                self._add(waiting[-1], self._ahead[-1], track, face.box, face.score, True)
        for track in known:
            if track.misses > MISSES:
                self._end(track)
        self._tracks = [track for track in known if not track.ended]
        self._waiting.extend(waiting)
        self._ahead.clear()

    def _end(self, track: _Track) -> None:
        track.ended = True
        if not track.confirmed and track.score >= CLEAR:
            self._brief_tracks += 1

    def _largest(self, found: list[Detection]) -> list[Detection]:
        limit = self.settings.max_faces
        if len(found) > limit:
            self._over_faces = max(self._over_faces, len(found) - limit)
            self._most_faces = max(self._most_faces, len(found))
            sizes = [float(np.prod(face.box[2:] - face.box[:2])) for face in found]
            largest = sorted(range(len(found)), key=lambda i: (-sizes[i], i))[:limit]
            found = [found[i] for i in sorted(largest)]
        return found

    def _add(
        self, waiting: _Waiting, frame: Frame, track: _Track, box: NDArray[np.float32], score: float, detected: bool
    ) -> None:
        image, offset = margin_crop(frame.image, box, self.settings.crop_margin)
        self._held += image.nbytes
        waiting.rows.append(_Row(track, box.astype(np.float32), float(score), detected, offset, image))

    def _emit(self, chunk: _ChunkBuilder, everything: bool) -> Iterator[CropChunk]:
        """Moves the frames whose every face is decided into the chunk; `everything` takes the undecided for faces."""
        while self._waiting:
            waiting = self._waiting[0]
            if not everything and not all(_decided(row.track, waiting.position) for row in waiting.rows):
                return
            self._waiting.popleft()
            faces = []
            for row in waiting.rows:
                self._held -= row.image.nbytes
                if self._takes(row.track, waiting.position):
                    faces.append(row.face(waiting))
            faces.sort(key=lambda face: face.track)
            if chunk.full(faces):
                yield chunk.take()
            chunk.add(waiting.position, faces)

    def _takes(self, track: _Track, position: int) -> bool:
        """Whether the track's row at `position` is kept; gives the track its number when it is its first."""
        if track.refused or (track.ended and (not track.confirmed or position > track.sighted)):
            return False
        if track.id is None:
            if self._next_id >= self.settings.max_tracks:
                track.refused = True
                self._over_tracks += 1
                return False
            track.id = self._next_id
            self._next_id += 1
        track.confirmed = True
        return True


def _decided(track: _Track, position: int) -> bool:
    return track.ended or (track.confirmed and position <= track.sighted)


class _ChunkBuilder:
    """Collects consecutive frames' faces until the chunk is full."""

    def __init__(self) -> None:
        self._first = self.frames = self._bytes = 0
        self._faces: list[FaceCrop] = []

    def full(self, faces: list[FaceCrop]) -> bool:
        """Whether one more frame with these faces would be too much."""
        more = sum(face.image.nbytes for face in faces)
        return self.frames >= CHUNK_FRAMES or (self.frames > 0 and self._bytes + more > CHUNK_BYTES)

    def add(self, position: int, faces: list[FaceCrop]) -> None:
        """The next frame's faces."""
        if self.frames == 0:
            self._first = position
        self.frames += 1
        self._bytes += sum(face.image.nbytes for face in faces)
        self._faces.extend(faces)

    def take(self) -> CropChunk:
        """The chunk; the builder is empty afterwards."""
        chunk = CropChunk(self._first, self.frames, self._faces)
        self.frames, self._bytes, self._faces = 0, 0, []
        return chunk


def _match(known: NDArray[np.float32], found: NDArray[np.float32]) -> dict[int, int]:
    """Pairs known box -> found box with the largest total overlap, each over SAME_TRACK_OVERLAP."""
    overlap = overlaps(known, found)
    if min(overlap.shape) <= 1:  # one person: the best pair is the best assignment
        if not overlap.size:
            return {}
        i, j = divmod(int(overlap.argmax()), overlap.shape[1])
        return {i: j} if overlap[i, j] >= SAME_TRACK_OVERLAP else {}
    # Imported here: it takes a second and 40 MB that a picture of one person does not need.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-np.where(overlap >= SAME_TRACK_OVERLAP, overlap, 0.0))
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if overlap[i, j] >= SAME_TRACK_OVERLAP}


def margin_crop(image: Image, box: NDArray[np.floating], margin: float) -> tuple[Image, tuple[int, int]]:
    """The square around `box` (4,), `margin` times its longer side, clipped to the image (H, W, 3); a copy.

    Also the position (x, y) of its first pixel in the image. A box outside leaves the nearest pixel.
    """
    height, width = image.shape[:2]
    half = margin * float(max(box[2] - box[0], box[3] - box[1])) / 2
    x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    left, top = min(max(math.floor(x - half), 0), width - 1), min(max(math.floor(y - half), 0), height - 1)
    right = min(max(math.ceil(x + half) + 1, left + 1), width)
    bottom = min(max(math.ceil(y + half) + 1, top + 1), height)
    return image[top:bottom, left:right].copy(), (left, top)
