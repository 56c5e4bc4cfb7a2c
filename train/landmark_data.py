"""Landmark sequences of real videos and of frame-by-frame pseudo-fakes of them, to train LRNet on.

    python -m train.landmark_data --data DIR --out DIR [--views 8] [--fakes 2] [--seed 1]

Every real video of the manifest's split "train" is seen in several views (a part of it, at another size, brightness,
sharpness, noise, frame rate and H.264 quality); each view is taken once as it is and again with the face manipulated in
every frame (train/landmark_fakes.py). All go through what an analysis does: faces tracked, landmarks found in every
frame, calibrated by optical flow. A view that is already in the output folder is kept, so a broken run continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.steps import LandmarkStep
from preprocessing.calibration import SIDE, calibrate_tracks
from preprocessing.errors import MediaError
from preprocessing.faces import create_face_detector
from preprocessing.media import open_media
from preprocessing.settings import TrackingSettings
from preprocessing.tracking import FaceTracker
from preprocessing.types import Frame, Image, Points, Track
from train import packs
from train.labelled import Item, read_items
from train.landmark_fakes import FaceSequence, Manipulation, manipulate
from train.packs import person_of

VALIDATION = (
    "brbk7n", "swiz3n", "d3", "d10", "obama", "WDA_KatieHill_000", "PbgB2TaYhio_00007", "M003_level_1_disgusted_015",
)  # fmt: skip
"""What the epoch of the shipped weights was chosen by, in the data that holds all of these; none of these people is in
another video there."""
HELD_OUT = 0.1
"""Of the people in other data."""

SHORTEST = 31
"""Frames of a view, at least: a clip of LRNet has 30."""
LONGEST = 220
FIRST_FRAMES = 600
"""No more of a video is used, so that a long one does not outweigh the rest."""
LONGEST_SIDE = 960
GIVER_FRAMES = 40
GIVER_FACE = 240


class FaceReader:
    """From pictures to calibrated landmark rows, as an analysis with default settings does it."""

    def __init__(self) -> None:
        self.settings = TrackingSettings()
        self._detector = create_face_detector(self.settings.detector, still=False)
        self._step = LandmarkStep()
        self.extractor = self._step.extractor

    def track(self, frames: Sequence[Frame]) -> Track | None:
        """The face that is seen longest, None where there is none."""
        size = (frames[0].image.shape[1], frames[0].image.shape[0])
        found: dict[int, list[tuple[int, float, NDArray[np.float32], NDArray[np.float32]]]] = {}
        for chunk in FaceTracker(self.settings, self._detector).chunks(frames):
            points = self._step(chunk, {}, size).landmarks
            for face, landmarks in zip(chunk.faces, points, strict=True):
                found.setdefault(face.track, []).append((face.frame, face.time, face.box, landmarks))
        if not found:
            return None
        number = max(found, key=lambda key: len(found[key]))
        indices, times, boxes, landmarks_ = zip(*found[number], strict=True)
        return Track(number, np.array(indices), np.array(times), np.stack(boxes), np.stack(landmarks_))

    def rows(self, images: Iterable[Image], fps: float) -> NDArray[np.int16] | None:
        """Calibrated landmarks (N, 136), whole pixels of LRNet's 400 x 400 square; None: face lost, or too brief."""
        frames = [Frame(i, i / fps, image) for i, image in enumerate(images)]
        track = self.track(frames)
        if track is None or len(track) < SHORTEST or np.diff(track.frames).max() > 1:
            return None
        values = calibrate_tracks(frames, {0: track})[0].values
        return np.rint(values * (SIDE / 2) + SIDE / 2).astype(np.int16)


