"""A codec that crashes, hangs or is taken over costs one answer; the process that asked lives, the other one ends."""

from __future__ import annotations

import errno
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
from preprocessing.media.start import Starter
from preprocessing.settings import MediaLimits
from preprocessing.types import Frame

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 frames of 640 x 480: 550 MB decoded."""
    frames = [picture(640, 480, shade) for shade in range(60, 72)]
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", frames * 50)


def decoder() -> psutil.Process:
    """The one that runs, started or forked by the nursery."""
    started = [p for p in psutil.Process().children() if "preprocessing.media.worker" in p.cmdline()]
    nurseries = [p for p in psutil.Process().children() if "preprocessing.media.nursery" in p.cmdline()]
    (process,) = started + [child for one in nurseries for child in one.children()]
    return process


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    starter = Starter()
    monkeypatch.setattr(process, "starter", starter)
    process.keep_nursery()
    assert starter.nursery is not None
    yield psutil.Process(starter.nursery.process.pid)
    starter.close()


@pytest.fixture(params=["started", "forked"])
def either(request: pytest.FixtureRequest) -> None:
    """Decoding processes that are started, and those that a nursery forks."""
    if request.param == "forked":
        request.getfixturevalue("nursery")


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
    long_video: Path, number: int, error: type[Exception], words: str, either: None
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


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter of system calls")
def test_the_confined_process_reaches_no_other_process_and_makes_or_changes_no_file(tmp_path: Path) -> None:
    """Each is tried before confinement, where it works, and after; signals have the number 0, which only asks."""
    code = """
import ctypes, errno, fcntl, json, os, platform, resource, signal, struct, sys, threading
from preprocessing.media import sandbox
libc = ctypes.CDLL(None, use_errno=True)
column = 1 if platform.machine() == "x86_64" else 2
parent, own, folder = os.getppid(), os.getpid(), sys.argv[1]
made = os.path.join(folder, "made")
lines = os.pipe()
known = {call.split(":")[0]: call.split(":")[column] for call in (sandbox._DENIED + sandbox._OWN_ONLY).split()}
old = ctypes.create_string_buffer(16)
info = ctypes.create_string_buffer(struct.pack("iiiiii", 0, 0, -1, 0, own, os.getuid()), 128)

def call(name, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(int(known[name]), *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

attempts = {
    "tkill": lambda: call("tkill", parent, 0),
    "tgkill": lambda: call("tgkill", parent, parent, 0),
    "queue": lambda: call("rt_sigqueueinfo", parent, 0, info),
    "queue to a thread": lambda: call("rt_tgsigqueueinfo", parent, parent, 0, info),
    "limits of another": lambda: call("prlimit64", parent, resource.RLIMIT_NOFILE, None, old),
    "owner": lambda: fcntl.fcntl(lines[0], fcntl.F_SETOWN, parent),
    "owner, new": lambda: fcntl.fcntl(lines[0], 15, struct.pack("ii", 1, parent)),
    "signal of a file": lambda: fcntl.fcntl(lines[0], 10, signal.SIGKILL),
    "affinity": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)),
    "own limits": lambda: call("prlimit64", 0, resource.RLIMIT_CORE, struct.pack("QQ", 0, 0), None),
    "node": lambda: (os.path.lexists(made) and os.unlink(made), os.mknod(made)),
    "owner of a file": lambda: os.lchown(folder, -1, -1),
    "times": lambda: os.utime(folder),
    "rights": lambda: os.fchmod(lines[0], 0o600),
    "shared memory": lambda: call("shmget", 0, 4096, 0o600),
}
def tried():
    out = {}
    for name, action in attempts.items():
        try:
            action()
            out[name] = 0
        except OSError as error:
            out[name] = error.errno
    return out
before = tried()
sandbox.confine(300 * 1024**2, 5)
after = tried()
allowed = [resource.getrlimit(resource.RLIMIT_CORE), fcntl.fcntl(lines[0], fcntl.F_GETFL)]
call("tgkill", own, threading.get_native_id(), 0)
call("prlimit64", 0, resource.RLIMIT_NOFILE, None, old)
thread = threading.Thread(target=lambda: allowed.append("ran"))
thread.start()
thread.join()
print(json.dumps([before, after, len(allowed)]), flush=True)
os.abort()
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGABRT, "a decoder that aborts is still told from one that ends"
    before, after, allowed = json.loads(done.stdout)
    assert {name: number for name, number in before.items() if number} == {}
    assert {name: number for name, number in after.items() if number != errno.EPERM} == {}
    assert allowed == 3


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there is no filter of system calls")
def test_a_filter_that_cannot_be_set_is_an_error() -> None:
    code = """
import ctypes
from preprocessing.media import sandbox
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))
sandbox._Program = lambda length, code: Program(length, 8)
try:
    sandbox.confine(2**30, 5)
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "the filter of system calls could not be set" in done.stdout, done.stderr


def test_this_machine_filters_system_calls_and_it_is_known_where_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.filters_calls()
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    assert not process.filters_calls()


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


def test_the_nursery_forks_one_for_each_file_and_never_sees_a_file(long_video: Path, nursery: psutil.Process) -> None:
    assert nursery.num_threads() == 1, "a fork copies one thread"
    with open_media(long_video) as media:
        frames = iter(media)
        assert next(frames).image.shape == (480, 640, 3)
        first = decoder()
        assert first.parent() == nursery
        assert str(long_video) in [file.path for file in first.open_files()]
        assert not [file for file in nursery.open_files() if file.path == str(long_video)]
    assert not first.is_running()
    with open_media(long_video) as media:
        frames = iter(media)
        next(frames)
        assert decoder().pid != first.pid
    assert nursery.children() == []


def test_a_nursery_that_died_costs_no_file_and_is_replaced(long_video: Path, nursery: psutil.Process) -> None:
    with open_media(long_video) as media:
        frames = iter(media)
        next(frames)
        nursery.kill()
        assert sum(1 for _ in frames) == 599, "its children go on"
    for _ in range(2):
        with open_media(long_video) as media:
            assert next(iter(media)).image.shape == (480, 640, 3)
    assert process.starter.nursery is not None and process.starter.nursery.process.pid != nursery.pid


def test_what_the_nursery_forks_is_confined_as_any_other(long_video: Path, nursery: psutil.Process) -> None:
    with open_media(long_video) as media:
        frames = iter(media)
        next(frames)
        child = decoder()
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "Seccomp:\t2" in status or platform.machine() not in ("x86_64", "aarch64")
        assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert child.rlimit(psutil.RLIMIT_AS)[0] == MediaLimits().max_memory_bytes


def test_the_nursery_and_its_children_end_with_the_program(long_video: Path) -> None:
    code = (
        "import sys, time, psutil\nfrom preprocessing.media import keep_nursery, open_media\nkeep_nursery()\n"
        "frames = iter(open_media(sys.argv[1]))\nnext(frames)\n"
        "print(*(p.pid for p in psutil.Process().children(recursive=True)), flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, long_video], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout
    orphans = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(orphans) == 2
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(orphans, timeout=5)[1] == []
