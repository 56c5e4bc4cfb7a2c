"""Over two hundred hostile files, made on the spot from a seed: none is stored.

    from hostile_corpus import corpus
    for path in corpus(folder): ...

The kinds of `hostile`, whose answers are known one by one, and families of damage to whole files of every format:

- cut: the first share of the file, from a few bytes to all but the last
- flips: single bits, in the header or anywhere
- lies: every 32-bit number of the header set to 0, to the largest, to a large prime
- polyglots: a whole file of another kind before or behind
- spliced: the head of one format on the body of another; two files of a kind joined
- stretched: zeros or text without end behind a valid file
- switched: a stream whose pictures change size midway
- crowded: a thousand faces in a picture, a thousand short shots, a thousand faces that come and go in a video
- still for hours: one picture that claims to be shown for ten hours
- not numbers: NaN and infinity where metadata have a float
"""

from __future__ import annotations

import functools
import io
import itertools
import random
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from hostile import KINDS, build, picture, write_video
from PIL import Image

LIES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 104729)
CUTS = (0.02, 0.1, 0.35, 0.6, 0.9, 0.999)


@functools.cache
def whole() -> dict[str, bytes]:
    """A small valid file of each format."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    made: dict[str, bytes] = {}
    for name, kind, options in (
        ("a.png", "PNG", {}), ("a.jpg", "JPEG", {"quality": 90}), ("progressive.jpg", "JPEG", {"progressive": True}),
        ("a.webp", "WEBP", {}), ("lossless.webp", "WEBP", {"lossless": True}), ("a.heic", "HEIF", {}),
        ("a.avif", "AVIF", {}), ("a.gif", "GIF", {}),
    ):  # fmt: skip
        out = io.BytesIO()
        Image.fromarray(picture(64, 48)).save(out, kind, **options)
        made[name] = out.getvalue()
    return made


VIDEOS = {
    "v.mp4": "libx264", "v.mkv": "mpeg4", "v.avi": "mpeg4", "v.mov": "libx264", "v.mpg": "mpeg2video", "v.flv": "flv1",
    "v.webm": "libvpx",
}  # fmt: skip
"""Codec of each container's."""


@functools.cache
def videos() -> dict[str, bytes]:
    """The same for containers; each is written by libav."""
    frames = [picture(64, 48, 60 + i) for i in range(12)]
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: write_video(Path(folder) / name, frames, codec=codec).read_bytes() for name, codec in VIDEOS.items()
        }


def corpus(folder: Path, seed: int = 0) -> Iterator[Path]:
    """Makes the files one by one, each under a name of its own; the same for the same seed."""
    for kind in KINDS:
        if kind.name not in ("no_file", "unreadable"):
            home = folder / kind.name
            home.mkdir()
            yield build(kind.name, home)
    rng = random.Random(seed)
    files = {**whole(), **videos()}
    for name, data in files.items():
        for what, changed in _damaged(data, rng):
            yield _write(folder / f"{what}-{name}", changed)
    for what, data in _joined(files):
        yield _write(folder / what, data)
    yield from _made(folder)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _damaged(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for share in CUTS:
        yield f"cut{share}", data[: max(1, int(len(data) * share))]
    for number in range(3):
        for where, end in (("head", min(256, len(data))), ("any", len(data))):
            flipped = bytearray(data)
            flipped[rng.randrange(end)] ^= 1 << rng.randrange(8)
            yield f"flip-{where}{number}", bytes(flipped)
    for lie in LIES:
        at = rng.randrange(4, min(200, len(data) - 4))
        for order in "<>":
            yield (
                f"lie{lie}{'le' if order == '<' else 'be'}",
                data[:at] + struct.pack(f"{order}I", lie) + data[at + 4 :],
            )
    yield "stretched", data + bytes(1 << 20)


def _joined(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("payload.py", "import os")
    script = b"<html><script>alert(1)</script></html>"
    for name, data in files.items():
        yield f"zip-behind-{name}", data + archive.getvalue()
        yield f"html-behind-{name}", data + script
        yield f"html-before-{name}", script + data
        yield f"twice-{name}", data + data
    names = sorted(files)
    for first, second in itertools.pairwise(names):
        yield f"spliced-{first}-{second}", files[first][:64] + files[second][64:]


def _made(folder: Path) -> Iterator[Path]:
    yield _switched(folder / "switched.mkv")
    yield crowded(folder / "crowded.png")
    yield thousand_faces(folder / "thousand-faces.mp4")
    shots = [picture(64, 48, (37 * i) % 200) for i in range(1000)]
    yield write_video(folder / "thousand-shots.mp4", shots, gop=1)
    yield write_video(folder / "ten-hours.mkv", [picture(64, 48)] * 2, codec="mpeg4", times=[0.0, 36000.0])
    for name, odd in (("nan", float("nan")), ("infinite", float("inf")), ("negative", -1e300)):
        path = write_video(folder / f"{name}.mkv", [picture(64, 48)] * 4, codec="mpeg4")
        data = path.read_bytes()
        at = data.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a float64
        yield _write(path, data[:at] + struct.pack(">d", odd) + data[at + 8 :])
    for suffix in ("mp4", "mkv", "avi", "mov"):
        path = folder / f"no-pictures.{suffix}"
        with av.open(str(path), "w") as out:  # a stream that is announced and has nothing in it
            track = out.add_stream("mpeg4", rate=30)
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            out.start_encoding()
        yield path


def _switched(path: Path) -> Path:
    """H.264 whose pictures grow midway: two streams of packets under one header."""
    with av.open(str(path), "w") as out:
        track = out.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        shown = 0
        for width, height in ((64, 48), (1280, 720), (66, 50)):
            coder = av.CodecContext.create("libx264", "w")
            coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
            coder.time_base, coder.options = Fraction(1, 30), {"preset": "ultrafast", "tune": "zerolatency"}
            for _ in range(4):
                frame = av.VideoFrame.from_ndarray(picture(width, height), format="rgb24")
                for packet in coder.encode(frame):
                    packet.stream, packet.time_base = track, Fraction(1, 30)
                    packet.pts = packet.dts = shown
                    out.mux(packet)
                    shown += 1
    return path


def _face(side: int) -> np.ndarray:
    """A portrait that is nearly all face, (side, side, 3)."""
    from skimage import data

    return np.asarray(Image.fromarray(data.astronaut()[40:180, 150:290]).resize((side, side)))


def crowded(path: Path) -> Path:
    """A thousand faces, each about 80 px, in one picture of 4000 x 2500."""
    Image.fromarray(np.tile(_face(100), (25, 40, 1))).save(path)
    return path


def thousand_faces(path: Path) -> Path:
    """Sixty-three shots of three frames, sixteen faces in each that are elsewhere before: a thousand tracks."""
    faces = np.tile(_face(100), (4, 4, 1))
    frames = []
    for shot in range(63):
        image, at = picture(450, 450, 60 + 120 * (shot % 2)), 50 * (shot % 2)
        image[at : at + 400, at : at + 400] = faces
        frames += [image] * 3
    return write_video(path, frames, gop=3)
