"""Any other set: folders real/ and fake/ (or 0/ and 1/), or a MANIFEST.csv.

[train|val|test/]{real,fake}/[METHOD/]...media       MANIFEST.csv: path,label[,method,split,dataset,...]
"""

from __future__ import annotations

import csv
import io
import posixpath

from preprocessing.datasets.items import FAKE, PICTURES, REAL, SPLITS, VIDEOS, DatasetError, Item, some
from preprocessing.datasets.registry import layout
from preprocessing.datasets.tree import Tree

MANIFESTS = ("MANIFEST.csv", "manifest.csv")
LABELS = {"real": REAL, "fake": FAKE, "0": REAL, "1": FAKE}
MEDIA = (*VIDEOS, *PICTURES)
COLUMNS = ("method", "split", "dataset", "compression", "identities", "source", "mask")


def _manifest(tree: Tree) -> str:
    return next((name for name in MANIFESTS if tree.has(name)), "")


@layout("plain")
class Plain:
    """Two files of one name below real/ and fake/ (real/x.mp4, fake/METHOD/x.mp4) count as one person's."""

    title = "a folder of real/ and fake/"
    official_split = True

    def evidence(self, tree: Tree) -> str:
        if _manifest(tree):
            return ""
        found = [f"{place}{name}/" for place, name, _ in _labelled(tree)]
        return ", ".join(found)

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        items, notes = [], []
        labelled = _labelled(tree)
        if {name for _, name, _ in labelled} & {"0", "1"}:
            notes.append("0/ is taken for real and 1/ for fake; some published sets mean the opposite")
        spellings = {name in ("0", "1") for _, name, _ in labelled}
        if len(spellings) > 1:
            raise DatasetError(f"{tree.url} has both real/fake and 0/1 folders", "keep one of the two namings")
        for place, name, label in labelled:
            count = 0
            for path in tree.files(place + name, MEDIA):
                inside = path[len(place + name) + 1 :]
                method = inside.split("/")[0] if label == FAKE and "/" in inside else "fake" if label else ""
                count += 1
                items.append(
                    Item(
                        path,
                        label,
                        tree.name,
                        method,
                        "",
                        place.rstrip("/") if official else "",
                        (f"{tree.name}/{_stem(path)}",),
                        source=path if label == REAL else "",
                    )
                )
            if not count:
                notes.append(f"{place}{name}/ has no video or picture in it")
        if len({item.label for item in items}) == 1:
            notes.append(f"only {'fake' if items[0].label else 'real'} media are there")
        return items, notes


def _labelled(tree: Tree) -> list[tuple[str, str, int]]:
    """(folder above with its "/", name, label) of the label folders."""
    places = ["", *(f"{split}/" for split in SPLITS)]
    return [(place, name, label) for place in places for name, label in LABELS.items() if tree.has_folder(place + name)]


def _stem(path: str) -> str:
    return posixpath.basename(path).rsplit(".", 1)[0]


@layout("manifest")
class Manifest:
    """A table of labelled media; `identities` are names with ; between them."""

    title = "a folder with a MANIFEST.csv"
    official_split = True

    def evidence(self, tree: Tree) -> str:
        return _manifest(tree)

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        file = _manifest(tree)
        rows = csv.DictReader(io.StringIO(tree.text(file)))
        if not {"path", "label"} <= set(rows.fieldnames or ()):
            raise DatasetError(
                f"{tree.full(file)}: needs the columns path and label, has {', '.join(rows.fieldnames or ['none'])}"
            )
        items: list[Item] = []
        missing: list[str] = []
        lines: dict[str, int] = {}
        for number, row in enumerate(rows, 2):
            path = posixpath.normpath((row["path"] or "").strip())
            where = f"{tree.full(file)}, line {number}"
            if (row["label"] or "") not in LABELS:
                raise DatasetError(f"{where}: label {row['label']!r} is not real, fake, 0 or 1")
            if path.startswith(("/", "..")) or path == ".":
                raise DatasetError(f"{where}: {row['path']!r} is not a path below the manifest's folder")
            if path in lines:
                raise DatasetError(f"{where}: {path} is in line {lines[path]} too", "list every file once")
            lines[path] = number
            if not tree.has(path):
                missing.append(path)
                continue
            items.append(_item(tree, path, LABELS[row["label"]], row, official, where))
        if missing and not items:
            raise DatasetError(
                f"none of the {len(missing)} files of {tree.full(file)} is there ({some(missing)})",
                "paths count from the manifest's own folder: put it at the data set's root",
            )
        return items, [f"{len(missing)} files of {file} are missing ({some(missing)})"] if missing else []


def _item(tree: Tree, path: str, label: int, row: dict[str, str], official: bool, where: str) -> Item:
    value = {name: (row.get(name) or "").strip() for name in COLUMNS}
    dataset = value["dataset"] or tree.name
    split = {"validation": "val"}.get(value["split"], value["split"])
    people = [name.strip() for name in value["identities"].split(";") if name.strip()] or [_stem(path)]
    if split not in (*SPLITS, "dev", ""):
        raise DatasetError(f"{where}: split {split!r} is not train, val, test or dev")
    return Item(
        path,
        label,
        dataset,
        value["method"] or ("fake" if label else ""),
        value["compression"],
        split if official else "",
        tuple(f"{dataset}/{name}" for name in people),
        source=value["source"] or (path if label == REAL else ""),
        mask=value["mask"] if value["mask"] and tree.has(value["mask"]) else "",
        kind="frames" if tree.has_folder(path) else "media",
    )
