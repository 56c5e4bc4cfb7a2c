"""Faces of a media file as clips, and whole fake videos written from them with the frames' own times."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending import BlendError
from preprocessing.blending.clips import CLIP_FAMILIES, FaceClip, FakeClip, FakeStream, blend_stream
from preprocessing.blending.masks import Mask
from preprocessing.blending.swap_families import FAMILIES, swap_stream
from preprocessing.blending.targets import face_xray
from preprocessing.errors import MediaError
from preprocessing.landmarks import LandmarkPredictor, create_landmark_predictor, to_81
from preprocessing.media import open_media
from preprocessing.quality import head_yaw
from preprocessing.settings import Settings
from preprocessing.tracking import FaceTracker
from preprocessing.types import FaceCrop, Image, MediaInfo, Points

MAX_FRAMES = 300
MAX_CLIP_BYTES = 512 * 2**20
"""Pixels of a clip's margin crops, at most: they are held in memory while the clip is made."""
TIME_BASE = Fraction(1, 90000)
Progress = Callable[[str, int], None]
"""Called with the stage (`tracking`, `writing`) and the frames that it has seen."""


class NoFace(MediaError):
    """A picture or video in which no face was found that can be worked on."""

    code = "no_face"
    status = 422


@dataclass(frozen=True)
class TrackedFace:
    """The face of a file that is seen longest (largest, in a picture): margin crops with 81 landmarks in their pixels.

    `frames` (T,) are indices in the file, `offsets` (T, 2) the frame positions (x, y) of the crops' first pixels,
    `boxes` (T, 4) the faces in the crops' pixels, in dlib's convention. `complete` is False where the limit on
    frames or memory cut the clip.
    """

    clip: FaceClip
    frames: NDArray[np.int64]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    info: MediaInfo
    complete: bool

    @property
    def yaw(self) -> float:
        """Largest turn of the head in degrees, either way; from about 45 the landmarks are guesses."""
        return max(abs(head_yaw(points)) for points in self.clip.landmarks)


def load_face(
    path: Path,
    settings: Settings | None = None,
    predictor: LandmarkPredictor | None = None,
    *,
    frames: int = MAX_FRAMES,
    progress: Progress = lambda stage, count: None,
) -> TrackedFace:
    """Find a face and its landmarks in every frame, decoded in the sandbox; at most `frames` of a video.

    Only an unbroken run of frames is taken: a clip has the face's real motion. Raises MediaError (NoFace).
    """
    settings = settings or Settings()
    predictor = predictor or create_landmark_predictor()
    rows: dict[int, list[tuple[FaceCrop, Points]]] = {}
    held, seen, ended = 0, 0, True
    with open_media(path, settings.limits) as media:
        still = media.info.kind == "image"
        for chunk in FaceTracker(settings.tracking).chunks(media, still=still):
            for face in chunk.faces:
                shift = np.array(face.offset, np.float32)
                box = face.box - np.tile(shift, 2)
                points = to_81(predictor.predict(face.image, box[None])[:, :68])[0]
                rows.setdefault(face.track, []).append((face, points))
                held += face.image.nbytes
            seen += chunk.frames
            progress("tracking", seen)
            if not still and (seen >= frames or held >= MAX_CLIP_BYTES):
                ended = media.info.frames is not None and seen >= media.info.frames
                break
        info = media.info
    runs = [run for track in rows.values() for run in _runs(track)]
    if not runs:
        raise NoFace("no face was found", "unmask makes fakes from pictures and videos with a face in them")
    longest = max(runs, key=lambda run: (len(run), face_width(run[0][0])))
    best = longest[:frames]
    complete = ended and len(best) == len(longest)
    try:
        clip = FaceClip([face.image for face, _ in best], np.stack([points for _, points in best]))
    except BlendError as error:
        raise NoFace(f"the face found cannot be worked on ({error})", "give a picture with a larger face") from None
    offsets = np.array([face.offset for face, _ in best], np.int64)
    boxes = np.stack([face.box for face, _ in best]) - np.tile(offsets, 2).astype(np.float32)
    return TrackedFace(clip, np.array([face.frame for face, _ in best], np.int64), offsets, boxes, info, complete)


def face_width(face: FaceCrop) -> float:
    """Of the box, in pixels."""
    return float(face.box[2] - face.box[0])


def _runs(track: list[tuple[FaceCrop, Points]]) -> Iterator[list[tuple[FaceCrop, Points]]]:
    start = 0
    for at in range(1, len(track) + 1):
        if at == len(track) or track[at][0].frame != track[at - 1][0].frame + 1:
            yield track[start:at]
            start = at


def fake_stream(family: str, target: FaceClip, rng: np.random.Generator, donor: FaceClip | None = None) -> FakeStream:
    """A manipulated clip by the name of its family, of CLIP_FAMILIES or FAMILIES. Raises BlendError."""
    if family in CLIP_FAMILIES:
        return blend_stream(target, family, rng)
    if family in FAMILIES:
        return swap_stream(target, family, rng, donor)
    raise BlendError(f"no clip family {family!r}: there are {', '.join([*CLIP_FAMILIES, *FAMILIES])}")


