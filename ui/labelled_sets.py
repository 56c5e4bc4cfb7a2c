"""Uploads with labels made into a set that `unmask evaluate` reads: numbered files and a manifest beside them.

What an upload calls its files is never a path here: it is kept as text, to be shown.
"""

from __future__ import annotations

import csv
import errno
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Protocol

from preprocessing.media.formats import SUFFIXES
from ui import evaluation_words as texts
from ui.errors import UsageError
from ui.words import printable

Label = Literal["real", "fake"]
LABELS: tuple[Label, ...] = ("real", "fake")
COLUMNS = ("path", "label", "dataset", "method", "split", "kind", "identity", "source")
MANIFEST = "manifest.csv"
NAMES = "names.json"
CHUNK = 1024 * 1024
MANIFEST_BYTES = 16 * 1024**2


@dataclass(frozen=True)
class Bounds:
    """Of one upload, unpacked."""

    files: int = 5_000
    total_bytes: int = 8 * 1024**3


class Upload(Protocol):
    """A file that a browser sent."""

    name: str

    def read(self, size: int = -1, /) -> bytes:
        """Its next bytes."""
        ...


@dataclass
class Labelled:
    """A set that was made: `names` {its file: what the upload called it}, `left_out` what is no media."""

    folder: Path
    names: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def from_files(real: Sequence[Upload], fake: Sequence[Upload], folder: Path, bounds: Bounds = Bounds()) -> Labelled:
    """The set of two heaps of files. Raises UsageError."""
    given = [(file, label) for label, files in (("real", real), ("fake", fake)) for file in files]
    rows = ((file.name, {"label": label}, file) for file, label in given)
    return _write(rows, folder, bounds)


def from_zip(archive: BinaryIO, folder: Path, bounds: Bounds = Bounds()) -> Labelled:
    """The set of a ZIP with folders called real and fake, or with a MANIFEST.csv (path, label, ...).

    Raises UsageError: no ZIP, encrypted, entries that lead out of it, no labels, more than `bounds` when unpacked.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _entries(opened)
            return _write(_labelled(opened, entries), folder, bounds)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _refused(texts.NO_ZIP, error=error) from None


def _refused(said: tuple[str, str], **of: object) -> UsageError:
    """A reason and its way out, with what they name."""
    reason, hint = said
    return UsageError(reason.format(**of), hint.format(**of))


def _entries(opened: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (path.parts[:1] and ":" in path.parts[0]):
            raise _refused(texts.ZIP_LEADS_OUT, name=printable(info.filename))
        if info.flag_bits & 1:
            raise _refused(texts.ZIP_PASSWORD, name=printable(info.filename))
        if not info.is_dir() and "__MACOSX" not in path.parts and not path.name.startswith("."):
            found[path] = info
    return found


Row = tuple[str, dict[str, str], Upload | BinaryIO]


def _labelled(opened: zipfile.ZipFile, entries: dict[PurePosixPath, zipfile.ZipInfo]) -> Iterator[Row]:
    manifests = sorted((path for path in entries if path.name.lower() == MANIFEST), key=lambda path: len(path.parts))
    if manifests:
        yield from _by_manifest(opened, entries, manifests[0])
        return
    chosen = [(path, label) for path in entries if (label := _folder_label(path))]
    if not chosen:
        raise _refused(texts.ZIP_NO_LABELS)
    for path, label in chosen:
        with opened.open(entries[path]) as file:
            yield str(path), {"label": label}, file  # type: ignore[misc]


def _folder_label(path: PurePosixPath) -> Label | None:
    """That of the nearest folder that has one."""
    near = (part.lower() for part in reversed(path.parts[:-1]))
    return next((label for part in near for label in LABELS if part == label), None)


def _by_manifest(
    opened: zipfile.ZipFile, entries: dict[PurePosixPath, zipfile.ZipInfo], manifest: PurePosixPath
) -> Iterator[Row]:
    with opened.open(entries[manifest]) as file:
        text = file.read(MANIFEST_BYTES + 1)
    try:
        lines = text.decode("utf-8-sig").splitlines()
        rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(texts.MANIFEST_NO_CSV.format(manifest=manifest, error=error)) from None
    if len(text) > MANIFEST_BYTES or not rows or not {"path", "label"} <= set(rows[0]):
        raise UsageError(texts.MANIFEST_COLUMNS.format(manifest=manifest))
    for number, row in enumerate(rows, 2):
        path = manifest.parent / (row["path"] or "").strip().replace("\\", "/")
        if path not in entries:
            file_named = printable(row["path"] or "")
            raise UsageError(texts.MANIFEST_NO_FILE.format(manifest=manifest, line=number, file=file_named))
        with opened.open(entries[path]) as file:
            yield str(path), {key: row.get(key) or "" for key in COLUMNS if key != "path"}, file  # type: ignore[misc]


def _write(rows: Iterable[Row], folder: Path, bounds: Bounds) -> Labelled:
    """Number and copy the media; everything is counted as it is read, whatever headers claim."""
    made, left = Labelled(folder), bounds.total_bytes
    table: list[dict[str, str]] = []
    try:
        folder.mkdir(parents=True)
        for name, labels, file in rows:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix not in SUFFIXES:
                made.left_out.append(printable(name))
                continue
            if len(table) >= bounds.files:
                raise _refused(texts.TOO_MANY, most=bounds.files)
            numbered = f"{len(table) + 1:05d}{suffix}"
            left = _copy(file, folder / numbered, left, bounds)
            made.names[numbered] = printable(name)
            table.append({"path": numbered, **labels})
        if not table:
            raise _refused(texts.NO_MEDIA, endings=", ".join(sorted(SUFFIXES)))
        with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, [c for c in COLUMNS if any(row.get(c) for row in table)], restval="")
            writer.writeheader()
            writer.writerows({key: row.get(key, "") for key in writer.fieldnames} for row in table)
        (folder / NAMES).write_text(json.dumps(made.names), encoding="utf-8")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = texts.DISK_FULL if full else texts.NOT_KEPT.format(error=error.strerror)
        raise UsageError(reason, texts.NOT_KEPT_HINT) from None
    return made


def _copy(file: Upload | BinaryIO, target: Path, left: int, bounds: Bounds) -> int:
    """What is left of the bytes after this file."""
    with target.open("wb") as out:
        while chunk := file.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _refused(texts.TOO_LARGE, most=bounds.total_bytes / 1024**3)
            out.write(chunk)
    return left
