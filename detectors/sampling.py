"""Which faces of a track reach the detectors, decided while the video streams by, its length unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detectors.steps import DISPLAY_INPUT, FaceMeta
from preprocessing.inputs import ClipInput, FaceInput

CLIP_SHARE = 3
"""Pictures that a track's clips may hold for each single face that it may keep."""


class TrackSamples:
    """An evenly spaced sample of a track that never exceeds `limit` faces.

    Keeps every stride-th face; when one more than `limit` would be kept, the stride doubles and every second kept
    face is let go. So a track of N faces ends with between limit/2 and limit samples (all of them if N <= limit),
    without trusting the container's word on how long the video is.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stride = 1
        self.seen = 0
        self.faces: dict[int, FaceMeta] = {}
        self.crops: dict[int, Any] = {}

    def offer(self, face: FaceMeta) -> int | None:
        """The position under which the face is kept, or None."""
        position = self.seen
        self.seen += 1
        if position % self.stride:
            return None
        self.faces[position] = face
        self.shrink(self.limit)
        return position if position in self.faces else None

    def shrink(self, limit: int) -> None:
        """Keep at most `limit` from now on."""
        self.limit = limit
        while len(self.faces) > limit:
            self.stride *= 2
            for old in [p for p in self.faces if p % self.stride]:
                del self.faces[old]
                self.crops.pop(old, None)

    def fill(self, position: int, crops: Any) -> None:
        """The crops of a kept position, which come later; ignored where the position was let go meanwhile."""
        if position in self.faces:
            self.crops[position] = crops

    def ordered(self) -> list[tuple[FaceMeta, Any]]:
        """The kept faces with their crops, in time order."""
        return [(self.faces[p], self.crops[p]) for p in sorted(self.crops)]


class ClipSamples:
    """An evenly spaced sample of a track's clips that never exceeds `limit` of them.

    The track is cut into windows of length * stride consecutive frames, anew after each gap; of a window every
    stride-th face is kept. Like TrackSamples it keeps every n-th window and doubles n where they become too many. The
    first window counts as soon as it is full; a window that a gap or the end cuts short is let go.
    """

    def __init__(self, spec: ClipInput, limit: int) -> None:
        self.spec, self.limit = spec, limit
        self.every = 1
        self._windows = 0
        self._last: int | None = None
        self._filled = 0
        self._clips: dict[int, list[FaceMeta]] = {}
        self._crops: dict[tuple[int, int], Any] = {}

    def offer(self, face: FaceMeta) -> tuple[int, int] | None:
        """The place (window, position) under which the face is kept, or None."""
        if self._last is None or face.frame != self._last + 1 or self._filled == self.spec.length * self.spec.stride:
            if self._last is not None:
                self._close()
            self._filled = 0
        self._last = face.frame
        position, offset = divmod(self._filled, self.spec.stride)
        self._filled += 1
        if offset or self._windows % self.every:
            return None
        clip = self._clips.setdefault(self._windows, [])
        clip.append(face)
        if len(clip) == self.spec.length:
            self.shrink(self.limit)
        return (self._windows, position) if self._windows in self._clips else None

    def _close(self) -> None:
        """The window that is open is full or never will be."""
        faces = self._clips.get(self._windows)
        if faces is not None and len(faces) < self.spec.length:
            self._drop(self._windows)
        elif self._filled >= (self.spec.length - 1) * self.spec.stride + 1:
            self._windows += 1

    def shrink(self, limit: int) -> None:
        """Keep at most `limit` clips from now on."""
        self.limit = limit
        while len(self._clips) > limit:
            self.every *= 2
            for old in [w for w in self._clips if w % self.every]:
                self._drop(old)

    def _drop(self, window: int) -> None:
        for position in range(len(self._clips.pop(window))):
            self._crops.pop((window, position), None)

    def fill(self, place: tuple[int, int], crop: Any) -> None:
        """The crop of a kept face, which comes later; ignored where its window was let go meanwhile."""
        window, position = place
        if window in self._clips and position < len(self._clips[window]):
            self._crops[place] = crop

    def ordered(self) -> list[tuple[list[FaceMeta], list[Any]]]:
        """The full clips, in time order: their faces and their crops."""
        length = self.spec.length
        return [
            (faces, [self._crops[window, i] for i in range(length)])
            for window, faces in sorted(self._clips.items())
            if len(faces) == length and all((window, i) in self._crops for i in range(length))
        ]


class TrackCrops:
    """All that one track's detectors need: single faces for the frame detectors, clips for those that want clips.

    The crop for people (DISPLAY_INPUT) is made of the first face only, because many tracks would hold many; with
    `display`, of every kept one: detectors of landmarks have no other picture to show.
    """

    def __init__(self, faces: list[FaceInput], clips: list[ClipInput], display: bool = False) -> None:
        self.specs, self.display = faces, display
        self.faces = TrackSamples(1)
        self.clips = {spec: ClipSamples(spec, 1) for spec in clips}

    def shrink(self, share: int) -> None:
        """`share`: single faces that each distinct input may keep; clips may hold CLIP_SHARE times as many."""
        self.faces.shrink(share)
        for spec, clip in self.clips.items():
            clip.shrink(max(CLIP_SHARE * share // spec.length, 1))

    def offer(self, face: FaceMeta) -> Places | None:
        """Where the face's crops belong, None where it is not kept."""
        position = self.faces.offer(face)
        clips = {spec: place for spec, clip in self.clips.items() if (place := clip.offer(face)) is not None}
        return None if position is None and not clips else Places(position, clips)

    def wanted(self, places: Places) -> list[FaceInput]:
        """The distinct crops to make of a kept face."""
        shown = self.display or places.face == 0
        faces = [] if places.face is None else [s for s in self.specs if s != DISPLAY_INPUT or shown]
        return list(dict.fromkeys([*faces, *(spec.face for spec in places.clips)]))

    def fill(self, places: Places, crops: dict[FaceInput, Any]) -> None:
        """The crops of a kept face."""
        if places.face is not None:
            self.faces.fill(places.face, {spec: crops[spec] for spec in self.specs if spec in crops})
        for spec, place in places.clips.items():
            self.clips[spec].fill(place, crops[spec.face])


@dataclass(frozen=True)
class Places:
    """Where the crops of one kept face go: its position among the single faces, and its place in each clip."""

    face: int | None
    clips: dict[ClipInput, tuple[int, int]]
