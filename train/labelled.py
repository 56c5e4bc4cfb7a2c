"""Labelled media: a manifest, or folders called real/ and fake/."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.media.formats import SUFFIXES

LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1}


@dataclass(frozen=True)
class Item:
    """One labelled file: `label` 0 real, 1 fake. `identity`: whose face, or the source video, where known: files that
    share it are no independent evidence."""

    path: Path
    label: int
    dataset: str = ""
    method: str = ""
    split: str = ""
    sha256: str = ""
    identity: str = ""

    def digest(self) -> str:
        """sha256 of the file, from the manifest or computed. Raises OSError."""
        return self.sha256 or self.content_digest()

    def content_digest(self) -> str:
        """sha256 of the file as it is now. Raises OSError."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read_items(
    data: Path,
    *,
    split: str | None = None,
    sha_prefix: str | None = None,
    kind: str | None = None,
    without: Collection[str] = (),
    limit: int | None = None,
) -> list[Item]:
    """The labelled files of a manifest, or of a folder that has one or folders called real/ and fake/.

    `split` and `kind` (image, video) keep rows with that value; `sha_prefix` keeps files whose sha256 begins with one
    of its digits; `without` leaves data sets out; `limit` keeps that many, evenly spaced over data sets and classes.
    Raises ValueError that names the file, the line and what is wrong.
    """
    manifest = (
        data
        if data.is_file()
        else next((data / n for n in ("MANIFEST.csv", "manifest.csv") if (data / n).is_file()), None)
    )
    items = list(_from_manifest(manifest, split, kind)) if manifest else _from_folders(data)
    items = [item for item in items if item.dataset not in without]
    if not items:
        kept = f" left after --split {split}, --kind and --without" if manifest and (split or kind or without) else ""
        raise ValueError(
            f"{data}: no labelled media found{kept}; give a MANIFEST.csv (path,label) or folders real/ and fake/"
        )
    if manifest and not any(item.path.is_file() for item in items):
        raise ValueError(f"{manifest}: none of its files is there, not {items[0].path}; paths are beside the manifest")
    if sha_prefix:
        items = [item for item in items if item.sha256 or item.path.is_file()]
        items = [item for item in items if item.digest()[0] in sha_prefix.lower()]
        if not items:
            raise ValueError(f"{data}: no file has a sha256 that begins with one of {sha_prefix}")
    return items if limit is None or limit >= len(items) else _spread(items, limit)


def _from_manifest(manifest: Path, split: str | None, kind: str | None) -> Iterator[Item]:
    seen: dict[str, int] = {}
    for number, row in _rows(manifest):
        where = f"{manifest}, line {number}"
        if None in row:
            raise ValueError(f"{where}: more fields than columns; put a path with a comma in double quotes")
        if not row["path"]:
            raise ValueError(f"{where}: the path is empty")
        if row["path"] in seen:
            raise ValueError(f"{where}: {row['path']} is on line {seen[row['path']]} already")
        seen[row["path"]] = number
        label = (row["label"] or "").strip().lower()
        if label not in LABELS:
            raise ValueError(f"{where}: label {row['label'] or ''!r} is not real, fake, 0 or 1")
        if (split and row.get("split") != split) or (kind and row.get("kind", kind) != kind):
            continue
        fields = {key: row.get(key) or "" for key in ("dataset", "method", "split", "sha256")}
        identity = row.get("identity") or row.get("source") or ""
        yield Item(manifest.parent / row["path"], LABELS[label], identity=identity, **fields)


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with its line. Raises ValueError where it is no CSV in UTF-8 with the columns needed."""
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                found = ", ".join(reader.fieldnames or ["none"])
                raise ValueError(f"{manifest}: needs the columns path and label, has {found}")
            for row in reader:
                yield reader.line_num, row
    except UnicodeDecodeError:
        raise ValueError(f"{manifest}: not a text file in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{manifest}: not a CSV file ({error})") from None


def _from_folders(data: Path) -> list[Item]:
    return [
        Item(path, label, dataset=data.name)
        for name, label in (("real", 0), ("fake", 1))
        for path in sorted((data / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of them, in their order: evenly spaced over the items sorted by class and data set."""
    order = sorted(range(len(items)), key=lambda i: (items[i].label, items[i].dataset, items[i].method, i))
    chosen = {order[i] for i in np.linspace(0, len(order) - 1, count).round().astype(int)}
    return [item for i, item in enumerate(items) if i in chosen]
