"""A killed run is continued without losing or doubling anything; what made a set otherwise is refused."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from portraits import make_videos

from train.prepare import PreparedSet, PrepareError, PrepareSettings
from train.prepare import storage as storing
from train.prepare.run import index, prepare
from train.prepare.storage import DiskFull, Store, locked

SETTINGS = PrepareSettings(count=3, size=96, detector="hog")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"))


def run(root: Path, out: Path, settings: PrepareSettings = SETTINGS, **more: object) -> dict[str, int]:
    found, _ = index("auto", str(root), settings)
    return prepare(found, found.items, str(out), settings, local=True, shard_videos=1, **more).outcomes


@pytest.fixture(scope="module")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "set"
    run(videos, out)
    return out


def committed(out: Path) -> list[str]:
    """Shards that count."""
    return [path.name for path in out.glob("shards/[!.]*.jsonl")]


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the shards."""
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def command(root: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "ui.cli", "prepare", "plain", str(root), "--out", str(out), "--count", "3", "--size",
            "96", "--detector", "hog", "--local"]  # fmt: skip


def test_a_second_run_does_nothing_and_changes_nothing(videos: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    first = run(videos, out)
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    assert run(videos, out) == first
    assert contents(out) == before == contents(whole), "the same videos make the same bytes"
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == times


def test_a_run_killed_in_the_middle_and_continued_equals_an_unkilled_one(
    videos: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    running = subprocess.Popen(
        command(videos, out), stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        until = time.monotonic() + 120
        while not committed(out) and running.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    early = contents(out)
    kept = committed(out)
    assert 0 < len(kept) < 5, "it was killed in the middle"
    (out / "shards" / ".part-1-lost.tar").write_bytes(b"half a shard")
    (out / "shards" / "0123456789abcdef.tar").write_bytes(b"a shard that never came to count")
    (out / ".part-1-summary.json").write_bytes(b"{")
    assert run(videos, out) == {"done": 4, "failed": 1, "no_face": 1}
    assert contents(out) == contents(whole) and not (out / ".part-1-summary.json").exists()
    assert all(contents(out)[name] == early[name] for name in kept)


def test_a_video_that_two_shards_hold_counts_once(videos: Path, whole: Path, tmp_path: Path) -> None:
    """A worker that outlives its killed run may still commit what the next run makes in another grouping."""
    found, _ = index("auto", str(videos), SETTINGS)
    out = tmp_path / "set"
    prepare(found, found.items[:2], str(out), SETTINGS, local=True, shard_videos=2)
    other = next(path for path in (whole / "shards").glob("*.jsonl") if "real_a-" in path.read_text())
    run(videos, out)
    for path in (other, other.with_suffix(".tar")):
        (out / "shards" / path.name).write_bytes(path.read_bytes())
    data = PreparedSet(out)
    assert len(data) == 12 and len({data[i].key for i in range(len(data))}) == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "unmask.prepared/0"}, r"schema was unmask\.prepared/0, is unmask\.prepared/1"),
        ({"versions": {"dlib-bin": "19.0"}}, "versions.dlib-bin was 19.0"),
        ({"settings": {"margin": 1.3}}, "settings.margin was 1.3, is 2.0"),
        ({"root": "file:///elsewhere"}, "root was file:///elsewhere"),
        ({"layout": "dfdc"}, "layout was dfdc, is plain"),
    ],
)
def test_a_set_that_was_made_otherwise_is_refused_with_the_way_out(
    videos: Path, tmp_path: Path, change: dict, reason: str
) -> None:
    found, _ = index("auto", str(videos), SETTINGS)
    prepare(found, found.items[:1], str(tmp_path), SETTINGS, local=True)
    made_by = json.loads((tmp_path / "prepared.json").read_text())
    for key, value in change.items():
        made_by[key] = {**made_by[key], **value} if isinstance(value, dict) else value
    (tmp_path / "prepared.json").write_text(json.dumps(made_by))
    with pytest.raises(PrepareError, match=f"{reason}.*choose another --out"):
        run(videos, tmp_path)


def test_reading_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="is no prepared set"):
        PreparedSet(tmp_path)
    (tmp_path / "prepared.json").write_text('{"schema": "unmask.prepared/9"}')
    with pytest.raises(PrepareError, match="prepare it anew, or use the unmask that made it"):
        PreparedSet(tmp_path)
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(PrepareError, match=r"prepared\.json is damaged"):
        PreparedSet(tmp_path)


def test_a_folder_with_other_files_is_not_written_into(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(PrepareError, match="holds other files"):
        run(videos, tmp_path)


def test_a_split_that_moved_is_refused(videos: Path, tmp_path: Path) -> None:
    found, _ = index("auto", str(videos), SETTINGS)
    prepare(found, found.items, str(tmp_path), SETTINGS, local=True)
    path = next(p for p in (tmp_path / "shards").glob("*.jsonl") if "real_a-" in p.read_text())
    path.write_text(
        path.read_text().replace('"split":"train"', '"split":"test"').replace('"split":"val"', '"split":"test"')
    )
    with pytest.raises(PrepareError, match=r"the split of . finished videos"):
        run(videos, tmp_path)


def test_a_full_disk_is_named_and_what_is_finished_stays(
    videos: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storing._write_local
    written = []

    def full(path: Path, content: bytes) -> None:
        if path.name.endswith(".tar"):
            written.append(path)
        if len(written) > 2:
            path.write_bytes(content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(storing, "_write_local", full)
    with pytest.raises(DiskFull, match=r"no space is left for .*make room and run the command again"):
        run(videos, tmp_path / "set")
    assert len(PreparedSet(tmp_path / "set")) == 6
    assert not [p for p in (tmp_path / "set/shards").iterdir() if p.name.startswith(".")], "nothing half written stays"
    monkeypatch.undo()
    run(videos, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(whole)


def test_two_runs_cannot_share_a_folder(videos: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time; from train.prepare.storage import Store, locked\n"
        "with locked(Store(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(PrepareError, match="another run is preparing"):
            run(videos, tmp_path)
    finally:
        other.kill()
        other.wait()
    with locked(Store(str(tmp_path))):
        pass


def test_a_damaged_shard_is_named_with_the_way_out(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    for tar in (tmp_path / "shards").glob("*.tar"):
        tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(PrepareError, match=r"\.tar is damaged: delete it and its \.jsonl, and run prepare again"):
        PreparedSet(tmp_path)[0]


def test_the_command_reports_and_exits_by_what_became_of_the_videos(videos: Path, tmp_path: Path) -> None:
    ended = subprocess.run(command(videos, tmp_path / "set"), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 3, ended.stderr
    assert "6 videos: 4 done, 1 failed, 1 no_face" in ended.stderr and "failures.jsonl" in ended.stderr
    wrong = subprocess.run(
        [*command(videos, tmp_path / "set"), "--margin", "1.5"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert wrong.returncode == 2 and "settings.margin was 2.0, is 1.5" in wrong.stderr
    assert "Traceback" not in wrong.stderr
