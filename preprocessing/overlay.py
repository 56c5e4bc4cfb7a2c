"""A video of one face with its landmarks before and after calibration, side by side, and how much each jitters."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.calibration import SIDE, CalibratedTrack
from preprocessing.errors import UndecodableMedia
from preprocessing.types import Frame, Image

PANEL, GAP, TOP = 540, 20, 60
WIDTH, HEIGHT = 2 * PANEL + 3 * GAP, 720
CHART = (GAP, TOP + PANEL + 42, WIDTH - GAP, HEIGHT - 16)
"""Left, top, right and bottom of the jitter chart."""
BACKGROUND, GRID, TEXT, MUTED = (16, 20, 30), (44, 52, 68), (232, 236, 244), (140, 150, 168)
COLOURS = ((255, 176, 46), (64, 224, 208))
"""As detected, calibrated; RGB, told apart without colour vision by their brightness and place."""
TITLES = ("As detected", "Calibrated")
TRAIL = 8
"""Frames of the past whose positions are drawn behind each landmark."""
TIME_BASE = Fraction(1, 90000)
CONTOURS = [
    (range(17), False), (range(17, 22), False), (range(22, 27), False), (range(27, 31), False),
    (range(31, 36), False), (range(36, 42), True), (range(42, 48), True), (range(48, 60), True), (range(60, 68), True),
]  # fmt: skip
SHIFT = 4
"""OpenCV draws at positions in 1/16 pixel, else the drawing would jitter by its own rounding."""


def write_overlay(frames: Iterable[Frame], track: CalibratedTrack, out: Path) -> None:
    """Write an H.264 mp4 that shows the face of `track` in its stabilised square, 1140 x 720, at the frames' times.

    `frames` run in order and are not read beyond the track's last; frames without a row are left out. Replaces `out` in
    one step. Raises UndecodableMedia where the video ends before the track does, ValueError for a track of no row.
    """
    if not len(track):
        raise ValueError("a track without rows cannot be drawn")
    handle, partial = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(handle)
    try:
        _encode(frames, track, partial)
        Path(partial).chmod(0o644)
        Path(partial).replace(out)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _encode(frames: Iterable[Frame], track: CalibratedTrack, path: str) -> None:
    import av

    drawing = _Drawing(track)
    row, start = 0, 0.0
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "19", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        for frame in frames:
            if frame.index != track.frames[row]:
                continue
            start = frame.time if row == 0 else start
            picture = av.VideoFrame.from_ndarray(drawing.draw(frame.image, row), format="rgb24")
            picture.pts, picture.time_base = round((frame.time - start) / TIME_BASE), TIME_BASE
            container.mux(stream.encode(picture))
            row += 1
            if row == len(track):
                break
        if row < len(track):
            raise UndecodableMedia(f"the video ends before frame {track.frames[row]}, for which there are landmarks")
        container.mux(stream.encode())


def jitter(points: NDArray[np.floating], frames: NDArray[np.int64], sides: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the landmarks lie from halfway between the frames before and after, mean of 68, in 1/400 of the square.

    `points` (N, 68, 2) in pixels of the frame, so that the moving square adds nothing; `sides` (N,) of the squares.
    (N,), NaN where a neighbour is missing.
    """
    found = np.full(len(points), np.nan)
    off = np.linalg.norm(points[1:-1] - (points[:-2] + points[2:]) / 2, axis=2).mean(axis=1) * SIDE / sides[1:-1]
    found[1:-1] = np.where(frames[2:] - frames[:-2] == 2, off, np.nan)
    return found


