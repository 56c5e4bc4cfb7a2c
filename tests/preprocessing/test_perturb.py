"""Perturbations: each level does what its name says, to pictures and clips alike, and the same again for a seed."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from preprocessing.perturb import PerturbationError, describe, levels, names, perturb, perturb_stream, suite, suites
from preprocessing.perturb import pictures as on

EVERY = [(name, level) for name in names() for level in levels(name) if name != "small"]
"""`small` changes sizes, and nothing of small pictures."""
SERVICES = ("microblog", "feed", "messenger", "reposted")


def picture(height: int = 96, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    """Texture at every scale in colour, as in a photograph."""
    rng = np.random.default_rng(seed)
    parts = [cv2.resize(rng.normal(size=(3 * 2**k, 3 * 2**k, 3)) / 1.6**k, (width, height)) for k in range(6)]
    return np.clip(128 + 45 * np.sum(parts, axis=0), 0, 255).astype(np.uint8)


def clip(count: int = 4) -> NDArray[np.uint8]:
    """The picture moving to the right."""
    return np.stack([np.roll(picture(), 2 * index, axis=1) for index in range(count)])


def change(name: str, level: int, image: NDArray[np.uint8]) -> float:
    """Mean change in levels."""
    changed = perturb(name, level, image, np.random.default_rng(5))
    return float(np.abs(changed.astype(int) - image).mean())


@pytest.mark.parametrize(("name", "level"), EVERY)
def test_every_level_changes_a_picture_and_a_clip_and_repeats_bit_for_bit(name: str, level: int) -> None:
    for media in (picture(), clip()):
        before = media.copy()
        first = perturb(name, level, media, np.random.default_rng(3))
        assert first.shape == media.shape and first.dtype == np.uint8
        assert (media == before).all(), "the input was written to"
        assert (first != media).any(), "nothing changed"
        assert (first == perturb(name, level, media, np.random.default_rng(3))).all()


@pytest.mark.parametrize("name", [n for n in names() if len(levels(n)) > 1 and n != "small"])
def test_a_higher_level_changes_more(name: str) -> None:
    image = picture(256, 256)
    grown = [change(name, level, image) for level in levels(name)]
    assert all(low < high for low, high in itertools.pairwise(grown)), grown


@given(st.integers(16, 70), st.integers(16, 70), st.sampled_from(EVERY))
@settings(max_examples=60, deadline=None)
def test_any_size_is_kept_odd_sides_too(height: int, width: int, step: tuple[str, int]) -> None:
    image = picture(height, width)
    assert perturb(*step, image, np.random.default_rng(0)).shape == image.shape


def test_services_limit_the_longer_side_and_enlarge_nothing() -> None:
    large = picture(900, 1300)
    sides = {name: max(perturb(name, 1, large, np.random.default_rng(0)).shape) for name in SERVICES}
    assert sides == {"microblog": 1300, "feed": 1080, "messenger": 1300, "reposted": 800}
    video = np.stack([large, large])
    assert max(perturb("reposted", 1, video, np.random.default_rng(0)).shape[1:]) == 480


def test_small_pictures_are_made_smaller_and_never_larger() -> None:
    wide = picture(300, 400)
    sizes = [perturb("small", level, wide, np.random.default_rng(0)).shape for level in levels("small")]
    assert sizes == [(300, 400, 3), (168, 224, 3), (126, 168, 3)]


def test_random_perturbations_draw_anew_in_each_frame_and_follow_the_seed() -> None:
    still = np.repeat(picture()[None], 2, axis=0)
    for name in ("noise", "df_noise", "df_blocks"):
        first, second = perturb(name, 1, still, np.random.default_rng(1))
        assert (first != second).any(), name
        assert (perturb(name, 1, still, np.random.default_rng(2))[0] != first).any(), name


def test_video_compression_gives_equal_bytes_whatever_lay_in_memory() -> None:
    # The C library fills fresh memory with the value it is told; libx264's macroblock tree differed at this size.
    code = (
        "import hashlib, numpy as np; from tests.preprocessing.test_perturb import picture; "
        "from preprocessing.perturb.video import recompress; "
        "clip = [np.roll(picture(144, 144), 2 * shift, axis=1) for shift in range(6)]; "
        "print(hashlib.sha256(np.stack(list(recompress(clip, 32))).tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"MALLOC_PERTURB_": str(fill), "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fill in (1, 128, 255)
    }
    assert len(seen) == 1


def test_a_stream_gives_what_the_clip_gives() -> None:
    frames = clip(5)
    for name in ("jpeg", "h264", "df_noise", "messenger"):
        streamed = np.stack(list(perturb_stream(name, 1, iter(frames), np.random.default_rng(4))))
        assert (streamed == perturb(name, 1, frames, np.random.default_rng(4))).all(), name


def test_video_compression_uses_motion_in_a_clip_and_cannot_in_a_picture() -> None:
    # In a clip the frames are predicted from one another: the same frame decodes differently than on its own.
    frames = clip(6)
    alone = perturb("h264", 2, frames[5], np.random.default_rng(0))
    within = perturb("h264", 2, frames, np.random.default_rng(0))[5]
    assert (alone != within).any()


def test_deeperforensics_has_seven_types_at_five_levels_with_the_published_parameters() -> None:
    steps = suite("deeperforensics")
    assert len(steps) == 35
    types = {"df_saturation", "df_contrast", "df_blocks", "df_noise", "df_blur", "df_jpeg", "df_video"}
    assert {step.name for step in steps} == types
    assert {step.level for step in steps if step.name == "df_blur"} == {1, 2, 3, 4, 5}
    assert describe("df_noise", 5) == "GNC: white noise of variance 0.05 in Y, Cb, Cr"
    assert describe("df_video", 5) == "VC: H.264, CRF 40"


def test_deeperforensics_saturation_keeps_the_brightness_and_ends_in_grey() -> None:
    image = picture()
    grey = on.saturation(image, 0.0)
    assert np.ptp(grey.astype(int), axis=-1).max() == 0
    half = on.saturation(image, 0.5)
    brightness = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(int) for i in (image, half)]
    inside = (half > 0).all(axis=-1) & (half < 255).all(axis=-1)
    assert np.abs(brightness[0] - brightness[1])[inside].max() <= 1


def test_deeperforensics_noise_has_the_published_strength() -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    noise = on.noise_in_components(grey, 0.001, np.random.default_rng(0)).astype(float) - 128
    # sqrt(0.001) of the levels in Y over its studio range, and 1.403 times the same of Cr for red.
    sigma = np.sqrt(0.001) * 255
    expected = sigma * np.hypot(255 / 219, 1.403 * 255 / 224)
    assert noise[..., 0].std() == pytest.approx(expected, rel=0.02)
    assert abs(noise.mean()) < 0.2


def test_deeperforensics_blocks_are_counted_by_the_shorter_side() -> None:
    assert on.block_count((720, 1280, 3), 16) == 32
    assert on.block_count((256, 300, 3), 80) == 80
    assert on.block_count((128, 300, 3), 16) == 4, "below 256 px by the area, where the published rule gives none"
    assert on.block_count((10, 10, 3), 16) == 1


def test_every_step_of_every_suite_exists() -> None:
    for name, steps in suites().items():
        assert steps, name
        assert all(step.level in levels(step.name) for step in steps), name
        assert all(describe(*step) for step in steps)
    assert set(names()) < set(suites())


def test_what_there_is_not_is_said_with_the_nearest_name() -> None:
    rng, image = np.random.default_rng(0), picture()
    with pytest.raises(PerturbationError, match="did you mean 'jpeg'"):
        perturb("jpg", 1, image, rng)
    with pytest.raises(PerturbationError, match="levels 1 to 6, not 7"):
        perturb("jpeg", 7, image, rng)
    with pytest.raises(PerturbationError, match="did you mean 'deeperforensics'"):
        suite("deeper_forensics")
    with pytest.raises(PerturbationError, match=r"\(96, 80\)"):
        perturb("jpeg", 1, image[..., 0], rng)
    with pytest.raises(PerturbationError, match="float64"):
        perturb("jpeg", 1, image.astype(float), rng)  # type: ignore[arg-type]


def test_the_page_names_every_perturbation_and_every_suite() -> None:
    page = (Path(__file__).parents[2] / "docs/perturbations.md").read_text(encoding="utf-8")
    assert [name for name in suites() if f"`{name}`" not in page] == []
