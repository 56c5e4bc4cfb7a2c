"""Landmark files of other programs: LRNet's .txt of normalised rows, rows in pixels, and OpenFace's CSV."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.errors import MediaMissing, MediaTooLarge, UndecodableMedia, UnsupportedMedia

COLUMNS = 136
MAX_BYTES = 512 * 1024**2
NORMALISED_MAX = 2.0
"""Median magnitude above which rows are pixels and not LRNet's normalised space, which is nominally [-1, 1]."""


@dataclass(frozen=True)
class OpenFaceRows:
    """One face's rows of an OpenFace CSV: `frames` (N,) int64 from 0, `points` (N, 68, 2) float64 pixels of the frame,
    `success` (N,) bool, False where OpenFace lost the face and the points mean little."""

    face: int
    frames: NDArray[np.int64]
    points: NDArray[np.float64]
    success: NDArray[np.bool_]


def read_lrnet_txt(path: Path) -> NDArray[np.float32]:
    """LRNet's landmark file: (N, 136) float32, x0 y0 x1 y1 ... in its normalised space, one row a frame.

    Raises a MediaError that names the line and column of what is wrong, or says that the values are pixels.
    """
    rows = _read_rows(path)
    if np.median(np.abs(rows)) > NORMALISED_MAX:
        raise UnsupportedMedia(
            f"{path.name} holds landmarks in pixels, not in LRNet's normalised space",
            "calibrate them with their video: unmask landmarks VIDEO --landmarks FILE --out NEW",
        )
    return rows.astype(np.float32)


def read_points_txt(path: Path) -> NDArray[np.float64]:
    """Landmarks in pixels, (N, 68, 2) float64, from rows of 136 numbers x0 y0 x1 y1 ... separated by blanks or commas.

    Raises a MediaError that names the line and column of what is wrong, or says that the values are normalised.
    """
    rows = _read_rows(path)
    if np.median(np.abs(rows)) <= NORMALISED_MAX:
        raise UnsupportedMedia(
            f"{path.name} holds normalised landmarks, which are calibrated already or cannot be any more",
            "give landmarks in pixels of the video's frames, or scan this file as it is",
        )
    return rows.reshape(-1, 68, 2)


