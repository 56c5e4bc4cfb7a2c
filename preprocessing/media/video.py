"""Frames of one video, upright RGB, in presentation order; runs in the decoding process only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import av
import av.audio.stream
import av.sidedata.encparams
import av.sidedata.motionvectors
import av.subtitles.stream  # these four, which PyAV imports when it meets one: later is too late
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Discard, Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from preprocessing.errors import MediaError, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from preprocessing.media.formats import CODECS, READS
from preprocessing.media.metadata import container_facts
from preprocessing.media.sandbox import Descriptor


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError("a media file may not open another one")


class VideoSource:
    """A video whose header is within the limits and whose first frame decodes.

    Colours are converted by libswscale as OpenCV's VideoCapture does (bicubic, no accurate rounding), so that
    landmarks and scores published for frames read by OpenCV are met exactly.
    """

    def __init__(self, fd: int, decoder: str, limits: dict[str, Any], threads: int) -> None:
        self.warnings: list[str] = []
        self._limits = limits
        self._damaged = 0
        self._reformatter = VideoReformatter()
        # Twice the limit: the coded size is padded, and the exact check follows on every frame.
        pixels = str(2 * limits["max_frame_pixels"])
        options = {"protocol_whitelist": "none", "codec_whitelist": ",".join(sorted(CODECS)), "max_pixels": pixels}
        try:
            self._container = av.open(
                Descriptor(fd),
                format=decoder,
                options=options,
                io_open=_refuse,
                metadata_errors="replace",
                buffer_size=1 << 17,
            )
        except MemoryError:
            raise
        except (av.FFmpegError, PermissionError) as error:
            hint = (
                "its index is missing: the recording or the copy was cut off"
                if decoder == "mov"
                else "it may be cut off"
            )
            raise UndecodableMedia("the header of this video is damaged", hint) from error
        self._stream = self._pick_stream()
        self._stream.codec_context.options = {"max_pixels": pixels}
        self._stream.thread_type = "AUTO" if threads > 1 else "NONE"
        self._stream.codec_context.thread_count = threads
        self.header = self._read_header()
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise UndecodableMedia(
                "no picture could be decoded", "the file may be cut off or damaged; get a fresh copy"
            )
        self._size = (self._first.width, self._first.height)
        self._turn = _orientation(self._first)
        self.shape = self._turn(np.empty((self._first.height, self._first.width, 3), np.uint8)).shape
        self.header |= {"width": self.shape[1], "height": self.shape[0]}

    def _pick_stream(self) -> Any:
        streams = self._container.streams
        if len(streams) > self._limits["max_streams"]:
            raise MediaTooLarge(
                f"{len(streams)} streams; the limit is {self._limits['max_streams']}", "raise max_streams"
            )
        videos = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
        if not videos:
            what = "only sound" if streams.audio else "no picture"
            raise UnsupportedMedia(f"this file holds {what}", READS)
        known = [s for s in videos if s.codec_context is not None and s.codec_context.codec.name in CODECS]
        if not known:
            names = {s.codec_context.name if s.codec_context else "unknown" for s in videos}
            raise UnsupportedMedia(f"video coded as {', '.join(sorted(names))}", "convert it to H.264 (MP4)")
        for stream in streams:
            if stream is not known[0]:
                stream.discard = Discard.all
        return known[0]

    def _read_header(self) -> dict[str, Any]:
        stream, limits = self._stream, self._limits
        width, height = stream.codec_context.width, stream.codec_context.height
        self._check_size(width, height)
        fps = float(stream.average_rate or stream.guessed_rate or 0) or None
        if fps and fps > limits["max_fps"]:
            raise MediaTooLarge(f"{fps:.6g} frames a second; the limit is {limits['max_fps']:g}", "raise max_fps")
        duration = None
        if stream.duration:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration:
            duration = self._container.duration / av.time_base
        if duration is not None and duration > limits["max_duration_s"]:
            raise _too_long(duration, limits)
        return {
            "kind": "video",
            "container": self._container.format.name,
            "codec": stream.codec_context.codec.canonical_name,
            "width": width,
            "height": height,
            "fps": fps,
            "duration_s": duration if duration and duration > 0 else None,
            "frames": stream.frames or None,
            "metadata": container_facts({**stream.metadata, **self._container.metadata}),
        }

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limits["max_frame_pixels"]:
            raise MediaTooLarge(
                f"{width} x {height} pixels a frame; the limit is {self._limits['max_frame_pixels'] / 1e6:.3g} million",
                "make the video smaller, or raise max_frame_pixels",
            )

    def _decode(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except MemoryError:
                raise
            except av.FFmpegError:  # the container breaks off: what the decoder still holds is good
                self._damaged += 1
                packet = None
            try:
                yield from self._stream.codec_context.decode(packet) if packet is None else packet.decode()
            except MemoryError:
                raise
            except EOFError:
                return
            except av.FFmpegError:
                self._damaged += 1
            if packet is None:
                return

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yields (time in seconds from the first frame, RGB array (H, W, 3) uint8 valid until the next).

        Raises MediaTooLarge where the stream goes over a limit that its header kept.
        """
        step = 1 / (self.header["fps"] or 25.0)
        base = self._stream.time_base
        start: int | None = None
        time, count, corrupt, resized = -step, 0, 0, 0
        frame = self._first
        self._first = None
        while frame is not None:
            previous, time = time, time + step
            if frame.pts is not None:
                start = frame.pts if start is None else start
                stamp = float((frame.pts - start) * base)
                # A stamp that does not advance is a fault of the file, a frame is never shown before the one before.
                time = stamp if stamp > previous else time
            self._enforce(frame, time, count)
            corrupt += frame.is_corrupt
            resized += (frame.width, frame.height) != self._size
            yield time, self._pixels(frame)
            count += 1
            end = time + max(step, float((frame.duration or 0) * base))
            frame = next(self._decoded, None)
        self._report(count, end, corrupt, resized)

    def _enforce(self, frame: Any, time: float, count: int) -> None:
        self._check_size(frame.width, frame.height)
        if time > self._limits["max_duration_s"]:
            raise _too_long(time, self._limits)
        if count > self._limits["max_fps"] * (time + 1):
            raise MediaTooLarge(f"more than {self._limits['max_fps']:g} frames a second, the limit", "raise max_fps")

    def _pixels(self, frame: Any) -> NDArray[np.uint8]:
        width, height = self._size
        try:
            rgb = self._reformatter.reformat(
                frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
            )
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            raise UndecodableMedia(f"pixels of format {frame.format.name} cannot be converted to RGB") from error
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        return self._turn(rows.reshape(height, width, 3))

    def _report(self, count: int, end: float, corrupt: int, resized: int) -> None:
        promised, duration = self.header["frames"], self.header["duration_s"]
        if promised is None and duration is not None and self.header["fps"]:
            promised = round(duration * self.header["fps"])
        # Sound may outlast the picture and edit lists hide frames: only a clear gap in both is worth a warning.
        if promised and count < 0.95 * promised - 1 and (duration is None or end < 0.95 * duration - 0.1):
            self.warnings.append(f"the file ends early: {count} of about {promised} frames could be decoded")
        for number, what in (
            (self._damaged, "damaged piece(s) of the stream skipped"),
            (corrupt, "frame(s) damaged in part"),
            (resized, "frame(s) of another size, scaled to that of the first"),
        ):
            if number:
                self.warnings.append(f"{number} {what}")


def _too_long(seconds: float, limits: dict[str, Any]) -> MediaError:
    return MediaTooLarge(
        f"the video lasts {seconds:.0f} s; the limit is {limits['max_duration_s']:g} s",
        "cut it, or raise max_duration_s",
    )


def _orientation(frame: Any) -> Any:
    """The function (H, W, 3) -> upright view, from the display matrix (nearest quarter turn, mirrored or not).

    x' = a x + c y, y' = b x + d y (ISO 14496-12, 8.3.2; libavutil/display.h).
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None or len(bytes(data)) < 36:
        return lambda image: image
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    swap = abs(a) + abs(d) < abs(b) + abs(c)
    mirror_x = (c if swap else a) < 0
    mirror_y = (b if swap else d) < 0
    rows, columns = slice(None, None, -1 if mirror_y else 1), slice(None, None, -1 if mirror_x else 1)
    if swap:
        return lambda image: image.transpose(1, 0, 2)[rows, columns]
    return lambda image: image[rows, columns]
