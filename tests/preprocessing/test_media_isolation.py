"""A codec that crashes, hangs or is taken over costs one answer; the process that asked lives, the other one ends."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hostile import build, picture, write_video

from preprocessing.errors import MediaTooLarge, UndecodableMedia
from preprocessing.media import open_media, probe, process
from preprocessing.settings import MediaLimits
from preprocessing.types import Frame

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 frames of 640 x 480: 550 MB decoded."""
    frames = [picture(640, 480, shade) for shade in range(60, 72)]
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", frames * 50)


def decoder() -> psutil.Process:
    (process,) = [p for p in psutil.Process().children() if "preprocessing.media.worker" in p.cmdline()]
    return process


def drain(frames: Iterator[Frame]) -> None:
    for _ in frames:
        pass


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (signal.SIGSEGV, UndecodableMedia, "crashed on this file .SIGSEGV."),
        (signal.SIGABRT, UndecodableMedia, "crashed"),
        (signal.SIGKILL, MediaTooLarge, "was killed"),
        (signal.SIGXCPU, MediaTooLarge, "CPU time"),
    ],
)
def test_the_death_of_the_decoder_is_one_error(
    long_video: Path, number: int, error: type[Exception], words: str
) -> None:
    with open_media(long_video) as media:
        frames = iter(media)
        next(frames)
        decoder().send_signal(number)
        with pytest.raises(error, match=words):
            drain(frames)
        assert sum(1 for _ in media) == 600  # the next pass has a process of its own


def test_a_decoder_that_hangs_is_ended(long_video: Path) -> None:
    with open_media(long_video, MediaLimits(max_stall_s=3)) as media:
        frames = iter(media)
        next(frames)
        hung = decoder()
        hung.suspend()
        with pytest.raises(UndecodableMedia, match="no picture within 3 s"):
            drain(frames)
    assert not hung.is_running()


def test_leaving_early_ends_the_decoder_and_frees_everything(long_video: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with open_media(long_video) as media:
        for frame in media:
            process = decoder()
            if frame.index == 3:
                break
        assert not process.is_running()
    with open_media(long_video):
        process = decoder()
    assert not process.is_running()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ValueError, match="closed"):
        next(iter(media))


def test_a_slow_reader_holds_the_decoder_back(long_video: Path) -> None:
    with open_media(long_video) as media:
        frames = iter(media)
        next(frames)
        process = decoder()
        used = process.memory_full_info().uss
        time.sleep(1.0)  # decoding everything takes about as long
        assert process.memory_full_info().uss - used < 30e6
        assert process.memory_full_info().pss < 150e6
        assert sum(1 for _ in frames) == 599


def test_another_thread_may_read_on_when_the_opener_has_ended(long_video: Path) -> None:
    opened: list = []
    opener = threading.Thread(target=lambda: opened.append(open_media(long_video)))
    opener.start()
    opener.join()
    time.sleep(0.1)
    with opened[0] as media:
        assert sum(1 for _ in media) == 600


def test_the_decoder_ends_with_its_parent_even_when_it_hangs(long_video: Path) -> None:
    code = (
        "import sys, time, psutil\nfrom preprocessing.media import open_media\nmedia = open_media(sys.argv[1])\n"
        "frames = iter(media)\nnext(frames)\nprint(psutil.Process().children()[0].pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, long_video], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([orphan], timeout=5)[1] == []


def test_the_working_directory_is_neither_needed_nor_trusted(tmp_path: Path) -> None:
    path = build("heic", tmp_path)
    for name in ("av", "numpy", "PIL", "json"):
        (tmp_path / f"{name}.py").write_text("open('trap', 'w')")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom preprocessing.media import probe\n"
        "print(probe(sys.argv[1]).width)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "320\n", done.stderr
    assert not (tmp_path / "trap").exists()


def test_secrets_of_the_environment_do_not_reach_the_decoder(long_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    with open_media(long_video):
        assert "SOME_TOKEN" not in decoder().environ()


def test_the_confined_process_can_open_write_and_connect_to_nothing(tmp_path: Path) -> None:
    """Run as the decoder is, with what a payload would try."""
    code = """
import json, os, resource, socket, sys
from preprocessing.media import sandbox
sandbox.confine(300 * 1024**2, 5)
out = {}
def attempt(name, action):
    try:
        action()
        out[name] = "done"
    except (OSError, MemoryError) as error:
        out[name] = type(error).__name__
attempt("read", lambda: os.open("/etc/hostname", os.O_RDONLY))
attempt("write", lambda: os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))
attempt("connect", lambda: socket.socket())
attempt("start", lambda: os.posix_spawn("/bin/sh", ["sh", "-c", "exec 5< /etc/hostname && touch " + sys.argv[1]], {}))
attempt("fork", os.fork)
attempt("delete", lambda: os.unlink(sys.argv[3]))
attempt("memory", lambda: bytearray(400 * 1024**2))
attempt("grow a file", lambda: os.pwrite(int(sys.argv[2]), b"x", 0))
out["core"] = resource.getrlimit(resource.RLIMIT_CORE)[1]
print(json.dumps(out))
"""
    target, writable = tmp_path / "made", tmp_path / "open"
    with writable.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code, target, str(file.fileno()), writable],
            capture_output=True, text=True, cwd=ROOT, pass_fds=[file.fileno()],
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for name in ("read", "write", "connect"):
        assert result[name] in ("OSError", "PermissionError")
    if platform.machine() in ("x86_64", "aarch64"):
        assert result["start"] == result["fork"] == result["delete"] == "PermissionError"
        assert not target.exists()
    assert result["memory"] == "MemoryError"
    assert result["grow a file"] == "OSError"
    assert result["core"] == 0


def test_importing_the_media_layer_is_light() -> None:
    code = (
        "import sys, preprocessing.media.reader; print([m for m in ('av', 'PIL', 'torch', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_many_files_at_once(tmp_path: Path) -> None:
    """As a service does: several threads, good and bad files, each gets its own answer."""
    good, bad = build("vfr_video", tmp_path), build("no_index", tmp_path)
    answers: list[str] = []

    def ask(path: Path) -> None:
        try:
            answers.append(str(probe(path).frames))
        except UndecodableMedia as error:
            answers.append(error.code)

    threads = [threading.Thread(target=ask, args=(path,)) for path in [good, bad] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == ["6"] * 4 + ["undecodable"] * 4


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    monkeypatch.setattr(process, "_spare", process._Spare())
    process.keep_spare()
    yield decoder()
    if process._spare._worker is not None:
        process._spare._worker.close()


def test_a_spare_process_decodes_the_next_file_and_is_replaced(long_video: Path, spare: psutil.Process) -> None:
    with open_media(long_video) as media:
        frames = iter(media)
        assert next(frames).image.shape == (480, 640, 3)
        assert decoder().pid == spare.pid
    assert not spare.is_running()
    assert decoder().pid != spare.pid


def test_a_spare_that_died_is_not_used(long_video: Path, spare: psutil.Process) -> None:
    spare.kill()
    process._spare._worker.process.wait()
    with open_media(long_video) as media:
        assert next(iter(media)).image.shape == (480, 640, 3)


def test_a_spare_is_confined_as_any_other(long_video: Path, spare: psutil.Process) -> None:
    with open_media(long_video) as media:
        frames = iter(media)
        next(frames)
        status = Path(f"/proc/{spare.pid}/status").read_text()
        assert "Seccomp:\t2" in status or platform.machine() not in ("x86_64", "aarch64")
        assert spare.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