@dataclass(frozen=True)
class Video:
    """The face of one video: landmarks (N, 68, 2) of consecutive frames from `first` on, in pixels after `scale`.

    `size` is the (width, height) of its pictures after `scale`.
    """

    path: Path
    fps: float
    first: int
    scale: float
    size: tuple[int, int]
    landmarks: Points

    @property
    def name(self) -> str:
        return self.path.stem

    def images(self, start: int, stop: int, step: int = 1) -> list[Image]:
        """The pictures of the rows start, start + step, ... of `landmarks`."""
        wanted = range(self.first + start, self.first + stop, step)
        with open_media(self.path) as media:
            found = []
            for frame in media:
                if frame.index >= wanted.stop:
                    break
                if frame.index in wanted:
                    found.append(_resized(frame.image, self.scale))
        return found


def held_out(items: Sequence[Item], seed: int) -> set[str]:
    """Names of the videos to choose by, never to train on: those of about a tenth of the people, by the hash of each.

    Whose video it is says the manifest's identity, else the file's name. Raises ValueError for fewer than four people:
    two are held out at least, because their pseudo-fakes show each other's faces, and as many must be left.
    """
    names = {item.path.stem for item in items}
    if names >= set(VALIDATION):
        return set(VALIDATION)
    people = np.array([item.identity or person_of(item.dataset, item.path) for item in items])
    if len(set(people.tolist())) < 4:
        raise ValueError(
            f"{len(items)} videos of {len(set(people.tolist()))} people are too few to hold some out: videos of four"
            " people at least are needed (a manifest's column identity says whose they are)"
        )
    held = packs.held_out(people, HELD_OUT, seed)
    return {item.path.stem for item, out in zip(items, held, strict=True) if out}


def survey(path: Path, reader: FaceReader, cache: Path) -> Video | None:
    """Tracks the face of a video once; the answer is kept in `cache`. None: no face for SHORTEST frames in a row."""
    kept = cache / f"{path.stem}.npz"
    if not kept.is_file():
        with open_media(path) as media:
            fps = media.info.fps or 25.0
            scale = min(1.0, LONGEST_SIDE / max(media.info.width, media.info.height))
            frames = []
            for frame in media:
                if frame.index >= FIRST_FRAMES:
                    break
                frames.append(Frame(frame.index, frame.time, _resized(frame.image, scale)))
        track = reader.track(frames)
        first, landmarks = (0, np.zeros((0, 68, 2), np.float32)) if track is None else _longest_run(track)
        height, width = frames[0].image.shape[:2]
        _save(kept, fps=fps, first=first, scale=scale, size=(width, height), landmarks=landmarks)
    with np.load(kept) as data:
        if len(data["landmarks"]) < SHORTEST:
            return None
        size = (int(data["size"][0]), int(data["size"][1]))
        return Video(path, float(data["fps"]), int(data["first"]), float(data["scale"]), size, data["landmarks"])


def _longest_run(track: Track) -> tuple[int, Points]:
    """First frame and landmarks of the longest run of consecutive frames."""
    breaks = np.flatnonzero(np.diff(track.frames) != 1) + 1
    run = max(np.split(np.arange(len(track)), breaks), key=len)
    return int(track.frames[run[0]]), track.landmarks[run]


