"""Celeb-DF v1 and v2 (Li et al., CVPR 2020).

    Celeb-real/idA_NNNN.mp4   YouTube-real/NNNNN.mp4   Celeb-synthesis/idA_idB_NNNN.mp4
    List_of_testing_videos.txt    one "LABEL path" a line, 1 for real

The face of idB replaces that of idA in the video idA_NNNN. Both versions look alike; their sizes tell them apart.
"""

from __future__ import annotations

import re

from preprocessing.datasets.items import FAKE, REAL, VIDEOS, DatasetError, Item, mostly, some
from preprocessing.datasets.registry import layout
from preprocessing.datasets.tree import Tree

TEST_LIST = "List_of_testing_videos.txt"
SYNTHESIS_V1 = 795
NAMES = {
    "Celeb-real": re.compile(r"(id\d+)_\d{4}"),
    "YouTube-real": re.compile(r"(\d{5})"),
    "Celeb-synthesis": re.compile(r"(id\d+)_(id\d+)_(\d{4})"),
}


def _videos(tree: Tree, folder: str) -> list[str]:
    """Paths in the folder, or in its videos/ as some copies have it."""
    inner = f"{folder}/videos"
    place = inner if tree.has_folder(inner) else folder
    return [f"{place}/{name}" for name in tree.names(place, VIDEOS)]


def _version(tree: Tree) -> int | None:
    """1 or 2 by size; None where a part of either could look like this."""
    if len(_videos(tree, "Celeb-synthesis")) > SYNTHESIS_V1:
        return 2
    if tree.has(TEST_LIST):
        lines = sum(bool(line.strip()) for line in tree.text(TEST_LIST).splitlines())
        return {100: 1, 518: 2}.get(lines)
    return None


class _CelebDF:
    official_split = True
    version = 0
    counts: dict[str, int] = {}  # noqa: RUF012 - never changed
    real_videos = 0
    tested = 0
    title = ""

    def evidence(self, tree: Tree) -> str:
        found = [name for name in NAMES if tree.has_folder(name)]
        if not found or _version(tree) not in (self.version, None):
            return ""
        return ", ".join(f"{name}/" for name in found)

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        notes: list[str] = []
        items: list[Item] = []
        dataset = f"Celeb-DF-v{self.version}"
        tested = self._tested(tree, notes) if official else {}
        paths = {folder: self._checked(tree, folder, notes) for folder in NAMES}
        originals = {path.rsplit("/", 1)[1].rsplit(".", 1)[0]: path for path in paths["Celeb-real"]}
        for folder, found in paths.items():
            fake = folder == "Celeb-synthesis"
            for path in found:
                name = path.rsplit("/", 1)[1]
                parts = NAMES[folder].fullmatch(name.rsplit(".", 1)[0])
                assert parts is not None
                people = parts.groups()[:2] if fake else (f"YouTube/{parts[1]}" if folder[0] == "Y" else parts[1],)
                listed = f"{folder}/{name}"
                split = "" if not official else "test" if listed in tested else "train"
                source = originals.get(f"{parts[1]}_{parts[3]}", "") if fake else path
                identities = tuple(f"Celeb-DF/{person}" for person in people)
                method = "Celeb-synthesis" if fake else ""
                items.append(Item(path, FAKE if fake else REAL, dataset, method, "", split, identities, source=source))
                label = tested.pop(listed, None)
                if label is not None and label != (FAKE if fake else REAL):
                    raise DatasetError(
                        f"{TEST_LIST} calls {listed} {'fake' if label else 'real'}, its folder says the opposite",
                        "the folders, or the list's labels (1 for real), are swapped",
                    )
        if tested:
            notes.append(f"{TEST_LIST}: {len(tested)} listed videos are missing ({some(tested)})")
        if official:
            notes.append(f"{dataset} has no official validation videos: all but the test list is train")
        return items, notes

    def _checked(self, tree: Tree, folder: str, notes: list[str]) -> list[str]:
        paths = _videos(tree, folder)
        stems = [path.rsplit("/", 1)[1].rsplit(".", 1)[0] for path in paths]
        for other, pattern in NAMES.items():
            if other != folder and mostly(stems, pattern):
                raise DatasetError(
                    f"{tree.full(folder)} holds files named as in {other} ({some(stems)})",
                    "the folders seem swapped: see docs/datasets.md for what each holds",
                )
        fitting = [path for path, stem in zip(paths, stems, strict=True) if NAMES[folder].fullmatch(stem)]
        if paths and not fitting:
            raise DatasetError(
                f"{tree.full(folder)} holds no file named as in Celeb-DF ({some(stems)})",
                "two data sets may be mixed: give each a folder of its own",
            )
        if len(fitting) < len(paths):
            odd = set(paths) - set(fitting)
            notes.append(f"{folder}: {len(odd)} files are not named as in Celeb-DF and are left out ({some(odd)})")
        if not fitting:
            notes.append(f"{folder} is not there, or empty")
        elif folder in self.counts and len(fitting) != self.counts[folder]:
            notes.append(f"{folder}: {len(fitting)} videos of {self.counts[folder]}")
        return fitting

    def _tested(self, tree: Tree, notes: list[str]) -> dict[str, int]:
        """{path: label} of the official test list."""
        if not tree.has(TEST_LIST):
            raise DatasetError(
                f"{tree.full(TEST_LIST)}, the official test list, is missing",
                "copy it from the download, or split anew with --split own",
            )
        found: dict[str, int] = {}
        for number, line in enumerate(tree.text(TEST_LIST).splitlines(), 1):
            if not line.strip():
                continue
            label, _, path = line.strip().partition(" ")
            if label not in ("0", "1") or not path:
                raise DatasetError(
                    f"{TEST_LIST}, line {number}: {line[:60]!r} is not a label (1 real, 0 fake) and a path",
                    "restore the official list",
                )
            found[path.strip()] = REAL if label == "1" else FAKE
        if len(found) != self.tested:
            notes.append(f"{TEST_LIST} has {len(found)} videos, the official one {self.tested}")
        return found


@layout("celebdf_v1")
class CelebDF1(_CelebDF):
    """408 real videos in both real folders, 795 synthesised, 100 for testing."""

    title, version, tested = "Celeb-DF v1", 1, 100
    counts = {"Celeb-synthesis": SYNTHESIS_V1}  # noqa: RUF012


@layout("celebdf_v2")
class CelebDF2(_CelebDF):
    """590 and 300 real videos, 5,639 synthesised, 518 for testing."""

    title, version, tested = "Celeb-DF v2", 2, 518
    counts = {"Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639}  # noqa: RUF012