class _Drawing:
    """Everything that stays the same from frame to frame, drawn once."""

    def __init__(self, track: CalibratedTrack) -> None:
        self.track = track
        sides = track.boxes[:, 2].astype(np.float64)
        corner = track.boxes[:, None, :2]
        square = [(v.reshape(-1, 68, 2).astype(np.float64) + 1) * SIDE / 2 for v in (track.raw, track.values)]
        self.points = [p * (sides / SIDE)[:, None, None] + corner for p in square]
        self.jitter = [jitter(p, track.frames, sides) for p in self.points]
        known = np.concatenate([j[np.isfinite(j)] for j in self.jitter])
        self.top = max(float(np.percentile(known, 99)) if len(known) else 0.0, 1.0)
        self.canvas = self._backdrop()

    def draw(self, image: Image, row: int) -> Image:
        """The picture of the track's row, (720, 1140, 3)."""
        canvas = self.canvas.copy()
        x, y, side = self.track.boxes[row]
        face = cv2.resize(image[y : y + side, x : x + side], (PANEL, PANEL), interpolation=cv2.INTER_CUBIC)
        # A face a little darker and paler lets the landmarks stand out.
        grey = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        face = cv2.addWeighted(face, 0.5, grey, 0.3, 0)
        # Trails are not drawn across a gap in the frames.
        first = max(row - TRAIL, 0)
        while self.track.frames[row] - self.track.frames[first] != row - first:
            first += 1
        for number, points in enumerate(self.points):
            panel = face.copy()
            _landmarks(panel, (points[first : row + 1] - (x, y)) * (PANEL / side), COLOURS[number])
            left = GAP + number * (PANEL + GAP)
            canvas[TOP : TOP + PANEL, left : left + PANEL] = panel
        at = round(_chart_x(row, len(self.track)))
        cv2.line(canvas, (at, CHART[1]), (at, CHART[3]), TEXT, 1, cv2.LINE_AA)
        for found, colour in zip(self.jitter, COLOURS, strict=True):
            if np.isfinite(found[row]):
                height = round(self._chart_y(found[row]))
                cv2.circle(canvas, (at, height), 4, BACKGROUND, -1, cv2.LINE_AA)
                cv2.circle(canvas, (at, height), 3, colour, -1, cv2.LINE_AA)
        return canvas

    def _chart_y(self, value: float) -> float:
        return CHART[3] - min(value / self.top, 1.0) * (CHART[3] - CHART[1])

    def _backdrop(self) -> Image:
        from PIL import Image as Picture
        from PIL import ImageDraw, ImageFont

        picture = Picture.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
        pen = ImageDraw.Draw(picture)
        large, small = ImageFont.load_default(24), ImageFont.load_default(15)
        for number, (title, found) in enumerate(zip(TITLES, self.jitter, strict=True)):
            left = GAP + number * (PANEL + GAP)
            pen.ellipse((left, 25, left + 14, 39), fill=COLOURS[number])
            pen.text((left + 24, 32), title, TEXT, large, anchor="lm")
            if np.isfinite(found).any():
                mean = f"mean jitter {np.nanmean(found):.2f}"
                pen.text((left + PANEL, 33), mean, COLOURS[number], small, anchor="rm")
        caption = f"landmark jitter in 1/{SIDE} of the square, 0 to {self.top:.1f}"
        pen.text((CHART[0], CHART[1] - 14), caption, MUTED, small, anchor="lm")
        count = f"{len(self.track)} frames, flow rejected for {self.track.rejected_share:.1%} of the points"
        pen.text((CHART[2], CHART[1] - 14), count, MUTED, small, anchor="rm")
        canvas = np.array(picture)
        for y in (CHART[1], CHART[3]):
            cv2.line(canvas, (CHART[0], y), (CHART[2], y), GRID, 1)
        for found, colour in zip(self.jitter, COLOURS, strict=True):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], np.isfinite(found), [0]])))
            for begin, end in zip(edges[::2], edges[1::2], strict=True):
                line = [(_chart_x(row, len(found)), self._chart_y(found[row])) for row in range(begin, end)]
                cv2.polylines(canvas, [_fixed(np.array(line))], False, colour, 1, cv2.LINE_AA, SHIFT)
        return canvas


def _chart_x(row: int, count: int) -> float:
    return CHART[0] + (CHART[2] - CHART[0]) * row / max(count - 1, 1)


def _fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.rint(np.clip(points, -4096, 4096) * (1 << SHIFT)).astype(np.int32)


def _landmarks(panel: Image, history: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
    """Contours, trails and points on the panel; `history` (frames, 68, 2) in its pixels, the newest last."""
    fixed = _fixed(history)
    newest = fixed[-1]
    veil = panel.copy()
    for members, closed in CONTOURS:
        cv2.polylines(veil, [newest[list(members)]], closed, colour, 1, cv2.LINE_AA, SHIFT)
    if len(fixed) > 1:
        cv2.polylines(veil, list(np.ascontiguousarray(fixed.transpose(1, 0, 2))), False, TEXT, 1, cv2.LINE_AA, SHIFT)
    cv2.addWeighted(veil, 0.55, panel, 0.45, 0, dst=panel)
    for x, y in newest.tolist():
        cv2.circle(panel, (x, y), 4 << SHIFT, BACKGROUND, -1, cv2.LINE_AA, SHIFT)
        cv2.circle(panel, (x, y), int(2.8 * (1 << SHIFT)), colour, -1, cv2.LINE_AA, SHIFT)