def _resized(image: Image, factor: float) -> Image:
    if factor == 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class View:
    """How a video is seen; the same for the real face and its manipulations, so that it gives neither away.

    Rows `start` to `stop` by `step` of the video; a window (x, y, width, height) of its pictures, scaled by `scale`;
    brightness v -> v * gain + level, `blur` sigma in pixels, `noise` in levels, then H.264 at the quality `crf`.
    """

    start: int
    stop: int
    step: int
    window: tuple[int, int, int, int]
    scale: float
    gain: float
    level: float
    blur: float
    noise: float
    crf: int
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, video: Video) -> View:
        """A view of `video` that shows SHORTEST to LONGEST frames."""
        count = len(video.landmarks)
        halved = count >= 4 * SHORTEST and video.fps >= 20 and rng.random() < 0.2
        step = 2 if halved else 1
        length = min(count, int(rng.integers(LONGEST * 2 // 3, LONGEST + 1)) * step)
        start = int(rng.integers(count - length + 1))
        points = video.landmarks[start : start + length].reshape(-1, 2)
        face = float(np.ptp(video.landmarks[start : start + length], axis=1).max(axis=1).mean())
        # Half a face is the context that the landmark predictor sees; the rest varies where the face lies.
        left, top, right, bottom = rng.uniform(0.5, 1.4, 4) * face
        low = np.maximum(points.min(axis=0) - np.array([left, top]), 0).astype(int)
        high = np.minimum(points.max(axis=0) + np.array([right, bottom]), video.size).astype(int)
        size = float(np.exp(rng.uniform(np.log(70), np.log(300))))
        return cls(
            start, start + length, step,
            (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])),
            min(1.0, size / face),
            float(rng.uniform(0.8, 1.2)), float(rng.uniform(-15, 15)),
            float(rng.uniform(0.4, 1.2)) if rng.random() < 0.25 else 0.0,
            float(rng.uniform(1, 6)) if rng.random() < 0.35 else 0.0,
            int(rng.integers(14, 38)), int(rng.integers(2**32)),
        )  # fmt: skip

    def place(self, video: Video, images: Sequence[Image]) -> FaceSequence:
        """The window of the pictures `video.images(start, stop, step)`, scaled, with the landmarks in it."""
        x, y, width, height = self.window
        # The codec wants even sides.
        even = tuple(max(int(side * self.scale) // 2 * 2, 32) for side in (width, height))
        factor = np.array(even, np.float32) / (width, height)
        cut = [
            cv2.resize(np.ascontiguousarray(image[y : y + height, x : x + width]), even, interpolation=cv2.INTER_AREA)
            for image in images
        ]
        points = (video.landmarks[self.start : self.stop : self.step] - (x, y) + 0.5) * factor - 0.5
        return FaceSequence(cut, points.astype(np.float32))

    def degrade(self, images: Iterable[Image], fps: float) -> list[Image]:
        """Brightness, sharpness, noise, then through the codec and back."""
        rng = np.random.default_rng(self.seed)
        table = np.clip(np.arange(256) * self.gain + self.level, 0, 255).astype(np.uint8)
        changed = []
        for image in images:
            image = cv2.LUT(image, table)
            if self.blur:
                image = cv2.GaussianBlur(image, (0, 0), self.blur)
            if self.noise:
                grain = rng.standard_normal(image.shape[:2], np.float32) * self.noise
                image = np.clip(np.rint(image + grain[..., None]), 0, 255).astype(np.uint8)
            changed.append(image)
        return through_h264(changed, fps, self.crf)


def through_h264(images: Sequence[Image], fps: float, crf: int) -> list[Image]:
    """The pictures (even sides) encoded by x264 with that quality (0 best, 51 worst) and decoded again."""
    import av
    from av.video.reformatter import Interpolation

    stored = io.BytesIO()
    with av.open(stored, "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "superfast", "threads": "1", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    stored.seek(0)
    with av.open(stored) as container:
        container.streams.video[0].codec_context.thread_count = 1
        # The decoder of an analysis interpolates the chroma bicubically too.
        return [
            frame.reformat(format="rgb24", interpolation=Interpolation.BICUBIC).to_ndarray()
            for frame in container.decode(video=0)
        ]


def giver(video: Video) -> FaceSequence:
    """A few pictures of the video's face, small, for others' videos to show."""
    count = len(video.landmarks)
    step = max(count // GIVER_FRAMES, 1)
    points = video.landmarks[::step][:GIVER_FRAMES]
    images = video.images(0, count, step)[:GIVER_FRAMES]
    sides = np.ptp(points, axis=1).max(axis=1)
    cut, moved = [], []
    for image, shape, side in zip(images, points, sides, strict=True):
        low = np.maximum(np.floor(shape.min(axis=0) - 0.25 * side), 0).astype(int)
        high = np.ceil(shape.max(axis=0) + 0.25 * side).astype(int)
        factor = min(1.0, GIVER_FACE / float(side))
        cut.append(_resized(np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), factor))
        moved.append((shape - low) * factor)
    return FaceSequence(cut, np.stack(moved).astype(np.float32))


def make_view(
    video: Video, number: int, fakes: int, seed: int, reader: FaceReader, givers: dict[str, FaceSequence]
) -> tuple[dict[str, NDArray[np.int16]], dict[str, object]]:
    """The rows of one view, "real" and "fake0", "fake1", ..., and how they were made; a face that is lost is left out.

    It depends on the seed, the video's name and the number alone, and on the other videos that there are.
    """
    rng = np.random.default_rng([seed, zlib.crc32(video.name.encode()), number])
    view = View.draw(rng, video)
    fps = video.fps / view.step
    scene = view.place(video, video.images(view.start, view.stop, view.step))
    rows: dict[str, NDArray[np.int16]] = {}
    made: dict[str, object] = {"fps": fps, "view": dataclasses.asdict(view)}
    found = reader.rows(view.degrade(scene.images, fps), fps)
    if found is not None:
        rows["real"] = found
    for index in range(fakes):
        how = Manipulation.draw(rng, others=bool(givers))
        name = str(rng.choice(sorted(givers))) if givers else ""
        found = reader.rows(view.degrade(manipulate(scene, how, givers.get(name)), fps), fps)
        if found is not None:
            rows[f"fake{index}"] = found
            made[f"fake{index}"] = {**dataclasses.asdict(how), "giver": name if how.source == "other" else ""}
    return rows, made


def _save(path: Path, **arrays: object) -> None:
    """Whole or not at all: a run that is killed while it writes leaves no half file behind."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def generate(
    data: Path, out: Path, views: Sequence[int], fakes: int, seed: int
) -> Iterator[tuple[Path, dict[str, int], float]]:
    """Makes the missing views; yields each file with its rows by class and the seconds that it took.

    A file holds "real", "fake0", ... (N, 136) int16 and "made", JSON.

    Raises:
        ValueError: no manifest, too few real videos in its split "train", or one that cannot be read.
        OSError: a folder that cannot be written.
    """
    cv2.setNumThreads(1)
    items = sorted((i for i in read_items(data, split="train", kind="video") if i.label == 0), key=lambda i: i.path)
    if len({item.path.stem for item in items}) < len(items):
        raise ValueError(f"{data}: two videos of the split train have the same file name")
    held = held_out(items, seed)
    (out / "survey").mkdir(parents=True, exist_ok=True)
    reader = FaceReader()
    videos: list[Video] = []
    for item in items:
        try:
            video = survey(item.path, reader, out / "survey")
        except MediaError as error:
            raise ValueError(f"{item.path}: {error}") from error
        videos += [video] if video is not None else []
    faces = {video.name: giver(video) for video in videos}
    for number in views:
        for video in videos:
            file = out / f"{video.name}-{number:02d}.npz"
            if file.is_file():
                continue
            began = time.perf_counter()
            others = {v.name: faces[v.name] for v in videos if (v.name in held) == (video.name in held) and v != video}
            rows, made = make_view(video, number, fakes, seed, reader, others)
            made |= {"video": video.name, "split": "validation" if video.name in held else "train", "seed": seed}
            made |= {"extractor": reader.extractor, "box_every": reader.settings.box_every}
            _save(file, made=json.dumps(made), **rows)
            yield file, {name: len(found) for name, found in rows.items()}, time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 made, 2 usage or videos that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a manifest with real videos, or a folder with one")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the sequences")
    parser.add_argument("--views", type=int, default=8, help="views of each video")
    parser.add_argument("--first", type=int, default=0, help="number of the first view, to share the work out")
    parser.add_argument("--fakes", type=int, default=2, help="manipulations of each view")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    numbers = range(given.first, given.first + given.views)
    try:
        for file, counts, seconds in generate(given.data, given.out, numbers, given.fakes, given.seed):
            print(f"{file.name}: {counts}, {seconds:.1f} s", flush=True)
    except (ValueError, OSError) as error:
        print(f"python -m train.landmark_data: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
