"""One item of a data set to its samples: decode, track, landmarks, crops, masks."""

from __future__ import annotations

import posixpath
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.calibration import SIDE, calibrate_tracks
from preprocessing.crops import crop_transform, face_input
from preprocessing.datasets.items import PICTURES, Item
from preprocessing.datasets.tree import Tree
from preprocessing.errors import MediaError, UndecodableMedia, UnsupportedMedia
from preprocessing.faces import create_face_detector
from preprocessing.faces.dlib_detectors import HogDetector
from preprocessing.landmarks import LandmarkPredictor, create_landmark_predictor
from preprocessing.media import open_media
from preprocessing.models import ModelFileError
from preprocessing.quality import quality_flags
from preprocessing.tracking import FaceTracker
from preprocessing.types import FaceCrop, Frame, Image, Points, Track
from train.prepare.cuts import encoded, frame_number, margin_cut, rounded
from train.prepare.sampling import FramePlan, plan_frames
from train.prepare.settings import PrepareSettings

ASSUMED_FPS = 25.0
"""Folders of frames do not say theirs."""
CROPPED_BORDER = 0.3
"""Of the picture's side, repeated pixels around a face that was cut out tightly, so that the detector sees a head."""


@dataclass
class Prepared:
    """`record`: the video's entry of the index, its samples in it; `files[i]`: (suffix, bytes) of sample i."""

    record: dict[str, Any]
    files: list[list[tuple[str, bytes]]] = field(default_factory=list)


@dataclass
class _Kept:
    """A sample whose track is not chosen yet. `transform` (2, 3): crop = M[:, :2] @ frame + M[:, 2]."""

    record: dict[str, Any]
    image: bytes
    transform: NDArray[np.float64]
    shape: tuple[int, int]
    box: NDArray[np.float32]
    landmarks: Points
    mask: NDArray[np.uint8] | None = None


