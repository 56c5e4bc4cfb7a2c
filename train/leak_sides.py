"""What is compared for leaks (train/leaks.py): faces of packs, prepared sets and media, with whom they show."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
from numpy.typing import NDArray

from preprocessing.datasets import DatasetError, Item, index_dataset
from preprocessing.datasets.items import PICTURES, SPLITS, VIDEOS
from preprocessing.datasets.layouts.plain import MANIFESTS
from preprocessing.errors import MediaError
from preprocessing.types import Image, Points
from train.fingerprints import Fingerprints, Hashes, digest, hash_all
from train.packs import held_out, person_of
from train.recipe import RecipeError

if TYPE_CHECKING:
    from train.clip_pack import ClipPack
    from train.faces import FaceFinder, FacePack
    from train.labelled import Item as Labelled
    from train.prepare import PreparedSet

FRAMES = 8
"""Frames of one video that are compared: its other frames look like these."""


def _kept(path: Path | None) -> Path | None:
    return None if path is None else path.with_suffix(".fingerprints.npz")


def of_faces(pack: FacePack, path: Path | None = None) -> Fingerprints:
    """The faces of a pack, one row each; their hashes are kept beside it as NAME.fingerprints.npz."""
    faces = ((pack.image(row), pack.points[row]) for row in range(len(pack)))
    hashes = hash_all(faces, _kept(path), digest(pack.jpegs, pack.points))
    return _of_rows(str(path or "the pack"), pack, np.arange(len(pack)), hashes)


def of_clips(pack: ClipPack, path: Path | None = None) -> tuple[Fingerprints, NDArray[np.int64]]:
    """Some frames of every clip of a pack, and the clip (N,) of each."""
    clips, places = np.array([(clip, i) for clip in range(len(pack)) for i in pack.looked_at(clip)], np.int64).T
    shown = zip(clips.tolist(), places.tolist(), strict=True)
    faces = ((pack.image(clip, i), pack.landmarks(clip)[i]) for clip, i in shown)
    hashes = hash_all(faces, _kept(path), digest(pack.jpegs, pack.points, clips, places))
    return _of_rows(str(path or "the pack"), pack, clips, hashes), clips


def _of_rows(name: str, pack: FacePack | ClipPack, rows: NDArray[np.int64], hashes: Hashes) -> Fingerprints:
    file = [f"{source} (sha256 {sha[:12]})" for source, sha in zip(pack.source, pack.sha256, strict=True)]
    nowhere = np.full(len(rows), "")
    return Fingerprints(name, np.array(file)[rows], pack.source[rows], nowhere, pack.sha256[rows], hashes)


def of_prepared(data: PreparedSet) -> list[Fingerprints]:
    """Some faces of every video of a prepared set, a side for each of its splits; the hashes are kept in its folder."""
    rows_of: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isfinite(data.landmarks).all(axis=(1, 2))).tolist():
        rows_of.setdefault(data.video(row).key, []).append(row)
    rows = sorted(row for every in rows_of.values() for row in _spread(every))
    videos = [data.video(row) for row in rows]

    def faces() -> Iterator[tuple[Image, Points]]:
        for row in rows:
            sample = data[row]
            yield sample.image, sample.in_crop(sample.landmarks)

    cache = Path(data.folder) / "fingerprints.npz" if Path(data.folder).is_dir() else None
    key = digest([f"{video.key} {video.record['shard']}" for video in videos], data.landmarks[rows])
    hashes = hash_all(faces(), cache, key)
    items = [video.item for video in videos]
    shas = [str(video.record.get("sha256") or "") for video in videos]
    return _by_split(str(data.folder), items, [item.path for item in items], shas, hashes)


def of_media(place: Path, split: str | None = None) -> list[Fingerprints]:
    """The faces of labelled media: a manifest, a data set's folder, or any folder of pictures and videos.

    A side for each split, or that one alone; one side where there are no splits. Of a picture the largest face, of a
    video that of some frames. Hashes are kept in the platform's cache folder. Raises RecipeError where there is nothing
    to compare.
    """
    root, items = _items(place)
    return of_items(str(place), root, [item for item in items if split is None or item.split == split])


def of_items(name: str, root: Path, items: Sequence[Item]) -> list[Fingerprints]:
    """`of_media` of chosen items, whose paths count from `root`."""
    from train.faces import FaceFinder

    finder = functools.cache(FaceFinder)  # made when the first file is not known yet: that takes seconds
    kept: list[tuple[Item, str, str]] = []
    parts: list[Hashes] = []
    for item in items:
        whole = root / item.path
        pictures = sorted(p for p in whole.iterdir() if p.suffix.lower() in PICTURES) if whole.is_dir() else [whole]
        for path in [pictures[i] for i in _spread(list(range(len(pictures))))]:
            try:
                sha = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise RecipeError(f"{path}: {error.strerror or error}; mend {name}, or leave the file out") from None
            parts.append(_of_file(path, sha, finder))
            kept += [(_named(item), str(path), sha)] * len(parts[-1])
    if not kept:
        raise RecipeError(f"no face was found in the {len(items)} files of {name}: there is nothing to compare")
    named, files, shas = (list(column) for column in zip(*kept, strict=True))
    return _by_split(name, named, files, shas, np.concatenate(parts))


def _of_file(path: Path, sha: str, finder: Callable[[], FaceFinder]) -> Hashes:
    def faces() -> Iterator[tuple[Image, Points]]:
        try:
            yield from (found for found in finder()(path, FRAMES) if found is not None)
        except MediaError as error:
            print(f"{path} is not compared: {error}", file=sys.stderr)

    kept = Path(platformdirs.user_cache_dir("unmask")) / "fingerprints"
    with contextlib.suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
    return hash_all(faces(), kept / f"{sha}.npz", digest([sha, str(FRAMES)]))


def _items(place: Path) -> tuple[Path, list[Item]]:
    from train.labelled import read_items

    if place.is_file() and place.name not in MANIFESTS:
        try:
            listed = read_items(place)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        return place.parent, [as_item(one, place.parent) for one in listed]
    root = place.parent if place.is_file() else place
    try:
        return root, list(index_dataset("auto", str(root)).items)
    except DatasetError as error:
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in (*PICTURES, *VIDEOS))
        if not paths:
            raise RecipeError(str(error)) from None
        return root, [Item(str(path.relative_to(root)), 0, root.name) for path in paths]


def as_item(one: Labelled, root: Path) -> Item:
    """A labelled file as an item of a data set, its path counted from `root`."""
    path = os.path.relpath(one.path, root)
    people = (f"{one.dataset}/{one.identity}",) if one.identity else ()
    return Item(path, one.label, one.dataset, one.method, split=one.split, identities=people)


def _named(item: Item) -> Item:
    """A portrait's file is named after the person: packs know people by that."""
    if not item.identities or not item.path.lower().endswith(PICTURES):
        return item
    return replace(item, identities=tuple({*item.identities, person_of(item.dataset, Path(item.path))}))


