"""What packs of faces and of clips share: arrays in one file, the media that go into them, and who trains or validates.

A pack is an uncompressed .npz of arrays; others than those that its class names are left alone, so old and new read
each other's.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.types import Image
from train.recipe import RecipeError

BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises where a file is no .npz, or only the beginning of one, or lacks an array."""
STILLS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v"}


class Stored:
    """A dataclass of arrays that is one file."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    maker: ClassVar[str]
    """The command that writes it, for messages."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises RecipeError where `path` is no such pack."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{part.name: stored[part.name] for part in fields(cls)})
        except BROKEN as error:
            raise RecipeError(f"{path} is not a file that `{cls.maker}` wrote, or not all of it: {error}") from error

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **{part.name: getattr(self, part.name) for part in fields(self)})
        part.replace(path)


def picture(jpegs: NDArray[np.uint8], ends: NDArray[np.int64], index: int) -> Image:
    """(H, W, 3) RGB: the picture `index` of JPEGs one after another, `ends` (N,) where each ends."""
    start = int(ends[index - 1]) if index else 0
    return cv2.cvtColor(cv2.imdecode(jpegs[start : ends[index]], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def in_one(jpegs: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """JPEGs one after another, and where each ends."""
    return np.frombuffer(b"".join(jpegs), np.uint8), np.cumsum([len(data) for data in jpegs]).astype(np.int64)


def encoded(crop: Image, quality: int) -> bytes:
    """A crop (H, W, 3) RGB as JPEG without chroma subsampling."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError("the JPEG encoder refused a face crop")
    return bytes(data)


def fraction(text: str) -> float:
    """0 up to 1, the same for the same text."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def held_out(sources: NDArray[np.str_], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows (N,) validate: about `share` of the sources, by the hash of each, so that adding some moves nobody.

    At least two of four or more: a swap between the people who validate takes two.
    """
    places = {source: fraction(f"{seed}/{source}") for source in sorted(set(sources.tolist()))}
    least = sorted(places, key=places.__getitem__)[:2] if len(places) >= 4 else []
    return np.array([places[source] < share or source in least for source in sources.tolist()], bool)


def person_of(dataset: str, path: Path) -> str:
    """The person, where the file's name tells: `Alex_Ferguson_11_1.jpg` is Alex_Ferguson; a bare number is its own."""
    name = re.sub(r"[_\-\d]*\d$", "", path.stem)
    return f"{dataset}/{name or path.stem}"


def media_files(root: Path) -> list[tuple[str, Path]]:
    """(data set, path) of the real media to train on, in a fixed order.

    Where `root` has a manifest.csv, its rows of label real and split train; else every picture and video, the data set
    being the folder's name. Raises RecipeError where there is no such folder.
    """
    if not root.is_dir():
        raise RecipeError(f"{root} is not a folder: give one with pictures and videos of real faces")
    manifest = root / "manifest.csv"
    if manifest.is_file():
        with manifest.open(newline="") as file:
            rows = [
                r
                for r in csv.DictReader(file)
                if r.get("label") in ("real", "0") and r.get("split", "train") == "train"
            ]
        return sorted((row.get("dataset") or Path(row["path"]).parent.name, root / row["path"]) for row in rows)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix.lower() in STILLS | VIDEOS)
    return [(path.parent.name, path) for path in paths]


class Found(Protocol):
    """What was found so far."""

    def __len__(self) -> int: ...


def unreserved(
    files: Sequence[tuple[str, Path]], reserved: str, left: Counter[str], found: Found, what: str
) -> Iterator[tuple[str, Path, str]]:
    """(data set, path, sha256) of the files whose sha256 does not begin with a digit of `reserved`: those measure false
    positives. Counts what is left out in `left`; every ten seconds tells how many of `what` are in `found`."""
    began = last = time.monotonic()
    for count, (dataset, path) in enumerate(files, 1):
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        if sha[0] in reserved:
            left["reserved"] += 1
            continue
        yield dataset, path, sha
        if time.monotonic() - last > 10:
            last = time.monotonic()
            remaining = (last - began) / count * (len(files) - count)
            print(f"{count}/{len(files)} files, {len(found)} {what}, {remaining:.0f} s left", file=sys.stderr)
