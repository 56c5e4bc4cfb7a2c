"""A corpus of bad, odd and hostile input, made on the spot: nothing is stored, everything is small.

    from hostile import KINDS, build
    path = build("text", tmp_path)

KINDS pairs each kind with the `code` of the MediaError that it must give, or None where it must be analysed:

- missing: no_file, directory, fifo, unreadable (mode 000, which root reads all the same: see AS_NOBODY)
- unsupported: empty, text, html, svg, zip, playlist, dash and concat (they point at `secret.txt` beside them),
  noise_bytes, audio_only, wav, gif_animated, webp_animated, apng, odd_codec
- too_large: png_huge (65,535 x 65,535 in the header, no pixels), png_bomb (30,000 x 30,000, valid, 100 kB), webp_huge,
  lying_length (says 10 hours), lying_size (says 320 x 180, is 4096 x 2304), too_fast (1000 frames a second),
  many_streams (20)
- undecodable: no_index (MP4 without moov), noise_mp4 (random bytes behind an MP4 header), broken_stream (index whole,
  all pictures overwritten), elsewhere (a QuickTime movie whose pictures are those of `secret.mov` beside it), png_cut,
  jpeg_cut, webp_cut, heic_cut, png_header_cut
- analysed: truncated (index first, cut in the middle: it promises 60 frames), damaged_middle, lying_short (says 0.1 s,
  lasts 2 s), noise_video (no face), rotated_video (a quarter turn by display matrix), mirrored_video, vfr_video,
  audio_and_video, heic, avif, exif_rotated, cmyk, grey16, palette_alpha, gif_still
"""

from __future__ import annotations

import io
import os
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

SECRET = "the-secret-of-another-file"
MARK = (220, 30, 40)
"""Colour (RGB) of the upper left quarter of `picture`, by which a test sees what is up."""


class Kind(NamedTuple):
    name: str
    code: str | None


def picture(width: int = 320, height: int = 240, shade: int = 90) -> np.ndarray:
    """(H, W, 3) uint8 RGB: grey of value `shade`, upper left quarter MARK."""
    image = np.full((height, width, 3), shade, np.uint8)
    image[: height // 2, : width // 2] = MARK
    return image


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    fps: int = 30,
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    rotate: int = 0,
    mirror: bool = False,
    gop: int = 12,
    faststart: bool = False,
    streams: int = 1,
    sound: bool = False,
) -> Path:
    """Encodes RGB `frames`, at `times` in seconds if given. `rotate`: turn of the display matrix, counter-clockwise."""
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as out:
        tracks = []
        for _ in range(streams):
            track = out.add_stream(codec, rate=fps, options={"preset": "ultrafast"} if codec == "libx264" else {})
            track.height, track.width = frames[0].shape[:2]
            track.pix_fmt = "yuv420p"
            track.gop_size = gop
            track.codec_context.time_base = Fraction(1, 1000 if times else fps)
            if rotate or mirror:
                track.set_display_rotation(rotate, hflip=mirror)
            tracks.append(track)
        if sound:
            _mux_tone(out, len(frames) / fps)
        for track in tracks:
            for i, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = round(times[i] * 1000) if times else i
                frame.time_base = track.codec_context.time_base
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return path


def _mux_tone(out: av.container.OutputContainer, seconds: float) -> None:
    track = out.add_stream("aac", rate=44100, layout="mono")
    tone = np.sin(np.arange(int(44100 * seconds)) * 0.05).astype(np.float32)
    for start in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, start
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def _shades(count: int) -> list[np.ndarray]:
    return [picture(shade=60 + i * 2) for i in range(count)]


def boxes(data: bytes | bytearray, start: int = 0, end: int | None = None) -> dict[bytes, tuple[int, int]]:
    """Name to (start, end) of the MP4 boxes at one level."""
    found, end = {}, len(data) if end is None else end
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8:
            break
        found[bytes(data[start + 4 : start + 8])] = (start, start + size)
        start += size
    return found


def _inner(data: bytes | bytearray, *path: bytes) -> tuple[int, int]:
    start, end = 0, len(data)
    for name in path:
        start, end = boxes(data, start, end)[name]
        start += 8
    return start, end


def _png(width: int, height: int, pixels: bytes = b"", colour: int = 2, depth: int = 8) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + (chunk(b"IDAT", pixels) + chunk(b"IEND", b"") if pixels else b"")


