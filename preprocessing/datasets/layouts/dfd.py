"""DeepFakeDetection (Google and Jigsaw, 2019): 363 videos of 28 actors and 3,068 swaps between them.

    original_sequences/actors/{raw,c23,c40}/videos/AA__scene.mp4
    manipulated_sequences/DeepFakeDetection/{raw,c23,c40,masks}/videos/AA_BB__scene__ID.mp4   (target, source)

or without compression levels: DFD_original_sequences/ and DFD_manipulated_sequences/ with the videos in them.
"""

from __future__ import annotations

import re

from preprocessing.datasets.items import FAKE, REAL, VIDEOS, DatasetError, Item, mostly, some
from preprocessing.datasets.registry import layout
from preprocessing.datasets.tree import Tree

DATASET = "DeepFakeDetection"
REAL_BASE, FAKE_BASE = "original_sequences/actors", "manipulated_sequences/DeepFakeDetection"
FLAT_REAL = ("DFD_original_sequences", "DFD_original sequences")
FLAT_FAKE = ("DFD_manipulated_sequences", "DFD_manipulated sequences")
LEVELS = ("raw", "c0", "c23", "c40")
COUNTS = {REAL: 363, FAKE: 3068}
ORIGINAL = re.compile(r"(\d\d)__([A-Za-z_0-9]+?)")
MANIPULATED = re.compile(r"(\d\d)_(\d\d)__([A-Za-z_0-9]+?)__([A-Z0-9]{8})")


@layout("dfd")
class Actors:
    """Every actor is swapped with many others, so a split by people leaves swaps out: `--split people`."""

    title = DATASET
    official_split = False

    def evidence(self, tree: Tree) -> str:
        if tree.has_folder("original_sequences/youtube"):
            return ""  # FaceForensics++'s folder, which indexes these too
        flat = next((name for name in (*FLAT_REAL, *FLAT_FAKE) if tree.has_folder(name)), None)
        if flat:
            return f"{flat}/"
        others = [name for name in tree.folders("manipulated_sequences") if name != "DeepFakeDetection"]
        found = next((base for base in (REAL_BASE, FAKE_BASE) if tree.has_folder(base)), None)
        return f"{found}/" if found and not others else ""

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        notes: list[str] = []
        return self.index_part(tree, notes), notes

    @staticmethod
    def index_part(tree: Tree, notes: list[str]) -> list[Item]:
        """The items, also where they lie in FaceForensics++'s folder."""
        real_folders = [(level, f"{REAL_BASE}/{level}/videos") for level in LEVELS]
        fake_folders = [(level, f"{FAKE_BASE}/{level}/videos") for level in LEVELS]
        real_folders += [("", name) for name in FLAT_REAL]
        fake_folders += [("", name) for name in FLAT_FAKE]
        items, originals = [], {}
        for level, folder in real_folders:
            for stem, name in _fitting(tree, folder, ORIGINAL, MANIPULATED, REAL, notes).items():
                path = f"{folder}/{name}"
                originals[(level, stem)] = path
                items.append(Item(path, REAL, DATASET, "", level, "", (f"{DATASET}/{stem[:2]}",), source=path))
        masks = {name.rsplit(".", 1)[0]: name for name in tree.names(f"{FAKE_BASE}/masks/videos", VIDEOS)}
        for level, folder in fake_folders:
            for stem, name in _fitting(tree, folder, MANIPULATED, ORIGINAL, FAKE, notes).items():
                parts = MANIPULATED.fullmatch(stem)
                assert parts is not None
                target, giver, scene, _ = parts.groups()
                items.append(
                    Item(
                        f"{folder}/{name}",
                        FAKE,
                        DATASET,
                        DATASET,
                        level,
                        "",
                        (f"{DATASET}/{target}", f"{DATASET}/{giver}"),
                        source=originals.get((level, f"{target}__{scene}"), ""),
                        mask=f"{FAKE_BASE}/masks/videos/{masks[stem]}" if stem in masks else "",
                    )
                )
        if items and len({item.label for item in items}) == 1:
            notes.append(f"{DATASET}: only {'manipulated' if items[0].label else 'real'} videos are there")
        return items


def _fitting(
    tree: Tree, folder: str, right: re.Pattern[str], swapped: re.Pattern[str], label: int, notes: list[str]
) -> dict[str, str]:
    stems = {name.rsplit(".", 1)[0]: name for name in tree.names(folder, VIDEOS)}
    if mostly(list(stems), swapped):
        raise DatasetError(
            f"{tree.full(folder)} holds files named like the other kind ({some(stems)})",
            "the folders seem swapped: originals are AA__scene.mp4, manipulated videos AA_BB__scene__ID.mp4",
        )
    fitting = {stem: name for stem, name in stems.items() if right.fullmatch(stem)}
    if stems and not fitting:
        raise DatasetError(
            f"{tree.full(folder)} holds no file named as in {DATASET} ({some(stems)})",
            "two data sets may be mixed: give each a folder of its own",
        )
    if odd := set(stems) - set(fitting):
        notes.append(f"{folder}: {len(odd)} files are not named as in {DATASET} and are left out ({some(odd)})")
    if fitting and len(fitting) != COUNTS[label]:
        notes.append(f"{folder}: {len(fitting)} videos of {COUNTS[label]}")
    return fitting
