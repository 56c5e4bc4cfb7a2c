"""Which faces of a track reach the frame detectors, decided while the video streams by, its length unknown."""

from __future__ import annotations

from typing import Any

from detectors.steps import FaceMeta


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
