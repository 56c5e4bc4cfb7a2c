"""WildDeepfake (Zi et al., ACM MM 2020), faces cut out already: {real,fake}_{train,test}/N/.../SEQUENCE/FRAME.png.

Each N comes packed as N.tar.gz and must be unpacked first. 7,314 sequences of 707 videos.
"""

from __future__ import annotations

import posixpath
import re

from preprocessing.datasets.items import FAKE, PICTURES, REAL, DatasetError, Item, mostly, some
from preprocessing.datasets.registry import layout
from preprocessing.datasets.tree import Tree

SEQUENCES = 7314
FOLDER = re.compile(r"(real|fake)[_ ](train|test)")
NUMBER = re.compile(r"\d+")


@layout("wilddeepfake")
class WildDeepfake:
    """An item is a sequence, a folder of one face's frames; the numbered folder above is its only tie to others."""

    title = "WildDeepfake"
    official_split = True

    def evidence(self, tree: Tree) -> str:
        found = [name for name in tree.folders() if FOLDER.fullmatch(name)]
        return f"{found[0]}/" if found else ""

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        items: list[Item] = []
        notes: list[str] = []
        for folder in tree.folders():
            parts = FOLDER.fullmatch(folder)
            if parts is None:
                continue
            packed = tree.names(folder, (".tar.gz", ".tgz", ".tar"))
            unpacked = [name for name in packed if not tree.has_folder(f"{folder}/{name.split('.')[0]}")]
            if unpacked:
                raise DatasetError(
                    f"{tree.full(folder)} holds archives that are not unpacked ({some(unpacked)})",
                    "unpack each into a folder of its name beside it",
                )
            label = FAKE if parts[1] == "fake" else REAL
            for path in _sequences(tree, folder):
                inside = path.split("/")[1:]
                other = "real" if label else "fake"
                if other in inside[:-1]:
                    raise DatasetError(f"{tree.full(path)}: a {other} sequence in {folder}", "the folders seem swapped")
                items.append(
                    Item(
                        path,
                        label,
                        "WildDeepfake",
                        "internet" if label else "",
                        "",
                        parts[2] if official else "",
                        (f"WildDeepfake/{folder.replace(' ', '_')}/{inside[0]}",),
                        kind="frames",
                        cropped=True,
                    )
                )
        for name in ("real_train", "fake_train", "real_test", "fake_test"):
            if not any(tree.has_folder(spelt) for spelt in (name, name.replace("_", " "))):
                notes.append(f"{name} is not there")
        if items and len(items) != SEQUENCES:
            notes.append(f"{len(items)} sequences of {SEQUENCES}")
        notes.append("WildDeepfake does not say who is in a video: one person may be on both sides of a split")
        return items, notes


def _sequences(tree: Tree, folder: str) -> list[str]:
    """Folders below `folder` that hold numbered pictures."""
    found = []
    pictures = [name.rsplit(".", 1)[0] for name in tree.names(folder, PICTURES)]
    if mostly(pictures, NUMBER) and "/" in folder:
        found.append(folder)
    for name in tree.folders(folder):
        found += _sequences(tree, posixpath.join(folder, name))
    return found
