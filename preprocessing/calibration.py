"""Landmark calibration: optical flow takes the detector's jitter out of 68 landmarks.

After Sun et al., "Improving the Efficiency and Robustness of Deepfakes Detection through Precise Geometric Features"
(CVPR 2021, LRNet), section 3.2, and exact to its published code. Every frame's face is brought to a square of 400
pixels by a translation and one scale; each landmark is followed from the square before by pyramidal Lucas-Kanade flow,
forward and back, and merged with the detection by a scalar Kalman gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.errors import UndecodableMedia
from preprocessing.types import Frame, Image, Track

SIDE = 400
"""Side of the normalised square, pixels."""
LK_WINDOW = (15, 15)
LK_LEVELS = 3
LK_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
FORWARD_BACKWARD_MAX = 2
PROCESS_NOISE = 0.3
CENTRE_HYSTERESIS = 1.42
CROP_SCALE = 1.2

SizeMode = Literal["calibrator", "demo"]
IntPoints = NDArray[np.int64]


class CropBox(NamedTuple):
    """The square (x, y, x + side, y + side) of a frame that is shown at 400 x 400."""

    x: int
    y: int
    side: int


@dataclass(frozen=True)
class CalibratedTrack:
    """Landmarks of one track in LRNet's normalised space, nominally [-1, 1] and not clipped.

    `values` and `raw` are (N, 136) float32, x0, y0, x1, y1, ...: calibrated and as detected, both multiples of 0.005.
    `frames` (N,) int64 are the frame indices of the rows, `boxes` (N, 3) int64 their squares x, y, side.
    `dropped` counts frames whose face lay outside the picture and that have no row.
    `rejected_share` is the share of point steps in which the flow was not trusted and the detection was kept.
    """

    frames: NDArray[np.int64]
    values: NDArray[np.float32]
    raw: NDArray[np.float32]
    boxes: NDArray[np.int64]
    rejected_share: float
    dropped: int

    def __len__(self) -> int:
        return len(self.frames)


def face_size(landmarks: NDArray[np.floating] | NDArray[np.integer], mode: SizeMode = "calibrator") -> int:
    """The one face size of a video: the rounded mean over frames of the longer side of the landmarks' bounding box.

    `landmarks` (N, 68, 2) in pixels, N >= 1. `mode="demo"` leaves out the last frame, as LRNet's demo does.
    Raises ValueError for a wrong shape, no frame, values that are not finite, or a face of no extent.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (68, 2) or not len(points):
        raise ValueError(f"landmarks have the shape {points.shape}, expected (frames >= 1, 68, 2)")
    if not np.isfinite(points).all():
        raise ValueError("landmarks contain values that are not finite numbers")
    extents = np.ptp(points, axis=1).max(axis=1)
    if mode == "demo" and len(extents) > 1:
        extents = extents[:-1]
    size = int(np.rint(extents.mean()))
    if _crop_side(size) < 2:
        raise ValueError(f"the face is {size} pixels large on average: too small to calibrate (or not in pixels)")
    return size


