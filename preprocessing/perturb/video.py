"""Video compression: a real encoder and a real decoder, in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain

import av
import cv2

from preprocessing.types import Image


def recompress(pictures: Iterable[Image], crf: int, fps: float = 25.0, preset: str = "medium") -> Iterator[Image]:
    """The pictures (H, W, 3) through libx264 at a constant rate factor, 4:2:0, and back; as many, of the same size.

    Odd sides grow by a repeated row or column for the encoder and are cut again. Encoded whole before the first is
    decoded: what is held is the compressed stream. Equal input gives equal bytes: one thread, and no macroblock tree,
    whose costs libx264 reads from memory that it never wrote (pictures of 144 x 144 differ with what lay there).

    Raises:
        ValueError: pictures of different sizes, or none.
    """
    pictures = iter(pictures)
    first = next(pictures, None)
    if first is None:
        raise ValueError("there is no picture to compress")
    height, width = first.shape[:2]
    held = io.BytesIO()
    count = 0
    with av.open(held, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1001)
        options = {"crf": str(crf), "preset": preset, "threads": "1", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for image in chain([first], pictures):
            if image.shape != first.shape:
                raise ValueError("the pictures of a clip must be of one size to be compressed")
            even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            frame = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", threads=1)
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode())
    held.seek(0)
    decoded = 0
    with av.open(held) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            decoded += 1
            # Threads of its own, which is the default, cost more than one picture's conversion.
            yield frame.reformat(format="rgb24", threads=1).to_ndarray()[:height, :width].copy()
    if decoded != count:
        raise RuntimeError(f"{count} pictures were encoded and {decoded} decoded")
