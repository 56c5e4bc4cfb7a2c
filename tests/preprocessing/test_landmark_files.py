"""Landmark files: what is written is read back, and what is wrong is named with its line and column."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.errors import MediaError, MediaMissing, UndecodableMedia, UnsupportedMedia
from preprocessing.landmark_files import (
    read_lrnet_txt,
    read_openface,
    read_openface_csv,
    read_points_txt,
    write_lrnet_txt,
)


def openface_text(rows: list[tuple[int, int, float]], gap: str = ", ") -> str:
    """(frame, face_id, offset) rows; point p of a row lies at (p + offset, 2 p + offset)."""
    names = ["frame", "face_id", "timestamp", "confidence", "success", "gaze_0_x"]
    names += [f"x_{p}" for p in range(68)] + [f"y_{p}" for p in range(68)] + ["X_0"]
    lines = [gap.join(names)]
    for frame, number, offset in rows:
        values = [frame, number, frame / 25, 0.98, 1, "-nan(ind)"]
        values += [p + offset for p in range(68)] + [2 * p + offset for p in range(68)] + [0]
        lines.append(gap.join(str(v) for v in values))
    return "\n".join(lines) + "\n"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_rows_in_the_normalised_space_survive_the_text_exactly(count: int, seed: int) -> None:
    whole = np.random.default_rng(seed).integers(-60, 460, (count, 136))
    values = ((whole - 200) / 200).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        write_lrnet_txt(path, values)
        assert np.array_equal(read_lrnet_txt(path), values)
        assert list(Path(folder).iterdir()) == [path]


def test_the_text_is_byte_for_byte_the_published_one(shared: Path, tmp_path: Path) -> None:
    published = shared / "golden/lrnet/calibrator_example/000_003.calibrated.txt"
    write_lrnet_txt(tmp_path / "again.txt", read_lrnet_txt(published))
    assert (tmp_path / "again.txt").read_bytes() == published.read_bytes()


@pytest.mark.parametrize("shape", [(0, 136), (2, 135), (136,)])
def test_values_of_a_wrong_shape_are_not_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        write_lrnet_txt(tmp_path / "a.txt", np.zeros(shape))
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        write_lrnet_txt(tmp_path / "a.txt", np.full((1, 136), np.inf))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[1].__setitem__(6, "x3"), r"line 2, column 7 \(x3\): 'x3' is not a finite number"),
        (lambda rows: rows[2].__setitem__(135, "nan"), r"line 3, column 136 \(y67\)"),
        (lambda rows: rows[1].pop(), "line 2: 135 values, expected 136"),
        (lambda rows: rows[0].append("0.5"), "line 1: 137 values, expected 136"),
        (lambda rows: [row.pop() for row in rows], "line 1: 135 values, expected 136"),
    ],
)
def test_a_bad_value_is_named_with_line_and_column(tmp_path: Path, spoil: object, message: str) -> None:
    rows = [["0.50000"] * 136 for _ in range(3)]
    spoil(rows)  # type: ignore[operator]
    path = tmp_path / "bad.txt"
    path.write_text("\n".join(" ".join(row) for row in rows))
    with pytest.raises(UndecodableMedia, match=message):
        read_lrnet_txt(path)


def test_pixels_and_normalised_rows_are_not_taken_for_each_other(tmp_path: Path) -> None:
    pixels, normal = tmp_path / "pixels.txt", tmp_path / "normal.txt"
    np.savetxt(pixels, np.arange(272).reshape(2, 136) + 0.5)
    write_lrnet_txt(normal, np.full((2, 136), 0.25))
    with pytest.raises(UnsupportedMedia, match="in pixels"):
        read_lrnet_txt(pixels)
    with pytest.raises(UnsupportedMedia, match="normalised"):
        read_points_txt(normal)
    points = read_points_txt(pixels)
    assert points.shape == (2, 68, 2) and points[1, 3].tolist() == [142.5, 143.5]
    np.savetxt(pixels, np.arange(272).reshape(2, 136) + 0.5, delimiter=",")
    assert np.array_equal(read_points_txt(pixels), points)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", UnsupportedMedia, "empty"),
        (b"  \n\n", UnsupportedMedia, "empty"),
        (bytes(range(256)), UnsupportedMedia, "not a text file"),
        (None, MediaMissing, "No such file"),
    ],
)
def test_a_file_that_holds_no_landmarks_is_said_so(
    tmp_path: Path, content: bytes | None, error: type[MediaError], message: str
) -> None:
    path = tmp_path / "it"
    if content is not None:
        path.write_bytes(content)
    for read in (read_lrnet_txt, read_points_txt, read_openface_csv):
        with pytest.raises(error, match=message):
            read(path)
    with pytest.raises(MediaMissing, match="directory"):
        read_lrnet_txt(tmp_path)


def test_the_published_csv_has_its_points_where_the_header_says(shared: Path) -> None:
    points = read_openface_csv(shared / "golden/lrnet/calibrator_example/000_003.csv")
    assert points.shape == (396, 68, 2)
    assert points[0, 0].tolist() == [262.2, 151.7] and points[0, 1].tolist() == [263.1, 166.1]


@pytest.mark.parametrize("gap", [",", ", ", " , "])
def test_columns_are_found_by_name_whatever_stands_between_and_around(tmp_path: Path, gap: str) -> None:
    path = tmp_path / "face.csv"
    path.write_text("\ufeff" + openface_text([(1, 0, 10), (2, 0, 20.5), (5, 0, 30)], gap))
    found = read_openface(path)
    assert found.frames.tolist() == [0, 1, 4] and found.success.all()
    assert found.points[1, 3].tolist() == [23.5, 26.5]
    assert np.array_equal(read_openface_csv(path), found.points)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "face.csv"
    path.write_text(openface_text([(1, 0, 10)]).replace("y_41", "why"))
    with pytest.raises(UnsupportedMedia, match=r"no column 'y_41'.*2Dfp"):
        read_openface_csv(path)
    path.write_text("frame, success\n1, 1\n")
    with pytest.raises(UnsupportedMedia, match="no column 'x_0' and 135 more"):
        read_openface_csv(path)


def test_a_bad_field_is_named_by_line_column_and_name(tmp_path: Path) -> None:
    path = tmp_path / "face.csv"
    lines = openface_text([(1, 0, 10), (2, 0, 20)]).splitlines()
    path.write_text("\n".join([lines[0], lines[1], lines[2].replace(" 23,", " ,", 1)]))
    with pytest.raises(UndecodableMedia, match=r"line 3, column 10 \(x_3\): '' is not a finite number"):
        read_openface_csv(path)
    path.write_text("\n".join([lines[0], lines[1], lines[2][:100]]))
    with pytest.raises(UndecodableMedia, match=r"line 3: .* expected 143"):
        read_openface_csv(path)
    path.write_text(lines[0] + "\n")
    with pytest.raises(UndecodableMedia, match="no rows"):
        read_openface_csv(path)


def test_of_several_faces_one_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    path.write_text(openface_text([(1, 0, 10), (1, 3, 50), (2, 0, 20), (2, 3, 60), (3, 3, 70)]))
    with pytest.raises(UnsupportedMedia, match=r"2 faces: 0 \(2 rows\), 3 \(3 rows\); choose one"):
        read_openface_csv(path)
    assert read_openface_csv(path, face=3)[:, 0, 0].tolist() == [50, 60, 70]
    with pytest.raises(UnsupportedMedia, match="no face_id 1; it has 0, 3"):
        read_openface_csv(path, face=1)


def test_frames_out_of_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "face.csv"
    path.write_text(openface_text([(1, 0, 10), (3, 0, 20), (3, 0, 30)]))
    with pytest.raises(UndecodableMedia, match="frame 3 of face 0 comes after 3"):
        read_openface_csv(path)
    path.write_text(openface_text([(0, 0, 10), (1, 0, 20)]))
    with pytest.raises(UndecodableMedia, match="counts frames from 1"):
        read_openface_csv(path)