def crop_box(
    points: NDArray[np.float64], size: int, frame_size: tuple[int, int], previous: tuple[float, float] | None = None
) -> tuple[CropBox, tuple[float, float]]:
    """The square around one frame's landmarks (68, 2), and the centre that was used.

    `frame_size` is (width, height). A centre within 1.42 pixels of `previous` keeps `previous`. A square over the right
    or lower edge shrinks, one over the left or upper edge moves; its side is 0 or less where the face is outside.
    """
    lowest, highest = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    centre = ((lowest[0] + highest[0]) // 2, (lowest[1] + highest[1]) // 2)
    if previous is not None and math.hypot(centre[0] - previous[0], centre[1] - previous[1]) < CENTRE_HYSTERESIS:
        centre = previous
    side = _crop_side(size)
    x, y = max(int(centre[0]) - side // 2, 0), max(int(centre[1]) - side // 2, 0)
    return CropBox(x, y, min(side, frame_size[0] - x, frame_size[1] - y)), centre


def _crop_side(size: int) -> int:
    return int(CROP_SCALE * size) // 2 * 2


def _normalise(points: NDArray[np.float64], box: CropBox) -> IntPoints:
    return np.rint((points - (box.x, box.y)) * (SIDE / box.side)).astype(np.int64)


def _to_unit(points: list[IntPoints]) -> NDArray[np.float32]:
    stacked = np.array(points, dtype=np.float64).reshape(-1, 136)
    return ((stacked - SIDE / 2) / (SIDE / 2)).astype(np.float32)


class Calibrator:
    """Calibrates one face frame by frame; holds the last square and its points, never more pixels.

    `size` comes from `face_size` over the whole video (a pass over landmarks, not pixels), `frame_size` is
    (width, height). Statistics: `total` point steps, `rejected` of them, `P` (68,) the Kalman variances, `boxes` the
    squares so far, `dropped` frames whose face lay outside the picture.
    """

    def __init__(self, size: int, frame_size: tuple[int, int]) -> None:
        self.size = size
        self.frame_size = frame_size
        self.boxes: list[CropBox] = []
        self.total = self.rejected = self.dropped = 0
        self.detected: IntPoints | None = None
        """The newest frame's detections in the square, before calibration."""
        self.restart()

    def restart(self) -> None:
        """Forget the frame before (a cut, a gap): the next frame's points are taken as detected. The size stays."""
        self.P = np.zeros(68)
        self._centre: tuple[float, float] | None = None
        self._crop: Image | None = None
        self._before: IntPoints | None = None
        self._calibrated: IntPoints | None = None

    def step(self, image: Image, points: NDArray[np.floating] | NDArray[np.integer]) -> IntPoints | None:
        """Calibrated points (68, 2), integers in the 400 x 400 square; None where the face is outside the picture.

        `image` (H, W, 3) uint8 RGB; `points` (68, 2) in pixels of the frame.
        """
        if (image.shape[1], image.shape[0]) != self.frame_size:
            raise ValueError(f"a frame of {image.shape[1]}x{image.shape[0]} in a video of {self.frame_size}")
        points = np.asarray(points, dtype=np.float64)
        box, self._centre = crop_box(points, self.size, self.frame_size, self._centre)
        if box.side <= 0:
            self.dropped += 1
            return None
        crop = _cut(image, box)
        detected = _normalise(points, box)
        if self._crop is None or self._calibrated is None or self._before is None:
            calibrated = detected
        else:
            calibrated = self._merge(self._crop, crop, self._calibrated, self._before, detected)
        self.boxes.append(box)
        self.detected = detected
        self._crop, self._before, self._calibrated = crop, detected, calibrated
        return calibrated

    def _merge(
        self, crop: Image, next_crop: Image, now: IntPoints, before: IntPoints, detected: IntPoints
    ) -> IntPoints:
        start = now.astype(np.float32)[:, None]
        flow, found = _flow(crop, next_crop, start, detected.astype(np.float32)[:, None])
        back, found_back = _flow(next_crop, crop, flow, start)
        forward = np.rint(flow[:, 0])
        accepted = (_length(np.rint(back[:, 0]) - now) <= FORWARD_BACKWARD_MAX) & found & found_back

        moved = _length(forward - now)
        noise = _length(detected - before) / np.where(moved == 0, 1, moved)
        predicted = self.P + PROCESS_NOISE
        gain = predicted / (predicted + noise)
        merged = np.trunc(forward + gain[:, None] * (detected - forward)).astype(np.int64)

        self.P = np.where(accepted, (1 - gain) * predicted, self.P)
        self.total += 68
        self.rejected += 68 - int(accepted.sum())
        return np.where(accepted[:, None], merged, detected)


def _cut(image: Image, box: CropBox) -> Image:
    crop = image[box.y : box.y + box.side, box.x : box.x + box.side]
    # The published flow runs on BGR, and the order of the channels is the order of its float sums: it moves a twentieth
    # of the raw flow by up to 3e-5 pixels, enough to tip a rounding. The smaller picture is the cheaper one to swap.
    if box.side < SIDE:
        return cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)


def _flow(
    first: Image, second: Image, start: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    # The function writes its result into the guess.
    end, status, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, guess.copy(), winSize=LK_WINDOW, maxLevel=LK_LEVELS,
        criteria=LK_CRITERIA, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    return end, status[:, 0] == 1


def _length(vectors: NDArray[np.float64] | IntPoints) -> NDArray[np.float64]:
    return np.sqrt((vectors * vectors).sum(axis=1, dtype=np.float64))


def normalise_track(track: Track, frame_size: tuple[int, int], mode: SizeMode = "calibrator") -> CalibratedTrack:
    """The landmarks in LRNet's normalised space without calibration: `values` equal `raw`, and no pixels are needed."""
    landmarks = np.asarray(track.landmarks[:, :68], dtype=np.float64)
    size = face_size(landmarks, mode)
    rows, boxes, kept = [], [], []
    centre, last = None, None
    for frame, points in zip(track.frames.tolist(), landmarks, strict=True):
        if last is not None and frame != last + 1:
            centre = None
        last = frame
        box, centre = crop_box(points, size, frame_size, centre)
        if box.side > 0:
            rows.append(_normalise(points, box))
            boxes.append(box)
            kept.append(frame)
    raw = _to_unit(rows)
    return CalibratedTrack(
        np.array(kept, dtype=np.int64), raw, raw, _box_array(boxes), 0.0, len(track.frames) - len(kept)
    )


def _box_array(boxes: list[CropBox]) -> NDArray[np.int64]:
    return np.array(boxes, dtype=np.int64).reshape(-1, 3)


class _Run:
    """One track's progress through the shared decode pass."""

    def __init__(self, track: Track, mode: SizeMode) -> None:
        if len(track.frames) != len(track.landmarks):
            raise ValueError(f"track {track.id} has {len(track.frames)} frames but {len(track.landmarks)} landmarks")
        if (np.diff(track.frames) <= 0).any():
            raise ValueError(f"the frames of track {track.id} are not in increasing order")
        self.track = track
        self.landmarks = track.landmarks[:, :68]
        self.size = face_size(self.landmarks, mode)
        self.needed = track.frames.tolist()
        self.next = 0
        self.calibrator: Calibrator | None = None
        self.kept: list[int] = []
        self.detected: list[IntPoints] = []
        self.calibrated: list[IntPoints] = []

    @property
    def done(self) -> bool:
        return self.next == len(self.needed)

    def see(self, frame: Frame) -> None:
        if self.done or frame.index != self.needed[self.next]:
            return
        if self.calibrator is None:
            self.calibrator = Calibrator(self.size, (frame.image.shape[1], frame.image.shape[0]))
        elif self.needed[self.next - 1] != frame.index - 1:
            self.calibrator.restart()
        points = self.calibrator.step(frame.image, self.landmarks[self.next])
        self.next += 1
        if points is not None and self.calibrator.detected is not None:
            self.kept.append(frame.index)
            self.detected.append(self.calibrator.detected)
            self.calibrated.append(points)

    def result(self) -> CalibratedTrack:
        calibrator = self.calibrator
        if not self.done or calibrator is None:
            raise UndecodableMedia(
                f"the video ends before frame {self.needed[self.next]}, for which there are landmarks",
                f"{self.next} of {len(self.needed)} frames of track {self.track.id} were there: is it the same video?",
            )
        return CalibratedTrack(
            np.array(self.kept, dtype=np.int64), _to_unit(self.calibrated), _to_unit(self.detected),
            _box_array(calibrator.boxes), calibrator.rejected / max(calibrator.total, 1), calibrator.dropped,
        )  # fmt: skip


def calibrate_tracks(
    frames: Iterable[Frame], tracks: Mapping[int, Track], mode: SizeMode = "calibrator"
) -> dict[int, CalibratedTrack]:
    """Calibrate all tracks of a video in one pass over its frames, holding two squares a track.

    `frames` run in order and are not read beyond the last one that a track needs. A gap in a track's frames restarts
    its flow but keeps its face size. Raises UndecodableMedia where the video ends before a track does, ValueError where
    a track's landmarks cannot be used.
    """
    runs = {key: _Run(track, mode) for key, track in tracks.items()}
    last = max((run.needed[-1] for run in runs.values()), default=-1)
    if last >= 0:
        for frame in frames:
            for run in runs.values():
                run.see(frame)
            if frame.index >= last:
                break
    return {key: run.result() for key, run in runs.items()}
