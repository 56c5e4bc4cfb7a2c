"""Many files at once: which they are, what becomes of each, and that nothing is done twice."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ray_head import end_group

from serve.batch import BatchError, Parts, inputs, main

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "ui" / "samples"


def rows(folder: Path) -> list[dict[str, object]]:
    found = [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return sorted(found, key=lambda row: str(row["path"]))


def test_a_folder_a_list_and_a_table_name_the_same_files(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/c.webm").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.jpg\n\nb.mp4\ndeep/c.webm\n")
    (tmp_path / "table.csv").write_text("label,path\nreal,a.jpg\nfake,b.mp4\nreal,deep/c.webm\n")
    wanted = [f"file://{tmp_path / name}" for name in ("a.jpg", "b.mp4", "deep/c.webm")]
    assert [list(inputs(str(place))) for place in (tmp_path, tmp_path / "list.txt", tmp_path / "table.csv")] == [
        wanted
    ] * 3
    assert list(inputs(str(tmp_path / "a.jpg"))) == wanted[:1]


def test_a_folder_is_read_the_same_on_every_machine(tmp_path: Path) -> None:
    """Not by what the machine's tables of MIME types know."""
    media = ["a.webp", "b.MKV", "c.m4v", "d.flv", "e.wmv", "f.ogv", "g.HEIC", "h.avif"]
    for name in (*media, "drawing.svg", "photo.psd", "notes"):
        (tmp_path / name).write_bytes(b"x")
    assert [Path(url).name for url in inputs(str(tmp_path))] == media


def test_object_storage_is_read_as_a_folder_is(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/media/a.jpg", b"x")
    assert list(inputs("memory://media")) == ["memory:///media/a.jpg"]


@pytest.mark.parametrize(
    ("content", "words"), [("label\nreal\n", "no column `path`: it has label"), ("path\n", "names no media")]
)
def test_what_names_no_files_is_said(
    tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text(content)
    assert main([str(tmp_path / "table.csv"), "--output", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


def test_places_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="there is no"):
        list(inputs(str(tmp_path / "none")))
    with pytest.raises(BatchError, match="nosuch"):
        list(inputs("nosuch://bucket/x"))


def row(path: str, status: str) -> dict[str, Any]:
    empty = dict.fromkeys(("code", "reason", "verdict", "score", "low", "high", "faces", "result"))
    return {"path": path, "seconds": 1.0, "status": status, **empty}


def test_a_part_is_whole_or_not_there(tmp_path: Path) -> None:
    parts = Parts(str(tmp_path))
    parts.add(row("file:///a", "failed"))
    assert parts.known() == {}
    parts.write()
    (tmp_path / ".part-half.parquet").write_bytes(b"PAR1")
    assert Parts(str(tmp_path)).known() == {"file:///a": "failed"}


def test_parts_go_to_object_storage_and_the_latest_row_of_a_file_counts() -> None:
    parts = Parts("memory://found/here")
    for status in ("failed", "done"):
        parts.add(row("s3://bucket/a.jpg", status))
        parts.write()
    assert Parts("memory://found/here").known() == {"s3://bucket/a.jpg": "done"}


def test_failures_of_an_earlier_run_are_told_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    parts = Parts(str(tmp_path / "out"))
    parts.add(row(f"file://{tmp_path}/a.jpg", "failed"))
    parts.write()
    assert main([str(tmp_path / "a.jpg"), "--output", str(tmp_path / "out")]) == 3
    assert "0 analysed, 0 failed, 1 were there before (1 failed)" in capsys.readouterr().out


KILLED = "import serve.batch as batch, sys; batch.PART_ROWS = 2; sys.exit(batch.main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.e2e
def test_killed_work_goes_on_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    """On a Ray of its own, as a user gives the command: faces, a broken file, one that is not there."""
    faces = [tmp_path / f"{number}.jpg" for number in range(24)]
    for number, path in enumerate(faces):
        shutil.copy(SAMPLES / f"astronaut-{'fake' if number % 2 else 'real'}.jpg", path)
    broken, none = tmp_path / "broken.jpg", tmp_path / "none.png"
    broken.write_bytes(b"no picture")
    (tmp_path / "list.txt").write_text("\n".join(map(str, [*faces, broken, none])))
    given = [str(tmp_path / "list.txt"), "--output", str(tmp_path / "out"), "--workers", "2"]

    running = subprocess.Popen([sys.executable, "-c", KILLED, *given], cwd=ROOT, start_new_session=True)
    try:
        until = time.monotonic() + 200
        while len(list((tmp_path / "out").glob("part-*.parquet"))) < 2 and time.monotonic() < until:
            assert running.poll() is None
            time.sleep(0.05)
    finally:
        end_group(running)
    kept = len(rows(tmp_path / "out"))
    assert 4 <= kept < 26, "it was killed in the middle"

    def again(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "serve.batch", *given, *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)

    rest = again()
    assert rest.returncode == 3, (rest.stdout + rest.stderr)[-3000:]
    assert f"{kept} were there before" in rest.stdout
    found = {Path(str(one["path"])).name: one for one in rows(tmp_path / "out")}
    assert len(found) == len(rows(tmp_path / "out")) == 26, "each file once"
    assert found["broken.jpg"]["code"] == "unsupported" and found["none.png"]["code"] == "missing"
    assert all(found[path.name]["faces"] == 1 for path in faces)
    assert json.loads(str(found["1.jpg"]["result"]))["score"] == found["1.jpg"]["score"]

    shutil.copy(SAMPLES / "astronaut-real.jpg", broken)
    retried = again("--retry-failed")
    assert retried.returncode == 3 and "1 analysed, 1 failed, 24 were there before:" in retried.stdout, retried.stderr
    assert Parts(str(tmp_path / "out")).known()[str(broken)] == "done"


@pytest.mark.slow
@pytest.mark.e2e
def test_work_that_cannot_begin_says_why_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/manifest.json").write_text("{}")
    command = [
        sys.executable,
        "-m",
        "serve.batch",
        str(SAMPLES / "astronaut-real.jpg"),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"UNMASK_WEIGHTS": str(tmp_path / "weights")}, capture_output=True,
        text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "manifest" in done.stderr and "not a list of cards" in done.stderr