def _encoded(format: str, image: np.ndarray | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.fromarray(picture() if image is None else image).save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _noise(height: int = 240, width: int = 320, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _animated(format: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pages = [Image.fromarray(image) for image in [picture(shade=40 * i) for i in range(5)]]
        pages[0].save(path, format, save_all=True, append_images=pages[1:], duration=100)

    return make


def _cut(format: str, share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = _encoded(format, _noise())
        path.write_bytes(data[: int(len(data) * share)])

    return make


def _video(**options: object) -> Callable[[Path], object]:
    return lambda path: write_video(path, _shades(30), **options)  # type: ignore[arg-type]


def _patched(change: Callable[[bytearray], None], **options: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_video(path, _shades(60), faststart=True, **options)  # type: ignore[arg-type]
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return make


def _cut_middle(data: bytearray) -> None:
    start, end = boxes(data)[b"mdat"]
    del data[(start + end) // 2 :]


def _drop_index(data: bytearray) -> None:
    start, end = boxes(data)[b"moov"]
    del data[start:end]


def _claim_ten_hours(data: bytearray) -> None:
    for path in ((b"moov", b"mvhd"), (b"moov", b"trak", b"mdia", b"mdhd")):
        start, _ = _inner(data, *path)
        scale = int.from_bytes(data[start + 12 : start + 16], "big")
        data[start + 16 : start + 20] = (scale * 36000).to_bytes(4, "big")
    edits, _ = boxes(data, *_inner(data, b"moov", b"trak"))[b"edts"]
    data[edits + 4 : edits + 8] = b"free"
    # The table of durations must agree, else the demuxer takes its sum.
    start, _ = _inner(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts")
    count = int.from_bytes(data[start + 8 : start + 12], "big")
    data[start + 12 : start + 16] = (scale * 36000 // count).to_bytes(4, "big")


def _lying_short(path: Path) -> None:
    write_video(path, _shades(60), codec="mpeg4")
    data = path.read_bytes()
    duration = data.index(b"\x44\x89\x88") + 3  # Matroska's Segment Info Duration, a float64 in milliseconds
    data = data[:duration] + struct.pack(">d", 100.0) + data[duration + 8 :]
    path.write_bytes(data.replace(b"DURATION", b"DURATIOM"))


def _overwrite(first: float, last: float) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        start, end = boxes(data)[b"mdat"]
        low, high = (start + 8 + int((end - start - 8) * share) for share in (first, last))
        data[low:high] = np.random.default_rng(1).bytes(high - low)

    return change


def alias(path: Path) -> bytes:
    """A data reference of QuickTime to another file: a Macintosh alias record, of which the absolute path counts."""
    name = str(path).encode()
    record = bytes(10) + bytes(1 + 27) + bytes(12) + bytes(1 + 63) + bytes(16) + bytes(4) + bytes(16)
    record += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    return struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record


def _elsewhere(path: Path) -> None:
    """Its sample table holds for the other file; its own pictures are zeros."""
    other = write_video(path.with_name("secret.mov"), _shades(30))
    data = bytearray(other.read_bytes())
    start, end = boxes(data)[b"mdat"]
    data[start + 8 : end] = bytes(end - start - 8)
    levels = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
    entries, _ = _inner(data, *levels)
    entries += 8  # version, flags and their number
    end = entries + int.from_bytes(data[entries : entries + 4], "big")
    made = alias(other)
    for depth in range(len(levels)):
        box = _inner(data, *levels[: depth + 1])[0] - 8
        size = int.from_bytes(data[box : box + 4], "big") + len(made) - (end - entries)
        data[box : box + 4] = size.to_bytes(4, "big")
    data[entries:end] = made
    path.write_bytes(data)


def _lying_size(path: Path) -> None:
    black = np.zeros((2304, 4096, 3), np.uint8)
    write_video(path, [black, black])
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack(">HH", 4096, 2304), struct.pack(">HH", 320, 180)))


def _audio_only(path: Path) -> None:
    with av.open(str(path), "w") as out:
        _mux_tone(out, 1.0)


def _wav(path: Path) -> None:
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 8000, "NONE", ""))
        out.writeframes(bytes(16000))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("face.png", _encoded("PNG"))


def _playlist(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        secret = path.with_name("secret.txt")
        secret.write_text(SECRET)
        path.write_text(text.format(secret=secret))

    return make


def _unreadable(path: Path) -> None:
    path.write_bytes(_encoded("PNG"))
    path.chmod(0)


def _bytes(data: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data())


def _exif_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: show it turned clockwise
    stored = np.rot90(picture(320, 240))
    return _encoded("JPEG", np.ascontiguousarray(stored), exif=exif, quality=95)


def _grey16() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((240, 320), 0x8000, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def _cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _palette_alpha() -> bytes:
    buffer = io.BytesIO()
    page = Image.fromarray(picture()).quantize(8)
    page.save(buffer, "PNG", transparency=page.getpixel((319, 239)))
    return buffer.getvalue()


def _webp_huge() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\x00" * 2 + bytes(200)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _bomb() -> bytes:
    side = 30000
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    return _png(side, side, b"".join(packer.compress(row) for _ in range(side)) + packer.flush(), 0, 1)


_MAKERS: dict[str, tuple[str, str | None, Callable[[Path], object]]] = {
    "no_file": ("gone.mp4", "missing", lambda path: None),
    "directory": ("folder.mp4", "missing", Path.mkdir),
    "fifo": ("pipe.mp4", "missing", os.mkfifo),
    "unreadable": ("locked.png", "missing", _unreadable),
    "empty": ("empty.mp4", "unsupported", Path.touch),
    "text": ("notes.mp4", "unsupported", lambda path: path.write_text("Dear diary, this is no video.\n" * 40)),
    "html": ("page.jpg", "unsupported", lambda path: path.write_text("<!DOCTYPE html><html><body>404</body></html>")),
    "svg": (
        "drawing.png",
        "unsupported",
        lambda path: path.write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>'),
    ),
    "zip": ("faces.mp4", "unsupported", _zip),
    "playlist": (
        "list.mp4",
        "unsupported",
        _playlist("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n"),
    ),
    "dash": (
        "dash.mp4",
        "unsupported",
        _playlist(
            '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation id="1">'
            "<BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ),
    ),
    "concat": ("concat.mp4", "unsupported", _playlist("ffconcat version 1.0\nfile {secret}\n")),
    "noise_bytes": ("noise.bin.mp4", "unsupported", _bytes(lambda: b"\x01" + np.random.default_rng(2).bytes(9999))),
    "audio_only": ("song.mp4", "unsupported", _audio_only),
    "wav": ("song.avi", "unsupported", _wav),
    "gif_animated": ("dance.gif", "unsupported", _animated("GIF")),
    "webp_animated": ("dance.webp", "unsupported", _animated("WEBP")),
    "apng": ("dance.png", "unsupported", _animated("PNG")),
    "odd_codec": ("odd.avi", "unsupported", _video(codec="snow")),
    "png_huge": ("huge.png", "too_large", _bytes(lambda: _png(65535, 65535))),
    "png_bomb": ("bomb.png", "too_large", _bytes(_bomb)),
    "webp_huge": ("huge.webp", "too_large", _bytes(_webp_huge)),
    "lying_length": ("long.mp4", "too_large", _patched(_claim_ten_hours)),
    "lying_size": ("small.mp4", "too_large", _lying_size),
    "too_fast": ("fast.mp4", "too_large", _video(fps=1000)),
    "many_streams": ("streams.mkv", "too_large", _video(streams=20, codec="mpeg4")),
    "no_index": ("no_index.mp4", "undecodable", _patched(_drop_index)),
    "noise_mp4": (
        "noise.mp4",
        "undecodable",
        _bytes(lambda: b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + np.random.default_rng(3).bytes(99999)),
    ),
    "broken_stream": ("broken.mp4", "undecodable", _patched(_overwrite(0, 1))),
    "elsewhere": ("elsewhere.mov", "undecodable", _elsewhere),
    "png_cut": ("cut.png", "undecodable", _cut("PNG", 0.5)),
    "jpeg_cut": ("cut.jpg", "undecodable", _cut("JPEG", 0.5)),
    "webp_cut": ("cut.webp", "undecodable", _cut("WEBP", 0.5)),
    "heic_cut": ("cut.heic", "undecodable", _cut("HEIF", 0.5)),
    "png_header_cut": ("stub.png", "undecodable", _bytes(lambda: _encoded("PNG")[:20])),
    "truncated": ("truncated.mp4", None, _patched(_cut_middle)),
    "damaged_middle": ("damaged.mp4", None, _patched(_overwrite(0.45, 0.55))),
    "lying_short": ("short.mkv", None, _lying_short),
    "noise_video": ("noise_video.mp4", None, lambda path: write_video(path, [_noise(seed=i) for i in range(20)])),
    "rotated_video": ("rotated.mp4", None, _video(rotate=90)),
    "mirrored_video": ("mirrored.mp4", None, _video(mirror=True)),
    "vfr_video": (
        "vfr.mp4",
        None,
        lambda path: write_video(path, _shades(6), times=[0.0, 0.04, 0.5, 0.54, 2.0, 2.1]),
    ),
    "audio_and_video": ("talk.mp4", None, _video(sound=True)),
    "heic": ("photo.heic", None, _bytes(lambda: _encoded("HEIF", quality=95))),
    "avif": ("photo.avif", None, _bytes(lambda: _encoded("AVIF", quality=95))),
    "exif_rotated": ("turned.jpg", None, _bytes(_exif_rotated)),
    "cmyk": ("cmyk.jpg", None, _bytes(_cmyk)),
    "grey16": ("grey16.png", None, _bytes(_grey16)),
    "palette_alpha": ("palette.png", None, _bytes(_palette_alpha)),
    "gif_still": ("still.gif", None, _bytes(lambda: _encoded("GIF"))),
}

KINDS: tuple[Kind, ...] = tuple(Kind(name, code) for name, (_, code, _) in _MAKERS.items())


def build(kind: str, folder: Path) -> Path:
    """Makes one kind in `folder` and returns its path (which does not exist for `no_file`)."""
    name, _, make = _MAKERS[kind]
    path = folder / name
    make(path)
    return path


AS_NOBODY = "import os\nif os.geteuid() == 0: os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
"""Python source that gives up root's right to read everything; import what is needed before it."""