def _spread(rows: list[int]) -> list[int]:
    if not rows:
        return []
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, FRAMES).round().astype(int)).tolist()]


def _by_split(
    name: str, items: Sequence[Item], files: Sequence[str], shas: Sequence[str], hashes: Hashes
) -> list[Fingerprints]:
    every = Fingerprints(
        name,
        np.array(files, np.str_),
        np.array([";".join(item.identities) for item in items], np.str_),
        np.array([f"{item.dataset}/{item.source}" if item.source else "" for item in items], np.str_),
        np.array(shas, np.str_),
        hashes,
    )
    splits = np.array([item.split for item in items], np.str_)
    named = [split for split in (*SPLITS, "dev") if (splits == split).any()]
    return [every.select(splits == split, split) for split in named] if named else [every]


def sides_of(place: Path, seed: int = 1, share: float = 0.1, split: str | None = None) -> list[Fingerprints]:
    """What is compared of a pack (as `share` of it would be held out with `seed`), a prepared set, or media.

    Raises RecipeError where there is nothing that can be compared.
    """
    from train.prepare import PreparedSet, PrepareError

    if not place.exists():
        raise RecipeError(f"there is no file or folder {place}")
    if (place / "prepared.json").is_file():
        try:
            sides = of_prepared(PreparedSet(place))
        except PrepareError as error:
            raise RecipeError(str(error)) from error
        return [side for side in sides if split in (None, side.name)]
    if place.suffix == ".npz":
        every = of_pack(place)
        held = held_out(every.people, share, seed)
        return [every.select(~held, "train"), every.select(held, "validation")]
    return of_media(place, split)


def of_pack(path: Path) -> Fingerprints:
    """The faces of a pack of either kind. Raises RecipeError."""
    from train.clip_pack import ClipPack
    from train.faces import FacePack

    if ClipPack.is_in(path):
        return of_clips(ClipPack.load(path), path)[0]
    return of_faces(FacePack.load(path), path)


def whole(sides: Sequence[Fingerprints], name: str) -> Fingerprints:
    """All sides as one. Raises RecipeError where there is none."""
    if not sides:
        raise RecipeError(f"{name} has nothing of that split")
    parts = ("file", "people", "source", "sha256", "hashes")
    return Fingerprints(name, *(np.concatenate([getattr(side, part) for side in sides]) for part in parts))
