"""Frames come out upright, in RGB, at their time, the same on every pass, and as OpenCV reads them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile import MARK, build, picture, write_video
from PIL import Image, ImageOps

from preprocessing.media import open_media, probe


def digest(path: Path, **options: int) -> str:
    with open_media(path, **options) as media:
        return hashlib.sha256(b"".join(frame.image.tobytes() for frame in media)).hexdigest()


def only_frame(path: Path) -> np.ndarray:
    with open_media(path) as media:
        (frame,) = media
    assert (frame.index, frame.time, media.info.kind) == (0, 0.0, "image")
    assert frame.image.shape == (media.info.height, media.info.width, 3)
    assert frame.image.dtype == np.uint8
    return frame.image


def marked_corner(image: np.ndarray) -> str:
    """Which corner has the colour MARK."""
    corners = {
        "upper left": image[8, 8],
        "upper right": image[8, -8],
        "lower left": image[-8, 8],
        "lower right": image[-8, -8],
    }
    (name,) = [name for name, pixel in corners.items() if np.abs(pixel.astype(int) - MARK).max() < 25]
    return name


def test_pixels_of_the_published_video_are_those_that_opencv_decoded(shared: Path) -> None:
    golden = json.loads((shared / "golden/lrnet_demo.json").read_text())["calibration_example"]["settings"]
    with open_media(shared / "data/videos/dev/lrnet_demo/fake/000_003.mp4") as media:
        assert media.info.sha256 == golden["video_sha256"]
        seen = hashlib.sha256()
        for frame in media:
            seen.update(np.ascontiguousarray(frame.image[..., ::-1]))
        assert seen.hexdigest() == golden["decoded_bgr_frames_sha256"]
        assert media.warnings == []


@pytest.mark.parametrize("size", [(320, 240), (318, 238), (354, 202)])
def test_subsampled_colours_are_converted_as_opencv_converts_them(tmp_path: Path, size: tuple[int, int]) -> None:
    """4:2:0 leaves room for rounding; widths that are no multiple of 16 have padded rows."""
    yy, xx = np.mgrid[: size[1], : size[0]]
    ramp = np.stack([xx % 256, yy % 256, (xx + yy) % 256], -1).astype(np.uint8)
    path = write_video(tmp_path / "ramp.mp4", [ramp, ramp[::-1].copy()])
    reader = cv2.VideoCapture(str(path))
    with open_media(path) as media:
        for frame in media:
            assert np.array_equal(frame.image[..., ::-1], reader.read()[1])


def test_threads_do_not_change_the_pixels(tmp_path: Path) -> None:
    path = build("noise_video", tmp_path)
    assert digest(path, threads=1) == digest(path, threads=2) == digest(path, threads=4)


def test_a_second_pass_gives_the_same_frames_and_two_passes_may_run_together(tmp_path: Path) -> None:
    with open_media(build("vfr_video", tmp_path)) as media:
        first = list(media)
        for a, b, c in zip(media, media, first, strict=True):
            assert a.index == b.index == c.index
            assert a.time == b.time == c.time
            assert np.array_equal(a.image, c.image)
            assert np.array_equal(b.image, c.image)


def test_times_are_presentation_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    with open_media(build("vfr_video", tmp_path)) as media:
        times = [frame.time for frame in media]
    assert times == pytest.approx([0.0, 0.04, 0.5, 0.54, 2.0, 2.1], abs=1e-3)


def test_frames_are_their_own_arrays(tmp_path: Path) -> None:
    with open_media(build("rotated_video", tmp_path)) as media:
        frames = list(media)
        again = next(iter(media)).image
    assert np.array_equal(frames[0].image, again)
    frames[0].image[:] = 0  # writable, and alone
    assert frames[1].image.any()
    assert [frame.index for frame in frames] == list(range(30))


@pytest.mark.parametrize(("turn", "corner"), [(90, "lower left"), (180, "lower right"), (-90, "upper right")])
def test_a_rotated_video_stands_upright_as_opencv_turns_it(tmp_path: Path, turn: int, corner: str) -> None:
    path = write_video(tmp_path / "turned.mp4", [picture()] * 3, rotate=turn)
    info = probe(path)
    with open_media(path) as media:
        image = next(iter(media)).image
    assert image.shape == (info.height, info.width, 3)
    assert marked_corner(image) == corner
    assert np.array_equal(image[..., ::-1], cv2.VideoCapture(str(path)).read()[1])


def test_a_mirrored_video_is_mirrored_back(tmp_path: Path) -> None:
    with open_media(build("mirrored_video", tmp_path)) as media:
        assert marked_corner(next(iter(media)).image) == "upper right"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8))
    stored.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(only_frame(tmp_path / "turned.png"), expected)
    assert (probe(tmp_path / "turned.png").width == 6) == (orientation > 4)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("heic", 25), ("avif", 25), ("exif_rotated", 25), ("cmyk", 25), ("gif_still", 10)]
)
def test_every_still_format_gives_the_picture(tmp_path: Path, kind: str, tolerance: int) -> None:
    image = only_frame(build(kind, tmp_path)).astype(int)
    assert np.abs(image[20:100, 20:140] - picture()[20:100, 20:140]).max() <= tolerance
    assert np.abs(image[140:220, 180:300] - picture()[140:220, 180:300]).max() <= tolerance


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    assert (only_frame(build("grey16", tmp_path)) == 0x80).all()


def test_alpha_is_composited_on_black(tmp_path: Path) -> None:
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[..., 3] = [[0, 255, 128, 0]] * 4
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    assert only_frame(tmp_path / "alpha.png")[0, :, 0].tolist() == [0, 200, 100, 0]
    palette = only_frame(build("palette_alpha", tmp_path))
    assert palette[-1, -1].tolist() == [0, 0, 0]
    assert np.abs(palette[5, 5].astype(int) - MARK).max() < 10


def test_info_says_what_the_header_says(tmp_path: Path) -> None:
    path = build("audio_and_video", tmp_path)
    info = probe(path)
    assert (info.kind, info.container, info.codec) == ("video", "mov", "h264")
    assert (info.width, info.height, info.frames, info.fps) == (320, 240, 30, 30.0)
    assert info.duration_s == pytest.approx(1.0, abs=0.05)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.size_bytes == path.stat().st_size


def test_a_truncated_video_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    with open_media(build("truncated", tmp_path)) as media:
        frames = list(media)
    assert 10 < len(frames) < 50
    assert media.warnings[0] == f"the file ends early: {len(frames)} of about 60 frames could be decoded"
    assert np.abs(frames[-1].image[10:100, 10:140].astype(int) - MARK).max() < 25


def test_damage_in_the_middle_costs_some_frames_and_a_warning(tmp_path: Path) -> None:
    with open_media(build("damaged_middle", tmp_path)) as media:
        times = [frame.time for frame in media]
    assert 20 < len(times) <= 60
    assert times == sorted(times)
    assert any("damaged" in line for line in media.warnings)


def test_damaged_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(40))
    path = tmp_path / "exif.jpg"
    path.write_bytes(buffer.getvalue())
    assert marked_corner(only_frame(path)) == "upper left"


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.mov", "libx264", "mov"),
        ("a.mkv", "libx265", "matroska"),
        ("a.webm", "libvpx-vp9", "matroska"),
        ("a.avi", "mpeg4", "avi"),
        ("a.ts", "libx264", "mpegts"),
        ("a.m2ts", "mpeg2video", "mpegts"),
        ("a.mpg", "mpeg2video", "mpeg"),
        ("a.flv", "flv", "flv"),
        ("a.wmv", "wmv2", "asf"),
    ],
)
def test_every_common_container_is_known_by_its_content(tmp_path: Path, name: str, codec: str, container: str) -> None:
    path = write_video(tmp_path / name, [picture()] * 12, codec=codec, fps=25).rename(tmp_path / "unnamed")
    with open_media(path) as media:
        frames = list(media)
    assert media.info.container == container
    assert len(frames) == 12
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(12)], abs=2e-3)
    assert marked_corner(frames[-1].image) == "upper left"
    assert media.warnings == []
