"""Perceptual hashes of faces: the same picture, stored again at another size or quality, gets nearly the same bits.

A hash says which of the 255 lowest frequencies of a face's discrete cosine transform lie above their median (Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010, there 64 bits). 64 bits do not do for faces,
which all look alike at that coarseness. Of the 24 million pairs of different people among 6,944 portraits and frames of
real videos (less the two pictures that truly were the same) none is within 52 bits, 6 are within 56 and 28 within 64;
the tail grows tenfold in 6 to 8 bits, so at 40 about one is expected among 100,000 x 100,000 faces. Of 113 portraits
that were stored again, faces and landmarks found anew, all are within 40 bits at JPEG quality 60, 96 % at 60 % of the
size and quality 75, 96 % at half the size and quality 40; half of them within 8. With 64 bits the threshold that finds
as many, 6, makes 15 false pairs among the 24 million.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from preprocessing.crops import face_input
from preprocessing.inputs import FaceInput
from preprocessing.types import Image, Points
from train.packs import BROKEN

FRAME = FaceInput(64, 1.8)
"""The framing in which faces are compared, whatever they are stored in: hair and backdrop tell pictures apart."""
NEAR = 40
"""Bits of 255 by which two pictures may differ and still count as one; see the module for why."""
SIDE = 16
WORDS = SIDE * SIDE // 64
BANDS = SIDE
AT_ONCE = 1 << 20
"""Candidate pairs compared at once, about 100 MB."""

Hashes = NDArray[np.uint64]


def _order() -> NDArray[np.int64]:
    """Places in a FRAME-sized transform of the 255 lowest frequencies after the constant; dealt out so that each of the
    16 bands of the search has some of all."""
    down, right = np.mgrid[: FRAME.size, : FRAME.size]
    lowest = np.lexsort((down.ravel(), (down + right).ravel()))[1 : SIDE * SIDE]
    return np.concatenate([lowest[band::BANDS] for band in range(BANDS)])


_LOWEST = _order()


def perceptual_hash(image: Image, points: Points) -> Hashes:
    """The hash (4,) uint64 of the face with those landmarks (68 or 81, 2) in a picture (H, W, 3) RGB, or a crop."""
    grey = cv2.cvtColor(face_input(image, (0, 0), points[:68], FRAME), cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = dctn(grey, norm="ortho").ravel()[_LOWEST]
    bits = np.append(low > np.median(low), False)
    return np.packbits(bits).view(np.uint64)


def distances(one: Hashes, other: Hashes) -> NDArray[np.int64]:
    """Bits (N,) in which hashes (N, 4) differ, row by row."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def near_pairs(
    one: Hashes, other: Hashes, limit: int = NEAR
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of `one` (N, 4), rows of `other` (M, 4) and their distances, of all pairs that differ in `limit` bits or
    less, sorted by distance.

    Multi-index hashing (Norouzi et al., CVPR 2012): only pairs that differ by one bit at most in one of 16 bands of 16
    bits are compared. That finds every pair up to 31 bits, and of those at 40 all but about one in a thousand.
    """
    pairs: list[NDArray[np.int64]] = []
    ours, theirs = (np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, BANDS) for hashes in (one, other))
    for band in range(BANDS):
        keys = theirs[:, band]
        order = np.argsort(keys, kind="stable")
        bounds = np.searchsorted(keys[order], np.arange(2**16 + 1))
        for flip in (0, *(1 << bit for bit in range(16))):
            probe = (ours[:, band] ^ np.uint16(flip)).astype(np.int64)
            for rows, found in _candidates(bounds[probe], bounds[probe + 1], order):
                near = distances(one[rows], other[found]) <= limit
                pairs.append(rows[near] * len(other) + found[near])
    joined = np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, np.int64)
    rows, found = np.divmod(joined, max(len(other), 1))
    bits = distances(one[rows], other[found])
    nearest = np.argsort(bits, kind="stable")
    return rows[nearest], found[nearest], bits[nearest]


def _candidates(
    low: NDArray[np.int64], high: NDArray[np.int64], order: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Row i with each of order[low[i]:high[i]], about AT_ONCE pairs at a time."""
    counts = high - low
    rows = np.flatnonzero(counts)
    for part in np.split(rows, np.flatnonzero(np.diff(np.cumsum(counts[rows]) // AT_ONCE)) + 1):
        if len(part):
            ends = np.cumsum(counts[part])
            inside = np.arange(ends[-1]) - np.repeat(ends - counts[part], counts[part])
            yield np.repeat(part, counts[part]), order[np.repeat(low[part], counts[part]) + inside]


@dataclass(frozen=True)
class Fingerprints:
    """What tells the faces of one side of a comparison apart: `name` of the side; and for each of N faces `file` (as a
    person finds it), `people` (";" between identities, "" where none is known), `source` (of the real video or picture
    that it was made from, "" where unknown), `sha256` of the media file ("" where unknown), `hashes` (N, 4)."""

    name: str
    file: NDArray[np.str_]
    people: NDArray[np.str_]
    source: NDArray[np.str_]
    sha256: NDArray[np.str_]
    hashes: Hashes

    def __len__(self) -> int:
        return len(self.file)

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_], name: str) -> Fingerprints:
        """Those faces, as a side of that name."""
        parts = {key: getattr(self, key)[rows] for key in ("file", "people", "source", "sha256", "hashes")}
        return replace(self, name=name, **parts)


def hash_all(faces: Iterable[tuple[Image, Points]], cache: Path | None = None, key: str = "") -> Hashes:
    """Hashes (N, 4) of pictures with their landmarks, kept in `cache` under `key`, which says what they are of.

    A cache that cannot be written is done without; one of another key is replaced.
    """
    if cache is not None:
        try:
            with np.load(cache, allow_pickle=False) as stored:
                if str(stored["key"]) == key:
                    return np.asarray(stored["hashes"], np.uint64)
        except BROKEN:
            pass
    made = [perceptual_hash(image, points) for image, points in faces]
    hashes = np.stack(made) if made else np.zeros((0, WORDS), np.uint64)
    if cache is not None:
        part = cache.with_name(f".part-{os.getpid()}-{cache.name}")
        try:
            with part.open("wb") as file:
                np.savez(file, key=np.array(key), hashes=hashes)
            part.replace(cache)
        except OSError:
            part.unlink(missing_ok=True)
    return hashes


def digest(*parts: Sequence[str] | NDArray[np.generic]) -> str:
    """A key for `hash_all`: of the framing and of everything that the hashes depend on."""
    found = hashlib.sha256(f"{FRAME} {SIDE} 1".encode())
    for part in parts:
        found.update(part.tobytes() if isinstance(part, np.ndarray) else "\n".join(part).encode())
    return found.hexdigest()


def joined(sources: NDArray[np.str_], hashes: Hashes, limit: int = NEAR) -> NDArray[np.str_]:
    """`sources` (N,) with those that share a near-duplicate face under one name, the first in order."""
    rows, found, _ = near_pairs(hashes, hashes, limit)
    names = np.unique(sources)
    place = np.searchsorted(names, sources)
    first = np.arange(len(names))

    def root(node: int) -> int:
        while first[node] != node:
            first[node] = first[first[node]]
            node = int(first[node])
        return node

    for one, other in np.unique(np.sort(np.stack([place[rows], place[found]], 1), axis=1), axis=0).tolist():
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return names[[root(node) for node in place.tolist()]] if len(names) else sources
