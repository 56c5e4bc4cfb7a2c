"""FaceForensics++ (Roessler et al., ICCV 2019) as its download script writes it.

    original_sequences/{youtube,actors}/{raw,c23,c40}/videos/NNN.mp4
    manipulated_sequences/METHOD/{raw,c23,c40}/videos/TTT_SSS.mp4   (target, source of the face)
    manipulated_sequences/METHOD/masks/videos/TTT_SSS.mp4
    splits/{train,val,test}.json                                    (pairs of ids; also at the root)

Google's DeepFakeDetection, which the script downloads too, is indexed beside it and belongs to none of the splits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from preprocessing.datasets.items import FAKE, REAL, VIDEOS, DatasetError, Item, mostly, some
from preprocessing.datasets.layouts.dfd import Actors
from preprocessing.datasets.registry import layout
from preprocessing.datasets.tree import Tree

ORIGINALS = "original_sequences/youtube"
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
COMPRESSIONS = ("raw", "c0", "c23", "c40")
VIDEO_COUNT = 1000
PAIR_COUNTS = {"train": 360, "val": 70, "test": 70}
ORIGINAL = re.compile(r"\d{3}")
MANIPULATED = re.compile(r"\d{3}_\d{3}")


@layout("faceforensics")
class FaceForensics:
    """The four (with FaceShifter five) manipulations of 1,000 videos, official split 720/140/140."""

    title = "FaceForensics++"
    official_split = True

    def evidence(self, tree: Tree) -> str:
        if tree.has_folder(ORIGINALS):
            return f"{ORIGINALS}/"
        found = [name for name in METHODS if tree.has_folder(f"manipulated_sequences/{name}")]
        return f"manipulated_sequences/{found[0]}/" if found else ""

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        notes: list[str] = []
        pairs = read_splits(tree, notes) if official else {}
        split_of = {one: split for split, both in pairs.items() for pair in both for one in pair}
        items = self._originals(tree, split_of, notes)
        there = {item.path for item in items}
        for method in METHODS:
            if tree.has_folder(f"manipulated_sequences/{method}"):
                items += self._manipulated(tree, method, split_of, there, notes)
                self._missing_pairs(tree, method, pairs, notes)
            elif method != "FaceShifter":
                notes.append(f"manipulated_sequences/{method} is not there")
        items += Actors.index_part(tree, notes)
        return items, notes

    def _originals(self, tree: Tree, split_of: dict[str, str], notes: list[str]) -> list[Item]:
        if not tree.has_folder(ORIGINALS):
            notes.append(f"{ORIGINALS} is not there: no real video")
        items = []
        for level, stems in _levels(tree, ORIGINALS, ORIGINAL, MANIPULATED, "original", notes):
            folder = f"{ORIGINALS}/{level}/videos"
            for stem, name in stems.items():
                path = f"{folder}/{name}"
                split = split_of.get(stem, "")
                items.append(
                    Item(path, REAL, "FaceForensics++", "", level, split, (f"FaceForensics++/{stem}",), source=path)
                )
            if split_of and (unknown := set(stems) - set(split_of)):
                notes.append(f"{folder}: {some(unknown)} in no split file")
        return items

    def _manipulated(
        self, tree: Tree, method: str, split_of: dict[str, str], originals: set[str], notes: list[str]
    ) -> list[Item]:
        base = f"manipulated_sequences/{method}"
        masks = {name.rsplit(".", 1)[0]: name for name in tree.names(f"{base}/masks/videos", VIDEOS)}
        items, odd = [], set()
        for level, stems in _levels(tree, base, MANIPULATED, ORIGINAL, "manipulated", notes):
            for stem, name in stems.items():
                target, giver = stem.split("_")
                splits = {split_of.get(target, ""), split_of.get(giver, "")}
                if len(splits) > 1:
                    odd.add(stem)
                source = f"{ORIGINALS}/{level}/videos/{target}.mp4"
                items.append(
                    Item(
                        f"{base}/{level}/videos/{name}",
                        FAKE,
                        "FaceForensics++",
                        method,
                        level,
                        splits.pop() if len(splits) == 1 else "",
                        (f"FaceForensics++/{target}", f"FaceForensics++/{giver}"),
                        source=source if source in originals else "",
                        mask=f"{base}/masks/videos/{masks[stem]}" if stem in masks else "",
                    )
                )
        if odd:
            notes.append(f"{base}: {some(odd)} pair people of two splits and belong to none")
        if masks and (without := {item.path for item in items if not item.mask}):
            notes.append(f"{base}: {len(without)} videos have no mask ({some(without)})")
        elif not masks:
            notes.append(f"{base}/masks/videos is not there: no masks for {method}")
        return items

    def _missing_pairs(self, tree: Tree, method: str, pairs: dict[str, list[list[str]]], notes: list[str]) -> None:
        wanted = {f"{a}_{b}" for both in pairs.values() for pair in both for a, b in (pair, pair[::-1])}
        for level in COMPRESSIONS:
            folder = f"manipulated_sequences/{method}/{level}/videos"
            there = {name.rsplit(".", 1)[0] for name in tree.names(folder, VIDEOS)}
            if wanted and there and (missing := wanted - there):
                notes.append(f"{folder}: {len(missing)} of the official pairs are missing ({some(missing)})")


def _levels(
    tree: Tree, base: str, right: re.Pattern[str], swapped: re.Pattern[str], what: str, notes: list[str]
) -> list[tuple[str, dict[str, str]]]:
    """(compression, {stem: file name}) of the videos below `base` whose names fit; the rest is told of."""
    found = []
    for level in COMPRESSIONS:
        folder = f"{base}/{level}/videos"
        stems = {name.rsplit(".", 1)[0]: name for name in tree.names(folder, VIDEOS)}
        if mostly(list(stems), swapped):
            raise DatasetError(
                f"{tree.full(folder)} should hold {what} videos, but its files are named like the other kind"
                f" ({some(stems)})",
                "the folders seem swapped: originals are NNN.mp4, manipulated videos TTT_SSS.mp4",
            )
        fitting = {stem: name for stem, name in stems.items() if right.fullmatch(stem)}
        if stems and not fitting:
            raise DatasetError(
                f"{tree.full(folder)} holds no file named as in FaceForensics++ ({some(stems)})",
                "two data sets may be mixed: give each a folder of its own",
            )
        if odd := set(stems) - set(fitting):
            notes.append(
                f"{folder}: {len(odd)} files are not named as in FaceForensics++ and are left out ({some(odd)})"
            )
        if stems and len(fitting) != VIDEO_COUNT:
            notes.append(f"{folder}: {len(fitting)} videos of {VIDEO_COUNT}")
        if not stems and tree.has_folder(f"{base}/{level}/images"):
            notes.append(f"{base}/{level} holds images/ but no videos/: download the videos (-t videos)")
        if fitting:
            found.append((level, fitting))
    if not found and tree.has_folder(base):
        notes.append(f"{base}: no videos in {', '.join(COMPRESSIONS)}")
    return found


def read_splits(tree: Tree, notes: list[str]) -> dict[str, list[list[str]]]:
    """The official pairs of ids by split. Raises DatasetError for a missing or wrong file."""
    pairs: dict[str, list[list[str]]] = {}
    seen: dict[str, str] = {}
    for split, count in PAIR_COUNTS.items():
        path = next((p for p in (f"splits/{split}.json", f"{split}.json") if tree.has(p)), None)
        if path is None:
            raise DatasetError(
                f"{tree.full(f'splits/{split}.json')}, FaceForensics++'s official split, is missing",
                "copy the three files of dataset/splits from its repository to splits/, or split anew with --split own",
            )
        pairs[split] = _pairs(tree, path)
        if len(pairs[split]) != count:
            notes.append(f"{path} has {len(pairs[split])} pairs, the official one {count}")
        for one in (name for pair in pairs[split] for name in pair):
            if seen.setdefault(one, split) != split:
                raise DatasetError(f"{path}: {one} is in {seen[one]}.json too", "restore the official split files")
    return pairs


def _pairs(tree: Tree, path: str) -> list[list[str]]:
    try:
        read = json.loads(tree.text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{tree.full(path)} is not JSON: {error}") from None
    fits = isinstance(read, Sequence) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in read
    )
    if not fits:
        raise DatasetError(f"{tree.full(path)} is not a list of pairs of ids", "restore the official split file")
    return [[one.zfill(3) for one in pair] for pair in read]