class Extractor:
    """Holds the models of one worker; give it one item after another. Raises ModelFileError."""

    def __init__(self, tree: Tree, settings: PrepareSettings) -> None:
        cv2.setNumThreads(1)
        self.tree, self.settings = tree, settings
        self._landmarks = create_landmark_predictor()
        self._forehead = None
        if settings.landmark_model is not None:
            self._forehead = create_landmark_predictor(settings.landmark_model)
            if self._forehead.count != 81:
                raise ModelFileError(f"{settings.landmark_model} predicts {self._forehead.count} landmarks, not 81")
        self._detectors: dict[bool, Any] = {}
        self._tight = HogDetector(480, 2.0)

    def __call__(self, item: Item) -> Prepared:
        """Raises MediaError for an item that cannot be read; no face is an outcome in the record."""
        if item.kind == "frames":
            return self._folder(item)
        with self._local(item.path) as path, open_media(path, self.settings.limits, threads=1) as media:
            info = media.info
            still = info.kind == "image"
            total = 1 if still else info.frames or self._count(path)
            plan = plan_frames(self.settings, total)
            kept, seen, warnings = self._track(media, plan, (info.width, info.height), still)
            if not still and plan.misfits(seen):
                plan = plan_frames(self.settings, seen)
                kept, seen, warnings = self._track(media, plan, (info.width, info.height), still)
            described = {
                "sha256": info.sha256,
                "size_bytes": info.size_bytes,
                "media": {
                    "kind": info.kind, "codec": info.codec, "width": info.width, "height": info.height,
                    "fps": info.fps, "frames_claimed": info.frames, "frames": seen,
                },
                "warnings": [*media.warnings, *warnings],
            }  # fmt: skip
            return self._finish(item, kept, plan, described, path)

    # --- faces of frames

    def _detector(self, still: bool) -> Any:
        if still not in self._detectors:
            self._detectors[still] = create_face_detector(self.settings.detector, still)
        return self._detectors[still]

    def _track(
        self, frames: Iterable[Frame], plan: FramePlan, size: tuple[int, int], still: bool
    ) -> tuple[dict[int, list[_Kept]], int, list[str]]:
        """The samples of each track, how many frames there were, and the tracker's warnings."""
        tracker = FaceTracker(self.settings.tracking(), self._detector(still))
        kept: dict[int, list[_Kept]] = defaultdict(list)
        for chunk in tracker.chunks(frames, still=still):
            for face in chunk.faces:
                if face.frame in plan.runs:
                    sample = self._sample(face, size)
                    if self.settings.runs is not None:
                        sample.record["run"] = plan.runs[face.frame]
                    kept[face.track].append(sample)
        return kept, tracker.frames_seen, tracker.warnings

    def _sample(self, face: FaceCrop, size: tuple[int, int]) -> _Kept:
        points = _points(self._landmarks, face)[:68]
        if self.settings.crop == "aligned":
            spec = self.settings.face()
            cut, transform = face_input(face.image, face.offset, points, spec), crop_transform(points, spec)
        else:
            cut, transform = margin_cut(face.image, face.offset, points, self.settings)
        return _Kept(self._describe(face, points, size), self._encode(cut), transform, cut.shape[:2], face.box, points)

    def _describe(self, face: FaceCrop, points: Points, size: tuple[int, int]) -> dict[str, Any]:
        record: dict[str, Any] = {
            "frame": face.frame,
            "time": round(face.time, 6),
            "track": face.track,
            "box": rounded(face.box),
            "score": round(face.score, 4),
            "detected": face.detected,
            "landmarks": rounded(points),
            "quality": sorted(quality_flags(face, points, size)),
        }
        if self._forehead is not None:
            record["landmarks_81"] = rounded(_points(self._forehead, face))
        return record

    def _encode(self, image: Image) -> bytes:
        if self.settings.image == "png":
            return encoded(".png", image, [])
        full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, self.settings.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
        return encoded(".jpg", image, options)

    # --- the choice of tracks, masks, calibration

    def _finish(
        self, item: Item, kept: dict[int, list[_Kept]], plan: FramePlan, described: dict[str, Any], path: Path | None
    ) -> Prepared:
        every = [sample for track in sorted(kept) for sample in kept[track]]
        if item.mask and every:
            self._add_masks(item, every, described)
        chosen_by = "all" if self.settings.faces == "all" else "only"
        if self.settings.faces == "main" and len(kept) > 1:
            by_mask = any(sample.mask is not None and sample.mask.any() for sample in every)
            chosen_by = "mask" if by_mask else "size"
            kept = _main_track(kept, by_mask)
        samples = [sample for track in sorted(kept) for sample in kept[track]]
        if self.settings.runs is not None:
            samples = _whole_runs(samples, self.settings.runs[1])
            if samples and path is not None:
                self._calibrate(path, samples, described)
        samples.sort(key=lambda sample: (sample.record["frame"], sample.record["track"]))
        outcome = "done" if samples else "too_short" if not plan.runs else "no_run" if every else "no_face"
        prepared = Prepared(
            {
                "video": item.key,
                "item": item.as_dict(),
                "outcome": outcome,
                **described,
                "frames_wanted": len(plan.runs),
                "tracks": len({sample.record["track"] for sample in every}),
                "chosen_by": chosen_by,
                "samples": [sample.record for sample in samples],
            }
        )
        suffix = "png" if self.settings.image == "png" else "jpg"
        for sample in samples:
            record = sample.record
            record["key"] = f"{item.key}-f{record['frame']:06d}-t{record['track']:02d}"
            record["shape"] = list(sample.shape)
            record["transform"] = [[round(float(v), 6) for v in row] for row in sample.transform]
            files = [(suffix, sample.image)]
            if sample.mask is not None:
                files.append(("mask.png", encoded(".png", sample.mask, [])))
            prepared.files.append(files)
        return prepared

    def _add_masks(self, item: Item, samples: list[_Kept], described: dict[str, Any]) -> None:
        """Cuts each sample's crop out of the same frame of the mask's video; grey 0..255 as it is stored there."""
        by_frame = defaultdict(list)
        for sample in samples:
            by_frame[sample.record["frame"]].append(sample)
        size = described["media"]["width"], described["media"]["height"]
        try:
            with self._local(item.mask) as path, open_media(path, self.settings.limits, threads=1) as media:
                # A mask's video may be smaller than the video that it belongs to.
                scale = np.array([media.info.width / size[0], media.info.height / size[1]])
                for frame in media:
                    for sample in by_frame.pop(frame.index, ()):
                        to_crop = sample.transform.copy()
                        to_crop[:, :2] /= scale
                        to_crop[:, 2] += sample.transform[:, :2] @ (0.5 / scale - 0.5)
                        height, width = sample.shape
                        grey = frame.image.max(axis=2)
                        sample.mask = np.asarray(cv2.warpAffine(grey, to_crop, (width, height)), np.uint8)
                    if not by_frame:
                        break
        except MediaError as error:
            described["warnings"].append(f"no mask: {item.mask}: {error}")
            return
        if by_frame:
            described["warnings"].append(f"the mask's video ends early: {len(by_frame)} frames have none")

    def _calibrate(self, path: Path, samples: list[_Kept], described: dict[str, Any]) -> None:
        """LRNet's calibrated landmarks of the runs, in whole pixels of its 400 x 400 square, by a second decode."""
        by_track = defaultdict(list)
        for sample in samples:
            by_track[sample.record["track"]].append(sample)
        tracks = {
            number: Track(
                number,
                np.array([s.record["frame"] for s in rows], np.int64),
                np.array([s.record["time"] for s in rows]),
                np.stack([s.box for s in rows]),
                np.stack([s.landmarks for s in rows]),
            )
            for number, rows in by_track.items()
        }
        try:
            with open_media(path, self.settings.limits, threads=1) as media:
                calibrated = calibrate_tracks(media, tracks)
        except (UndecodableMedia, ValueError) as error:
            described["warnings"].append(f"not calibrated: {error}")
            return
        for number, rows in by_track.items():
            values = np.rint(calibrated[number].values * (SIDE / 2) + SIDE / 2).astype(int)
            of_frame = dict(zip(calibrated[number].frames.tolist(), values.tolist(), strict=True))
            for sample in rows:
                sample.record["calibrated"] = of_frame.get(sample.record["frame"])

    # --- folders of frames

    def _folder(self, item: Item) -> Prepared:
        names = sorted(self.tree.names(item.path, PICTURES), key=frame_number)
        if not names:
            raise UnsupportedMedia("a folder without pictures", "give frames as PNG, JPEG, WebP or BMP")
        plan = plan_frames(self.settings, len(names))
        described: dict[str, Any] = {
            "sha256": None,
            "size_bytes": None,
            "media": {
                "kind": "frames", "codec": names[0].rsplit(".", 1)[1], "fps": None,
                "frames_claimed": len(names), "frames": len(names),
            },
            "warnings": [],
        }  # fmt: skip
        if item.cropped:
            kept = {0: [self._cropped(item, index, names[index]) for index in sorted(plan.runs)]}
            described["media"] |= {"width": kept[0][0].shape[1], "height": kept[0][0].shape[0]} if kept[0] else {}
            return self._finish(item, kept if kept[0] else {}, plan, described, None)
        frames = self._pictures(item, names)
        first = next(frames)
        size = first.image.shape[1], first.image.shape[0]
        described["media"] |= {"width": size[0], "height": size[1]}
        kept, _, described["warnings"] = self._track(_chained(first, frames), plan, size, False)
        return self._finish(item, kept, plan, described, None)

    def _pictures(self, item: Item, names: list[str]) -> Iterator[Frame]:
        for index, name in enumerate(names):
            yield Frame(index, index / ASSUMED_FPS, self._picture(item, name))

    def _picture(self, item: Item, name: str) -> Image:
        with (
            self._local(posixpath.join(item.path, name)) as path,
            open_media(path, self.settings.limits, threads=1) as media,
        ):
            return next(iter(media)).image

    def _cropped(self, item: Item, index: int, name: str) -> _Kept:
        """A face that the data set has cut out: kept as it is, with landmarks where a face is found in it."""
        image = self._picture(item, name)
        height, width = image.shape[:2]
        scale = min(self.settings.size / max(height, width), 1.0)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        transform = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
        border = round(CROPPED_BORDER * max(height, width))
        padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE)
        found = self._tight.detect(padded)
        best = max(found, key=lambda face: float(np.prod(face.box[2:] - face.box[:2]))) if found else None
        box = np.array([0, 0, width - 1, height - 1], np.float32) if best is None else best.box - np.float32(border)
        # In the picture's own coordinates the padded picture begins before it.
        face = FaceCrop(0, index, index / ASSUMED_FPS, box, 0.0, best is not None, (-border, -border), padded)
        if best is None:
            points = np.full((68, 2), np.nan, np.float32)
            record: dict[str, Any] = {
                "frame": index, "time": round(face.time, 6), "track": 0, "box": rounded(box), "score": None,
                "detected": False, "landmarks": None, "quality": [],
            }  # fmt: skip
        else:
            face = replace(face, score=best.score)
            points = _points(self._landmarks, face)[:68]
            record = self._describe(face, points, (width, height))
        record["file"] = name
        return _Kept(record, self._encode(small), transform, small.shape[:2], box, points)

    # --- files

    @contextmanager
    def _local(self, path: str) -> Iterator[Path]:
        """The item's file on this machine: itself, or a copy for as long as the context lasts."""
        full = self.tree.full(path)
        if self.tree.local:
            yield Path(full)
            return
        with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
            copy = Path(folder) / f"media{posixpath.splitext(path)[1]}"
            try:
                self.tree.fs.get_file(full, str(copy))
            except FileNotFoundError:
                raise UnsupportedMedia(f"{full} is not there any more") from None
            yield copy

    def _count(self, path: Path) -> int:
        with open_media(path, self.settings.limits, threads=1) as media:
            return sum(1 for _ in media)


def _points(predictor: LandmarkPredictor, face: FaceCrop) -> Points:
    """(68 or 81, 2) in pixels of the frame."""
    shift = np.array(face.offset, np.float32)
    return np.asarray(predictor.predict(face.image, (face.box - np.tile(shift, 2))[None])[0] + shift, np.float32)


def _main_track(kept: dict[int, list[_Kept]], by_mask: bool) -> dict[int, list[_Kept]]:
    """The track with most of the mask, else with the largest sum of box areas; the first of equals."""

    def weight(track: int) -> float:
        if by_mask:
            return sum(float(s.mask.mean()) for s in kept[track] if s.mask is not None)
        return sum(float(np.prod(s.box[2:] - s.box[:2])) for s in kept[track])

    chosen = max(sorted(kept), key=weight)
    return {chosen: kept[chosen]}


def _whole_runs(samples: list[_Kept], length: int) -> list[_Kept]:
    """Only the runs in which the track has every frame."""
    sizes: dict[tuple[int, int], int] = defaultdict(int)
    for sample in samples:
        sizes[sample.record["track"], sample.record["run"]] += 1
    return [s for s in samples if sizes[s.record["track"], s.record["run"]] == length]


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest
