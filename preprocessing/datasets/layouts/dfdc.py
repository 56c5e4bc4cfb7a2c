"""DFDC (Dolhansky et al., 2020), the challenge's training parts, and its preview (DFDCP, 2019).

dfdc_train_part_N/metadata.json   {file: {"label": "REAL"|"FAKE", "split": "train", "original": file}}
dfdc_preview_set/dataset.json     {path: {"label": "real"|"fake", "set": "train"|"test", "target_id", "swapped_id"}}
"""

from __future__ import annotations

import json
import re
from typing import Any

from preprocessing.datasets.items import FAKE, REAL, VIDEOS, DatasetError, Item, some
from preprocessing.datasets.registry import layout
from preprocessing.datasets.tree import Tree

PART = re.compile(r"dfdc_train_part_\d+")
PARTS = 50
PREVIEW_FOLDERS = ("original_videos", "method_A", "method_B")


def _table(tree: Tree, path: str) -> dict[str, dict[str, Any]]:
    try:
        read = json.loads(tree.text(path))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{tree.full(path)} is not JSON: {error}", "restore it from the download") from None
    if not isinstance(read, dict) or not all(isinstance(row, dict) for row in read.values()):
        raise DatasetError(f"{tree.full(path)} does not map files to their labels", "restore it from the download")
    return read


def _label(row: dict[str, Any], name: str, path: str) -> int:
    labels = {"real": REAL, "fake": FAKE}
    label = labels.get(str(row.get("label")).lower())
    if label is None:
        raise DatasetError(f"{path}: {name} has the label {row.get('label')!r}, not REAL or FAKE")
    return label


@layout("dfdc")
class DFDC:
    """People are told only through "original": a fake belongs to the real video that it was made from."""

    title = "DFDC"
    official_split = False

    def evidence(self, tree: Tree) -> str:
        part = next((name for name in tree.folders() if PART.fullmatch(name)), None)
        if part:
            return f"{part}/"
        return "metadata.json beside videos" if tree.has("metadata.json") and tree.names("", VIDEOS) else ""

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        notes: list[str] = []
        parts = [name for name in tree.folders() if PART.fullmatch(name)] or [""]
        items = [item for part in parts for item in self._part(tree, part, notes)]
        where = {item.path.rsplit("/", 1)[-1]: item.path for item in items}
        told = [item if item.source == "" else _sourced(item, where) for item in items]
        if parts != [""] and len(parts) != PARTS:
            notes.append(f"{len(parts)} of DFDC's {PARTS} training parts are there")
        lost = sum(item.label == FAKE and not item.source for item in told)
        if lost:
            notes.append(f"the originals of {lost} fakes are not there (in parts that are missing)")
        notes.append("DFDC does not say who is in a video: one actor may be on both sides of a split")
        return told, notes

    def _part(self, tree: Tree, part: str, notes: list[str]) -> list[Item]:
        prefix = f"{part}/" if part else ""
        if not tree.has(f"{prefix}metadata.json"):
            raise DatasetError(
                f"{tree.full(f'{prefix}metadata.json')} is missing: without it nobody knows which videos are fake",
                "unpack the part again, or move it away",
            )
        table = _table(tree, f"{prefix}metadata.json")
        there = set(tree.names(part, VIDEOS))
        items = []
        for name in sorted(there & set(table)):
            row = table[name]
            label = _label(row, name, f"{prefix}metadata.json")
            original = str(row.get("original") or "") if label == FAKE else name
            person = (f"DFDC/{original}",) if original else ()
            method = "DFDC" if label else ""
            items.append(Item(f"{prefix}{name}", label, "DFDC", method, "", "", person, source=original))
        for what, names in (
            ("listed in metadata.json but missing", set(table) - there),
            ("not in metadata.json and left out", there - set(table)),
        ):
            if names:
                notes.append(f"{part or tree.name}: {len(names)} videos are {what} ({some(names)})")
        return items


def _sourced(item: Item, where: dict[str, str]) -> Item:
    from dataclasses import replace

    return replace(item, source=where.get(item.source, ""))


@layout("dfdcp")
class Preview:
    """The preview set: actors have numbers, a fake names its target and whose face was put in."""

    title = "DFDC preview"
    official_split = True

    def evidence(self, tree: Tree) -> str:
        found = [name for name in PREVIEW_FOLDERS if tree.has_folder(name)]
        if tree.has("dataset.json") and found:
            return f"dataset.json, {found[0]}/"
        return ", ".join(f"{name}/" for name in found) if len(found) > 1 else ""

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        if not tree.has("dataset.json"):
            raise DatasetError(
                f"{tree.full('dataset.json')} is missing: labels, people and the split are in it",
                "copy it from the download",
            )
        table = _table(tree, "dataset.json")
        there = {path for folder in PREVIEW_FOLDERS for path in tree.files(folder, VIDEOS)}
        notes: list[str] = []
        items = []
        for path in sorted(there & set(table)):
            row = table[path]
            label = _label(row, path, "dataset.json")
            folder = path.split("/", 1)[0]
            if (folder == "original_videos") == (label == FAKE):
                raise DatasetError(
                    f"dataset.json calls {path} {'fake' if label else 'real'}, its folder says the opposite",
                    "the folders, or the labels, are swapped",
                )
            people = [str(row[key]) for key in ("target_id", "swapped_id") if row.get(key) not in (None, "")]
            split = str(row.get("set", "")) if official else ""
            if split not in ("", "train", "test"):
                raise DatasetError(f"dataset.json: {path} has the set {split!r}, not train or test")
            source = path if label == REAL else str(row.get("source_video") or "")
            items.append(
                Item(
                    path,
                    label,
                    "DFDCP",
                    folder if label else "",
                    "",
                    split,
                    tuple(f"DFDCP/{person}" for person in dict.fromkeys(people)),
                    source=source if source in there else "",
                )
            )
        for what, names in (
            ("listed in dataset.json but missing", set(table) - there),
            ("not in dataset.json and left out", there - set(table)),
        ):
            if names:
                notes.append(f"{len(names)} videos are {what} ({some(names)})")
        return items, notes
