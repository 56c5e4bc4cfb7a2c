"""Reading labelled media: what is kept, and what is wrong by name and line."""

from pathlib import Path

import pytest

from train.labelled import Item, read_items

MANIFEST = (
    "path,label,split,dataset,sha256,source\na.mp4,real,dev,x,0aa,p1\nb.mp4,Fake,dev,x,1bb,\nc.jpg,1,train,y,2cc,\n"
)


def write(folder: Path, text: str) -> Path:
    for name in ("a.mp4", "b.mp4", "c.jpg"):
        (folder / name).write_bytes(name.encode())
    file = folder / "MANIFEST.csv"
    file.write_text(text)
    return file


def test_a_manifest_is_read_and_filtered(tmp_path: Path) -> None:
    file = write(tmp_path, MANIFEST)
    assert [item.label for item in read_items(file)] == [0, 1, 1]
    assert [item.identity for item in read_items(file)] == ["p1", "", ""]
    assert [item.path.name for item in read_items(tmp_path, split="dev")] == ["a.mp4", "b.mp4"]
    assert [item.path.name for item in read_items(file, sha_prefix="02")] == ["a.mp4", "c.jpg"]
    assert [item.path.name for item in read_items(file, without=["x"])] == ["c.jpg"]


def test_folders_named_real_and_fake_are_a_data_set(tmp_path: Path) -> None:
    for name in ("real/p/1.jpg", "fake/2.MP4", "fake/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [(item.path.name, item.label) for item in read_items(tmp_path)] == [("1.jpg", 0), ("2.MP4", 1)]


def test_a_limit_spreads_over_sets_and_classes(tmp_path: Path) -> None:
    lines = [f"{s}{i}.jpg,{label},{s}" for s, label in (("u", "real"), ("v", "real"), ("w", "fake")) for i in range(30)]
    (tmp_path / "u0.jpg").write_bytes(b"")
    file = write(tmp_path, "path,label,dataset\n" + "\n".join(lines) + "\n")
    kept = read_items(file, limit=6)
    assert len(kept) == 6 and {item.dataset for item in kept} == {"u", "v", "w"}
    assert kept == read_items(file, limit=6) and len(read_items(file, limit=500)) == 90


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\na,real\n", "needs the columns path and label, has file, label"),
        ("path,label\na.mp4,real\nb.mp4,maybe\n", "line 3: label 'maybe'"),
        ("path,label\na.mp4\n", "line 2: label '' is not"),
        ("path,label\na.mp4,real\n,fake\n", "line 3: the path is empty"),
        ("path,label\na.mp4,real\nb.mp4,fake\na.mp4,fake\n", "line 4: a.mp4 is on line 2 already"),
        ("path,label\na,b.mp4,real\n", "line 2: more fields than columns"),
        ("path,label\nnowhere.mp4,real\n", "none of its files is there, not .*nowhere.mp4"),
        ("path,label\n", "no labelled media found"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong_and_where(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_items(write(tmp_path, text))


def test_filters_that_leave_nothing_say_so(tmp_path: Path) -> None:
    file = write(tmp_path, MANIFEST)
    with pytest.raises(ValueError, match="left after --split test"):
        read_items(file, split="test")
    with pytest.raises(ValueError, match="no file has a sha256"):
        read_items(file, sha_prefix="f")
    (tmp_path / "MANIFEST.csv").write_bytes(b"path,label\n\xff\xfe,real\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_items(file)


def test_an_item_without_a_digest_reads_its_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert Item(tmp_path / "x", 0).digest().startswith("ba7816bf")
