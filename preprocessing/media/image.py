"""One still image to upright RGB; runs in the decoding process only."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import itertools
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.errors import MediaError, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from preprocessing.media.metadata import exif_facts
from preprocessing.media.sandbox import Descriptor

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "PIL.MpoImagePlugin"),
    "PNG": ("PIL.PngImagePlugin",),
    "WEBP": ("PIL.WebPImagePlugin",),
    "GIF": ("PIL.GifImagePlugin",),
    "AVIF": ("PIL.AvifImagePlugin",),
    "HEIF": (),
}
_SHARED = ("copy", "PIL.TiffImagePlugin", "PIL.ImageColor")
"""What Pillow imports while it reads: EXIF is TIFF, GIF copies its palette."""
_ORIENTATION = 0x0112
_Move = Image.Transpose
_UPRIGHT = {
    2: _Move.FLIP_LEFT_RIGHT,
    3: _Move.ROTATE_180,
    4: _Move.FLIP_TOP_BOTTOM,
    5: _Move.TRANSPOSE,
    6: _Move.ROTATE_270,
    7: _Move.TRANSVERSE,
    8: _Move.ROTATE_90,
}
"""EXIF orientation (CIPA DC-008, 4.6.4 A) to the move that undoes it."""


def preload_plugins() -> None:
    """For the nursery: its children have nothing left to import, which takes longer than to be forked."""
    for name in (*_SHARED, *itertools.chain.from_iterable(_PLUGINS.values())):
        with contextlib.suppress(ImportError):  # said when such a file comes
            importlib.import_module(name)


def load_plugins(decoder: str) -> None:
    """Imports what reading `decoder` needs; nothing can be imported later, when the process is confined."""
    for name in (*_SHARED, *_PLUGINS[decoder]):
        importlib.import_module(name)
    if decoder == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
        pillow_heif.options.DECODE_THREADS = 1
    Image._initialized = 2  # else an unknown file makes Pillow import all its plugins


class ImageSource:
    """An image whose header has been read and found within the limits.

    Alpha is composited on black, 16-bit samples keep their high byte, CMYK and palettes are converted; colour profiles
    are not applied.
    """

    def __init__(self, fd: int, decoder: str, limits: dict[str, Any]) -> None:
        # Pillow's own check would answer before ours, with a message that names another limit.
        Image.MAX_IMAGE_PIXELS = None
        self.warnings: list[str] = []
        file = io.BufferedReader(Descriptor(fd))
        if decoder == "WEBP":  # libwebp allocates the canvas while it opens
            self._check_size(*_webp_canvas(file.peek(30)[:30]), limits)
        if decoder == "PNG":  # a header alone is enough to refuse it; Pillow wants the pixels' chunk too
            self._check_size(*_png_size(file.peek(24)), limits)
        try:
            self._image = Image.open(file, formats=[decoder])
            self._check_size(*self._image.size, limits)
            frames = 1 if decoder in ("JPEG", "HEIF") else getattr(self._image, "n_frames", 1)
        except (MediaError, MemoryError):
            raise
        except Exception as error:
            _raise_own_fault(error)
            raise UndecodableMedia(f"the header of this {decoder} image is damaged", _detail(error)) from error
        if frames > 1:
            raise UnsupportedMedia(
                f"an animated {decoder} of {frames} frames",
                "convert it to a video (MP4), or give one frame as an image",
            )
        width, height = self._image.size
        facts: dict[str, str] = {}
        try:
            exif = self._image.getexif()
            self._move = _UPRIGHT.get(exif.get(_ORIENTATION, 1))
            facts = exif_facts(exif)
        except Exception:  # damaged EXIF does not make the picture unreadable
            self._move = None
            self.warnings.append("the EXIF data are damaged: the picture may lie on its side")
        if self._move in (_Move.TRANSPOSE, _Move.ROTATE_270, _Move.TRANSVERSE, _Move.ROTATE_90):
            width, height = height, width
        self.shape = (height, width, 3)
        self.header = {
            "kind": "image",
            "container": decoder.lower(),
            "codec": decoder.lower(),
            "width": width,
            "height": height,
            "fps": None,
            "duration_s": None,
            "frames": None,
            "metadata": facts,
        }

    @staticmethod
    def _check_size(width: int, height: int, limits: dict[str, Any]) -> None:
        if width * height > limits["max_image_pixels"]:
            raise MediaTooLarge(
                f"{width} x {height} pixels; the limit is {limits['max_image_pixels'] / 1e6:g} million",
                "make the image smaller, or raise max_image_pixels",
            )

    def frames(self) -> Any:
        """Yields (time 0, RGB array (H, W, 3) uint8) once. Raises UndecodableMedia."""
        try:
            self._image.load()
            upright = _rgb(self._image)
            del self._image
            if self._move is not None:
                upright = upright.transpose(self._move)
            if self.shape[:2] != (upright.height, upright.width):
                raise UndecodableMedia("the size of the picture is not what its header says")
            pixels: NDArray[np.uint8] = np.asarray(upright)
        except (MediaError, MemoryError):
            raise
        except Exception as error:
            _raise_own_fault(error)
            raise UndecodableMedia("the image is damaged or cut off", _detail(error)) from error
        yield 0.0, pixels


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16 bits at 255
        return Image.fromarray((np.asarray(image).astype(np.int32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(image, mask=image.getchannel("A"))
        return black
    return image if image.mode == "RGB" else image.convert("RGB")


def _png_size(head: bytes) -> tuple[int, int]:
    """Width and height from a PNG header (ISO 15948, 11.2.2), 0 where it is cut off."""
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _webp_canvas(head: bytes) -> tuple[int, int]:
    """Width and height from a WebP header (RFC 9649, sections 2.4 to 2.7)."""
    if len(head) < 30:
        raise UndecodableMedia("the header of this WebP image is cut off")
    chunk = head[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _raise_own_fault(error: Exception) -> None:
    # An import that came too late, after confinement, is our fault, not the file's.
    if isinstance(error, ImportError) or getattr(error, "errno", None) == errno.EMFILE:
        raise error


def _detail(error: Exception) -> str:
    text = " ".join(str(error).split())
    # Pillow names the file object, which means nothing to a reader.
    return "" if "<" in text else text[:200]
