"""The media itself with what was found drawn in: boxes, scores by moment, and where the loudest detector looks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from detectors.result import Analysis, AnalysisResult, FaceResult
from preprocessing.media import open_media
from preprocessing.settings import MediaLimits
from preprocessing.types import Frame, Image
from ui.overlay import overlay
from ui.words import DRAWN_PERSON, DRAWN_SCORE, VERDICTS, deciding_face, probability

NEAR_S = 0.75
"""A score or heatmap belongs to the frames so near to its moment."""
TIME_BASE = Fraction(1, 90000)
TEXT, LINE_PX = 0.72, 28
"""Size of the letters and height of a line, at 720 pixels."""
PALE = (235, 238, 244)
LIGHTNESS = (0.299, 0.587, 0.114)
INSET = 0.28
"""Side of the heatmap's picture, of the frame's shorter side."""


def annotate(path: Path, analysis: Analysis, folder: Path, limits: MediaLimits) -> Path:
    """Writes `folder`/NAME.annotated.jpg of an image, .mp4 of a video (without its sound), and returns it.

    Raises MediaError where the file cannot be read any more, OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawing = _Drawing(analysis)
    with open_media(path, limits) as media:
        if media.info.kind == "image":
            out = folder / f"{path.stem}.annotated.jpg"
            drawn = drawing.draw(next(iter(media)))
            cv2.imwrite(str(out), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
            return out
        out = folder / f"{path.stem}.annotated.mp4"
        handle, partial = tempfile.mkstemp(dir=folder, prefix=f".{out.name}.")
        os.close(handle)
        try:
            _encode(((drawing.draw(frame), frame.time) for frame in media), partial)
            Path(partial).chmod(0o644)
            Path(partial).replace(out)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    return out


def _encode(pictures: Iterator[tuple[Image, float]], path: str) -> None:
    """H.264 in MP4 at the pictures' own times, in seconds; odd sides lose their last row or column."""
    import av

    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "20", "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        first, last = None, -1
        for image, time in pictures:
            if first is None:
                first = time
                stream.height, stream.width = (side - side % 2 for side in image.shape[:2])
            image = np.ascontiguousarray(image[: stream.height, : stream.width])
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            last = max(round((time - first) / TIME_BASE), last + 1)  # two pictures of one moment would stop the muxer
            picture.pts, picture.time_base = last, TIME_BASE
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


class _Drawing:
    """What stays the same from frame to frame: sizes, colours, the heatmaps' pictures."""

    def __init__(self, analysis: Analysis) -> None:
        self.result: AnalysisResult = analysis.result
        self.scale = max(min(self.result.media.width, self.result.media.height) / 720, 0.6)
        self.maps = _loudest_maps(analysis)

    def draw(self, frame: Frame) -> Image:
        """The frame with everyone who is in it at its time, (H, W, 3) RGB."""
        image = np.ascontiguousarray(frame.image)
        if not image.flags.writeable:
            image = image.copy()
        still = self.result.media.kind == "image"
        for face in self.result.faces:
            if still or face.times[0] - 1e-3 <= frame.time <= face.times[1] + 1e-3:
                self._face(image, face, frame.time, still)
        near = [
            (abs(time - frame.time), picture)
            for time, picture in self.maps
            if still or abs(time - frame.time) <= NEAR_S
        ]
        if near:
            self._inset(image, min(near, key=lambda one: one[0])[1])
        return image

    def _face(self, image: Image, face: FaceResult, time: float, still: bool) -> None:
        suspicious = face.fused is not None and face.fused >= self.result.threshold
        colour = _rgb(VERDICTS["fake" if suspicious else "inconclusive"].colour)
        x1, y1, x2, y2 = (round(value) for value in _box_at(face, time))
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, max(1, round(3 * self.scale)), cv2.LINE_AA)
        words = DRAWN_SCORE if len(self.result.faces) == 1 else DRAWN_PERSON
        told = [words.format(track=face.track, score=probability(face.fused))]
        for name, score in sorted(face.detectors.items()):
            moments = [m for m in score.frame_scores if still or abs(m.time - time) <= NEAR_S]
            if moments:
                told.append(f"{name} {probability(min(moments, key=lambda m: abs(m.time - time)).score)}")
        self._words(image, told, (x1, y2), colour)

    def _words(self, image: Image, lines: list[str], corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
        """Lines below a box, the first on its colour, the others on dark; moved up or to the left, and smaller, where
        the picture ends."""
        font, scale = cv2.FONT_HERSHEY_SIMPLEX, self.scale
        widest = max(cv2.getTextSize(line, font, TEXT * scale, 1)[0][0] for line in lines) + LINE_PX * scale
        scale *= min(1.0, image.shape[1] / widest)
        size, thick, height = TEXT * scale, max(1, round(1.6 * scale)), round(LINE_PX * scale)
        width = max(cv2.getTextSize(line, font, size, thick)[0][0] for line in lines) + round(0.7 * height)
        x = max(min(corner[0], image.shape[1] - width), 0)
        y = max(min(corner[1], image.shape[0] - height * len(lines)), 0)
        ground = image[y : y + height * len(lines), x : x + width]
        ground[:] = ground // 5
        ground[:height] = colour
        ink = (18, 20, 27) if np.dot(colour, LIGHTNESS) > 140 else (255, 255, 255)
        for number, line in enumerate(lines):
            place = (x + height // 3, y + height * number + round(height * 0.72))
            cv2.putText(image, line, place, font, size, ink if number == 0 else PALE, thick, cv2.LINE_AA)

    def _inset(self, image: Image, picture: Image) -> None:
        side = round(min(image.shape[:2]) * INSET)
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        gap = round(10 * self.scale)
        image[gap : gap + side, image.shape[1] - gap - side : image.shape[1] - gap] = small


def _loudest_maps(analysis: Analysis) -> list[tuple[float, Image]]:
    """Times and pictures of the heatmaps of the detector that is most suspicious of the deciding face."""
    face = deciding_face(analysis.result)
    mapped = {name: score for name, score in (face.detectors if face else {}).items() if score.heatmaps}
    if not mapped:
        return []
    loudest = max(mapped.values(), key=lambda score: score.score or 0.0)
    files = analysis.artifacts
    return [
        (m.time, overlay(files[m.crop], files[m.map])) for m in loudest.heatmaps if m.crop in files and m.map in files
    ]


def _box_at(face: FaceResult, time: float) -> tuple[float, float, float, float]:
    """The box at a time, in a straight line between those that are known."""
    if not face.boxes:
        return face.box
    order = np.argsort(face.box_times)
    times, boxes = np.asarray(face.box_times)[order], np.asarray(face.boxes)[order]
    x1, y1, x2, y2 = (float(np.interp(time, times, boxes[:, i])) for i in range(4))
    return x1, y1, x2, y2


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
