"""Each kind of bad input is refused by name and reason, quickly; limits hold for the header and against it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hostile import AS_NOBODY, KINDS, SECRET, Kind, build, write_video
from PIL import Image

from preprocessing.errors import MediaError, MediaMissing, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from preprocessing.media import open_media, probe
from preprocessing.settings import MediaLimits

REFUSED = [kind for kind in KINDS if kind.code and kind.name != "unreadable"]
ANALYSED = [kind for kind in KINDS if not kind.code]


def read_all(path: Path, limits: MediaLimits | None = None) -> int:
    with open_media(path, limits or MediaLimits()) as media:
        return sum(1 for _ in media)


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.name)
def test_bad_input_is_refused_by_reason(tmp_path: Path, kind: Kind) -> None:
    path = build(kind.name, tmp_path)
    begin = time.monotonic()
    with pytest.raises(MediaError) as caught:
        read_all(path)
    assert caught.value.code == kind.code
    assert caught.value.reason
    assert SECRET not in str(caught.value)
    for leak in ("Errno", "Traceback", "object at", str(tmp_path)):
        assert leak not in str(caught.value)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("kind", ANALYSED, ids=lambda kind: kind.name)
def test_odd_input_is_read(tmp_path: Path, kind: Kind) -> None:
    assert read_all(build(kind.name, tmp_path)) >= 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no_file", "no such file"),
        ("directory", "directory"),
        ("fifo", "pipe"),
        ("empty", "empty"),
        ("text", "text file"),
        ("svg", "SVG"),
        ("zip", "ZIP"),
        ("playlist", "never follows"),
        ("dash", "never follows"),
        ("audio_only", "only sound"),
        ("gif_animated", "animated GIF of 5 frames"),
        ("apng", "animated PNG of 5 frames"),
        ("webp_animated", "animated WEBP of 5 frames"),
        ("png_huge", "65535 x 65535 pixels"),
        ("lying_length", "36000 s"),
        ("many_streams", "20 streams"),
        ("too_fast", "1000 frames a second"),
        ("odd_codec", "snow"),
        ("no_index", "index is missing"),
        ("jpeg_cut", "cut off"),
    ],
)
def test_the_reason_names_what_is_wrong(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        read_all(build(kind, tmp_path))


def test_a_movie_whose_pictures_are_in_another_file_does_not_get_them(tmp_path: Path) -> None:
    path = build("elsewhere", tmp_path)
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as followed:
        assert sum(1 for _ in followed.decode(video=0)) == 30, "libav would follow it where it is told to"
    with pytest.raises(UndecodableMedia):
        read_all(path)


def test_no_permission_is_said_plainly() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = build("unreadable", Path(folder))
        code = (
            f"import sys\nfrom preprocessing.media.reader import probe\n{AS_NOBODY}"
            "try: probe(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
    assert done.stdout.startswith("MediaMissing no permission to read it"), done.stderr


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000, "/dev/zero", "/dev/stdin"])
def test_odd_paths_are_answered_not_opened(path: str) -> None:
    with pytest.raises(MediaMissing):
        probe(path)


@pytest.mark.parametrize(
    ("kind", "limit", "words"),
    [
        ("rotated_video", {"max_bytes": 500}, "MB; the limit"),
        ("heic", {"max_image_pixels": 320 * 240 - 1}, "320 x 240 pixels"),
        ("rotated_video", {"max_frame_pixels": 320 * 240 - 1}, "320 x 240 pixels"),
        ("rotated_video", {"max_duration_s": 0.5}, "lasts 1 s"),
        ("rotated_video", {"max_fps": 29}, "30 frames a second"),
        ("audio_and_video", {"max_streams": 1}, "2 streams"),
    ],
)
def test_every_limit_of_the_header_is_configurable(
    tmp_path: Path, kind: str, limit: dict[str, float], words: str
) -> None:
    path = build(kind, tmp_path)
    with pytest.raises(MediaTooLarge, match=words) as caught:
        probe(path, MediaLimits(**limit))
    assert next(iter(limit)) in caught.value.hint
    assert probe(path).width in (240, 320)


def test_a_header_that_says_too_little_is_not_believed(tmp_path: Path) -> None:
    path = build("lying_short", tmp_path)
    limits = MediaLimits(max_duration_s=1.0)
    assert probe(path, limits).duration_s == pytest.approx(0.1)
    seen = 0
    with open_media(path, limits) as media, pytest.raises(MediaTooLarge, match="max_duration_s"):
        for _ in media:
            seen += 1
    assert 20 <= seen <= 32


def test_too_much_memory_is_refused_and_said(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(path, compress_level=1)
    with pytest.raises(MediaTooLarge, match="more than 500 MB of memory"):
        read_all(path, MediaLimits(max_memory_bytes=500 * 1024**2))


def test_too_much_computing_is_refused_and_said(tmp_path: Path) -> None:
    """Ten seconds of computing in a file that is made fast: four pictures of noise, over and over."""
    rng = np.random.default_rng(0)
    path = write_video(
        tmp_path / "noise.mp4", [rng.integers(0, 256, (720, 1280, 3), np.uint8) for _ in range(4)], gop=1
    )
    slow = tmp_path / "slow.mp4"
    with av.open(str(path)) as source, av.open(str(slow), "w") as out:
        track = out.add_stream_from_template(source.streams.video[0])
        packets = [(bytes(packet), packet.time_base) for packet in source.demux(video=0) if packet.size]
        for i in range(600):
            data, base = packets[i % 4]
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = track, base, True
            packet.pts = packet.dts = i * round(1 / 30 / base)
            out.mux(packet)
    with pytest.raises(MediaTooLarge, match="more than 1 s of CPU time"):
        read_all(slow, MediaLimits(max_cpu_s=1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "kind", ["heic", "avif", "exif_rotated", "gif_still", "palette_alpha", "apng", "vfr_video", "lying_short"]
)
def test_random_damage_is_answered_by_frames_or_by_reason(tmp_path: Path, kind: str, seed: int) -> None:
    path = build(kind, tmp_path)
    rng = np.random.default_rng([seed, len(kind)])
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    at = rng.integers(12, min(len(data), 12 + 400 * 4**seed), 1 + 4 * seed)
    data[at] = rng.integers(0, 256, len(at))
    path.write_bytes(data.tobytes())
    try:
        assert read_all(path) >= 1
    except (UnsupportedMedia, MediaTooLarge, UndecodableMedia) as error:
        assert error.reason


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    paths = [build(kind, tmp_path) for kind in ("text", "jpeg_cut", "no_index", "gif_animated", "heic", "truncated")]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in paths:
        with contextlib.suppress(MediaError):
            read_all(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