def write_lrnet_txt(path: Path, values: NDArray[np.floating]) -> None:
    """Write (N, 136) normalised values as LRNet's text, `%1.5f` separated by blanks; replaces `path` in one step.

    Raises ValueError for a wrong shape, no row, or values that are not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS or not len(rows):
        raise ValueError(f"values have the shape {rows.shape}, expected (frames >= 1, {COLUMNS})")
    if not np.isfinite(rows).all():
        raise ValueError("values that are not finite numbers cannot be written")
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            np.savetxt(stream, rows, fmt="%1.5f")
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def is_openface(path: Path) -> bool:
    """Whether the file begins with column names between commas and not with numbers. Raises a MediaError."""
    first, comma, _ = _read_text(path).lstrip("\ufeff \n").partition("\n")[0].partition(",")
    try:
        float(first)
    except ValueError:
        return bool(comma)
    return False


def read_openface_csv(path: Path, face: int | None = None) -> NDArray[np.float64]:
    """The 68 landmarks of an OpenFace CSV, (N, 68, 2) float64 in pixels, found by the names in its header.

    `face` picks a `face_id` where the file has several. Raises as `read_openface` does.
    """
    return read_openface(path, face).points


def read_openface(path: Path, face: int | None = None) -> OpenFaceRows:
    """One face of an OpenFace CSV with its frame numbers.

    Raises a MediaError that names a missing column, the line and column of a bad value, a frame that comes twice, or
    the faces to choose from where there are several and `face` is None.
    """
    text = _read_text(path)
    first = text.find("\n")
    header = [name.strip() for name in (text if first < 0 else text[:first]).lstrip("\ufeff").split(",")]
    columns = {name: index for index, name in reversed(list(enumerate(header)))}
    wanted = [f"{axis}_{point}" for point in range(68) for axis in "xy"]
    missing = [name for name in wanted if name not in columns]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UnsupportedMedia(
            f"{path.name} has no column {missing[0]!r}{more}", "write it with OpenFace's -2Dfp (2-D landmarks)"
        )
    optional = [name for name in ("frame", "face_id", "success") if name in columns]
    names = wanted + optional
    table = _parse(
        path, text[first + 1 :] if first >= 0 else "", ",", 2, len(header), [columns[n] for n in names], names
    )
    extra = {name: table[:, COLUMNS + index] for index, name in enumerate(optional)}
    ids = extra["face_id"].astype(np.int64) if "face_id" in extra else np.zeros(len(table), dtype=np.int64)
    faces, counts = np.unique(ids, return_counts=True)
    if face is None and len(faces) > 1:
        listed = ", ".join(f"{number} ({count} rows)" for number, count in zip(faces, counts, strict=True))
        raise UnsupportedMedia(
            f"{path.name} holds {len(faces)} faces: {listed}", "choose one by its face_id (--track N)"
        )
    chosen = int(faces[0]) if face is None else face
    if chosen not in faces:
        raise UnsupportedMedia(
            f"{path.name} has no face_id {chosen}", f"it has {', '.join(str(number) for number in faces)}"
        )
    keep = ids == chosen
    points = table[keep, :COLUMNS].reshape(-1, 68, 2)
    frames = extra["frame"][keep].astype(np.int64) - 1 if "frame" in extra else np.arange(len(points))
    backward = np.flatnonzero(np.diff(frames) <= 0)
    if len(backward):
        raise UndecodableMedia(
            f"{path.name}: frame {frames[backward[0] + 1] + 1} of face {chosen} comes after {frames[backward[0]] + 1}",
            "the rows of a face must be in the order of the frames, each once",
        )
    if frames[0] < 0:
        raise UndecodableMedia(f"{path.name}: frame {frames[0] + 1}; OpenFace counts frames from 1")
    success = extra["success"][keep] > 0 if "success" in extra else np.ones(len(points), dtype=np.bool_)
    return OpenFaceRows(chosen, frames, points, success)


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise MediaMissing(f"{path} is a directory", "give a landmark file")
        if path.stat().st_size > MAX_BYTES:
            raise MediaTooLarge(f"{path.name} is larger than {MAX_BYTES // 1024**2} MiB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MediaMissing(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnsupportedMedia(f"{path.name} is not a text file", "give LRNet's .txt or OpenFace's .csv") from None
    if not text.strip():
        raise UnsupportedMedia(f"{path.name} is empty", "give LRNet's .txt or OpenFace's .csv")
    return text


def _read_rows(path: Path) -> NDArray[np.float64]:
    text = _read_text(path)
    commas = "," in text[: text.find("\n") if "\n" in text else None]
    names = [f"{axis}{point}" for point in range(68) for axis in "xy"]
    return _parse(path, text, "," if commas else None, 1, COLUMNS, list(range(COLUMNS)), names)


def _parse(
    path: Path, text: str, delimiter: str | None, first_line: int, width: int, use: list[int], names: list[str]
) -> NDArray[np.float64]:
    """The columns `use` of a table of `width` columns; the slow search for the culprit runs only when there is one."""
    if not text.strip():
        raise UndecodableMedia(f"{path.name} has a header but no rows")
    try:
        table = np.loadtxt(io.StringIO(text), delimiter=delimiter, comments=None, ndmin=2, dtype=np.float64)
        if table.shape[1] == width and np.isfinite(table[:, use]).all():
            return table[:, use]
    except ValueError:
        pass
    known = dict(zip(use, names, strict=True))
    rows = []
    for number, line in enumerate(text.splitlines(), first_line):
        if not line.strip():
            continue
        fields = line.split(delimiter)
        if len(fields) != width:
            raise UndecodableMedia(f"{path.name}, line {number}: {len(fields)} values, expected {width}")
        for column in use:
            try:
                good = bool(np.isfinite(float(fields[column])))
            except ValueError:
                good = False
            if not good:
                where = f"line {number}, column {column + 1} ({known[column]})"
                value = fields[column].strip()[:40]
                raise UndecodableMedia(f"{path.name}, {where}: {value!r} is not a finite number")
        rows.append([float(fields[column]) for column in use])
    # Only a column that is not used (a gaze of `-nan(ind)`, a name) kept the fast reader from the file.
    return np.array(rows, dtype=np.float64)