def fake_clip(family: str, target: FaceClip, rng: np.random.Generator, donor: FaceClip | None = None) -> FakeClip:
    """`fake_stream`, all frames at once."""
    return fake_stream(family, target, rng, donor).clip()


def write_fake_video(
    source: Path,
    out: Path,
    family: str,
    rng: np.random.Generator,
    *,
    target: TrackedFace | None = None,
    donor: FaceClip | None = None,
    masks: Path | None = None,
    xrays: Path | None = None,
    reals: Path | None = None,
    crf: int = 18,
    settings: Settings | None = None,
    progress: Progress = lambda stage, count: None,
) -> FakeStream:
    """Write the video `source` with its face manipulated in each frame to `out`: H.264 MP4, 4:2:0, without sound.

    The pictures keep their times; those from the face's first frame to its last are written (`target`, found by
    `load_face` where it is not given). Odd sides grow by one repeated row or column, as H.264 asks. `masks`: where they
    go, in whole frames: an .mp4 (lossless grey H.264 of full range, the same times) or a folder of 8-bit
    grey PNGs named by the frame's index in `source`. `xrays`: an .mp4 of the Face X-rays likewise. `reals`: an .mp4 of
    the frames as they were, encoded as the fake is, so that compression tells neither from the other. A video appears
    whole or not at all.

    Raises:
        MediaError: a source that cannot be read, or has no face.
        BlendError: an unknown family, a missing donor, or a frame in which nothing can be pasted.
        ValueError: a place that cannot be written to.
    """
    settings = settings or Settings()
    target = target or load_face(source, settings, progress=progress)
    fake = fake_stream(family, target.clip, rng, donor)
    folder = masks if masks is not None and masks.suffix.lower() != ".mp4" else None
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:

            def writer(path: Path | None, grey: bool = False) -> _Writer | None:
                return files.enter_context(_Writer.create(path, crf, grey)) if path is not None else None

            written, real = writer(out), writer(reals)
            drawn, boundary = writer(None if folder else masks, grey=True), writer(xrays, grey=True)
            media = files.enter_context(open_media(source, settings.limits))
            made = iter(fake)
            for frame in media:
                row = frame.index - int(target.frames[0])
                if row < 0:
                    continue
                image, mask = _place(frame.image, *next(made), *target.offsets[row].tolist())
                levels = _levels(mask)
                pictures = (
                    (written, image),
                    (real, frame.image),
                    (drawn, levels),
                    (boundary, _levels(face_xray(mask))),
                )
                for file, picture in pictures:
                    if file is not None:
                        file.add(picture, frame.time)
                if folder is not None:
                    _write_png(folder / f"{frame.index:06d}.png", levels)
                progress("writing", row + 1)
                if row + 1 == len(target.clip):
                    break
    except OSError as error:
        raise ValueError(f"cannot write {error.filename or out}: {error.strerror or error}") from None
    return fake


def _place(frame: Image, crop: Image, mask: Mask, x: int, y: int) -> tuple[Image, Mask]:
    """The changed crop put back where it was cut; the rest of the frame is as decoded."""
    height, width = crop.shape[:2]
    result, whole = frame.copy(), np.zeros(frame.shape[:2], np.float32)
    part = result[y : y + height, x : x + width]
    changed = mask > 0
    part[changed] = crop[changed]
    whole[y : y + height, x : x + width] = mask
    return result, whole


def _levels(mask: Mask) -> NDArray[np.uint8]:
    return np.rint(mask * 255).astype(np.uint8)


def _write_png(path: Path, levels: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", levels)
    if not done:
        raise RuntimeError("the PNG encoder refused a mask")
    path.write_bytes(bytes(data))


class _Writer:
    """H.264 in MP4 at the frames' own times; replaces its file in one step when it is complete."""

    def __init__(self, container: Any, crf: int, grey: bool) -> None:
        self._container, self._grey, self._crf = container, grey, crf
        self._stream: Any = None
        self._start = 0.0

    @classmethod
    @contextmanager
    def create(cls, path: Path, crf: int, grey: bool = False) -> Iterator[_Writer]:
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            with av.open(partial, "w", format="mp4", options={"movflags": "+faststart"}) as container:
                writer = cls(container, crf, grey)
                yield writer
                if writer._stream is not None:
                    container.mux(writer._stream.encode())
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def add(self, image: NDArray[np.uint8], time: float) -> None:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._stream is None:
            # The same bytes on every machine (perturb/video.py on the macroblock tree). Lossless (qp 0) for masks.
            quality = {"qp": "0"} if self._grey else {"crf": str(self._crf)}
            options = {**quality, "threads": "1", "preset": "veryfast", "x264-params": "mbtree=0"}
            self._stream = self._container.add_stream("libx264", rate=Fraction(25), options=options)
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuvj420p" if self._grey else "yuv420p"
            self._stream.codec_context.time_base = TIME_BASE
            self._start = time
        frame = av.VideoFrame.from_ndarray(image, format="gray" if self._grey else "rgb24")
        if self._grey:
            frame = frame.reformat(format="yuvj420p")
        frame.pts, frame.time_base = round((time - self._start) / TIME_BASE), TIME_BASE
        self._container.mux(self._stream.encode(frame))
