"""What a file is by its first bytes, never by its name: the decoder to use is chosen here, none is guessed by libav."""

from __future__ import annotations

from typing import Literal, NamedTuple

from preprocessing.errors import UnsupportedMedia

HEAD_BYTES = 4096
READS = "unmask reads JPEG, PNG, WebP, HEIC, AVIF and common videos (MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, OGV)"

SUFFIXES = frozenset(
    """
    .jpg .jpeg .png .webp .heic .heif .avif .gif
    .mp4 .m4v .mov .3gp .mkv .webm .avi .mpg .mpeg .m2ts .mts .flv .wmv .ogv
    """.split()  # noqa: SIM905
)
"""What is taken from a folder, in lower case; a file that is named itself is read whatever it is called."""

CODECS = frozenset(
    """
    av1 libdav1d cinepak dnxhd dvvideo ffv1 flv flv1 h261 h263 h263p h264 hevc huffyuv ffvhuff libvpx libvpx-vp9 mjpeg
    mpeg1video mpeg2video mpeg4 msmpeg4 msmpeg4v1 msmpeg4v2 msmpeg4v3 png prores rawvideo svq1 svq3 theora utvideo vc1
    vp6 vp6a vp6f vp8 vp9 vvc wmv1 wmv2 wmv3
    """.split()  # noqa: SIM905
)
"""libav holds hundreds of decoders, many for games of the nineties; these are what cameras, phones and sites write."""


class Format(NamedTuple):
    """`decoder` is a Pillow format for an image, a libav demuxer for a video."""

    kind: Literal["image", "video"]
    decoder: str


def _isobmff(head: bytes) -> Format:
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12]} | {head[i : i + 4] for i in range(16, min(size, len(head)), 4)}
    major = head[8:12]
    if major in (b"avif", b"avis") or (major in (b"mif1", b"msf1") and brands & {b"avif", b"avis"}):
        return Format("image", "AVIF")
    if major in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
        return Format("image", "HEIF")
    return Format("video", "mov")


def _riff(head: bytes) -> Format:
    if head[8:12] == b"WEBP":
        return Format("image", "WEBP")
    if head[8:11] == b"AVI":
        return Format("video", "avi")
    if head[8:12] == b"WAVE":
        raise UnsupportedMedia("a WAV sound without a picture", READS)
    raise UnsupportedMedia("a RIFF file that is neither WebP nor AVI", READS)


_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", Format("image", "JPEG")),
    (b"\x89PNG\r\n\x1a\n", Format("image", "PNG")),
    (b"GIF87a", Format("image", "GIF")),
    (b"GIF89a", Format("image", "GIF")),
    (b"\x1aE\xdf\xa3", Format("video", "matroska")),
    (b"\x00\x00\x01\xba", Format("video", "mpeg")),
    (b"\x00\x00\x01\xb3", Format("video", "mpegvideo")),
    (b"FLV\x01", Format("video", "flv")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Format("video", "asf")),
    (b"OggS", Format("video", "ogg")),
)

_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (b"%PDF", "a PDF document"),
    (b"ID3", "an MP3 sound without a picture"),
    (b"fLaC", "a FLAC sound without a picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)


def _describe_text(head: bytes) -> str:
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n").lower()
    if text.startswith("#extm3u") or "<mpd" in text:
        return "a playlist that points at other files, which unmask never follows"
    if text.startswith("ffconcat"):
        return "a list of other files, which unmask never follows"
    if "<svg" in text:
        return "an SVG drawing"
    if text.startswith(("<!doctype html", "<html")):
        return "a web page"
    return "a text file"


def sniff(head: bytes) -> Format:
    """The format of a file that starts with `head` (HEAD_BYTES of it, fewer if the file is shorter).

    Raises UnsupportedMedia, naming what the file is where that can be told.
    """
    if not head:
        raise UnsupportedMedia("the file is empty", "check that its copy or upload was complete")
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head.startswith(b"RIFF"):
        return _riff(head)
    if head[4:8] == b"ftyp":
        return _isobmff(head)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return Format("video", "mov")
    for start, step in ((0, 188), (4, 192)):
        if len(head) > start + 2 * step and all(head[start + i * step] == 0x47 for i in range(3)):
            return Format("video", "mpegts")
    for magic, name in _REFUSED:
        if head.startswith(magic):
            raise UnsupportedMedia(name, READS)
    if head[0] == 0xFF and head[1:2] and head[1] & 0xE0 == 0xE0:
        raise UnsupportedMedia("an MP3 or AAC sound without a picture", READS)
    if b"\x00" not in head and sum(c < 9 or 13 < c < 32 for c in head) == 0:
        raise UnsupportedMedia(_describe_text(head), READS)
    raise UnsupportedMedia("neither an image nor a video that unmask knows", READS)
