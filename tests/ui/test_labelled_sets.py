"""Uploads with labels: what becomes of them, and what is refused before it costs anything."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from train.labelled import read_items
from ui.errors import UsageError
from ui.labelled_sets import Bounds, from_files, from_zip


class Sent(io.BytesIO):
    """A file as a browser sends it."""

    def __init__(self, name: str, content: bytes = b"x") -> None:
        super().__init__(content)
        self.name = name


def packed(files: dict[str, bytes], **changes: int) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    out.seek(0)
    return out


def test_two_heaps_of_files_become_numbered_files_with_a_manifest(tmp_path: Path) -> None:
    evil = "../../../etc/\x1b[31mpasswd.jpg"
    made = from_files([Sent("a.jpg", b"1"), Sent("notes.txt")], [Sent(evil, b"2")], tmp_path / "set")
    assert made.names == {"00001.jpg": "a.jpg", "00002.jpg": evil.replace("\x1b", "\N{REPLACEMENT CHARACTER}")}
    assert made.left_out == ["notes.txt"]
    assert [(item.path.name, item.label) for item in read_items(tmp_path / "set")] == [
        ("00001.jpg", 0),
        ("00002.jpg", 1),
    ]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "00001.jpg", "00002.jpg", "manifest.csv", "names.json"
    }  # fmt: skip


def test_a_zip_is_labelled_by_its_nearest_folder_called_real_or_fake(tmp_path: Path) -> None:
    files = {"set/Real/ann/1.png": b"1", "set/fake/real-looking/2.mp4": b"2", "set/readme.md": b"3",
             "other/4.jpg": b"4", "__MACOSX/set/real/._1.png": b"5", "set/real/.DS_Store": b"6"}  # fmt: skip
    made = from_zip(packed(files), tmp_path / "set")
    assert made.names == {"00001.png": "set/Real/ann/1.png", "00002.mp4": "set/fake/real-looking/2.mp4"}
    assert [item.label for item in read_items(tmp_path / "set")] == [0, 1]


def test_a_zip_with_a_manifest_keeps_its_columns(tmp_path: Path) -> None:
    text = "path,label,dataset,identity,extra\nx/1.jpg,fake,dfdc,ann,?\nx/2.jpg,0,,,?\n"
    made = from_zip(packed({"d/manifest.csv": text.encode(), "d/x/1.jpg": b"1", "d/x/2.jpg": b"2"}), tmp_path / "set")
    assert set(made.names.values()) == {"d/x/1.jpg", "d/x/2.jpg"}
    with (tmp_path / "set" / "manifest.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file))) == {
            "path": "00001.jpg", "label": "fake", "dataset": "dfdc", "identity": "ann"
        }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["../out.jpg", "real/../../out.jpg", "/real/out.jpg", "C:\\real\\out.jpg", "..\\out.jpg"]
)
def test_a_zip_that_leads_out_of_itself_is_refused_whole(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="leads out of it"):
        from_zip(packed({"real/1.jpg": b"1", name: b"2"}), tmp_path / "deep" / "set")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bomb_is_stopped_by_what_it_unpacks_to(tmp_path: Path) -> None:
    bomb = packed({f"real/{n}.jpg": bytes(3_000_000) for n in range(4)})
    assert len(bomb.getvalue()) < 30_000
    with pytest.raises(UsageError, match="GiB when unpacked"):
        from_zip(bomb, tmp_path / "set", Bounds(total_bytes=5_000_000))
    with pytest.raises(UsageError, match="more than 3 files"):
        from_zip(bomb, tmp_path / "other", Bounds(files=3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no zip", "cannot be unpacked"),
        (packed({"a.jpg": b"1"}).getvalue(), "no folders called real and fake"),
        (packed({"real/a.txt": b"1"}).getvalue(), "no pictures or videos"),
        (packed({"real/a.jpg": b"1" * 5000}).getvalue()[:60], "cannot be unpacked"),
        (packed({"manifest.csv": b"path,label\nno.jpg,real\n"}).getvalue(), "line 2: there is no file no.jpg"),
        (packed({"manifest.csv": b"file\nno.jpg\n"}).getvalue(), "needs the columns path and label"),
    ],
    # a zip holds the time it was packed at: as a name it would differ between the processes that share the tests
    ids=["no zip", "no folders", "no pictures", "cut off", "a file that is not there", "no columns"],
)
def test_a_zip_that_is_no_labelled_set_is_told_so(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        from_zip(io.BytesIO(content), tmp_path / "set")


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed({"real/a.jpg": b"1"}).getvalue())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UsageError, match="password"):
        from_zip(io.BytesIO(bytes(content)), tmp_path / "set")
