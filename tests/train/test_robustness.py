"""Perturbed files: what is written is what the perturbation made, with the frames' times; and the grid."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_rows import row

from preprocessing.media import open_media
from preprocessing.perturb import Step, names, perturb
from preprocessing.settings import MediaLimits
from train.robustness import grid, perturb_file, steps_of

SAMPLES = Path(__file__).parents[2] / "ui" / "samples"


def frames_of(path: Path) -> tuple[np.ndarray, list[float]]:
    with open_media(path) as media:
        found = [(frame.image, frame.time) for frame in media]
    return np.stack([image for image, _ in found]), [time for _, time in found]


def test_all_means_every_perturbation_as_a_suite() -> None:
    assert list(steps_of(["all"])) == list(names())
    assert steps_of(["quick", "blur"])["quick"] == (
        Step("jpeg", 4), Step("h264", 2), Step("resize", 2), Step("blur", 2), Step("noise", 2)
    )  # fmt: skip


def test_a_picture_is_written_as_it_was_perturbed(tmp_path: Path) -> None:
    source = SAMPLES / "astronaut-real.jpg"
    written = perturb_file(source, Step("jpeg", 6), tmp_path, seed=0, limits=MediaLimits())
    original = frames_of(source)[0][0]
    expected = perturb("jpeg", 6, original, np.random.default_rng(0))
    assert np.array_equal(cv2.cvtColor(cv2.imread(str(written)), cv2.COLOR_BGR2RGB), expected)


def test_a_video_keeps_its_pixels_and_times(tmp_path: Path) -> None:
    source = SAMPLES / "astronaut-clip.mp4"
    pictures, times = frames_of(source)
    written = perturb_file(source, Step("contrast_down", 3), tmp_path, seed=0, limits=MediaLimits())
    found, found_times = frames_of(written)
    expected = perturb("contrast_down", 3, pictures, np.random.default_rng(0))
    assert found_times == pytest.approx(times, abs=1e-4)
    # The reader's conversion from planar RGB may round; a lossy coder would be levels off.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_noise_is_drawn_from_the_content_and_the_seed(tmp_path: Path) -> None:
    copy = tmp_path / "copy.jpg"
    copy.write_bytes((SAMPLES / "astronaut-real.jpg").read_bytes())

    def noisy(source: Path, seed: int) -> bytes:
        return perturb_file(source, Step("noise", 1), tmp_path, seed=seed, limits=MediaLimits()).read_bytes()

    first = noisy(SAMPLES / "astronaut-real.jpg", 0)
    assert first == noisy(copy, 0) != noisy(copy, 1)


def test_the_grid_has_figures_coverage_and_the_paired_change() -> None:
    clean = [row(i % 2, 0.3 + 0.4 * (i % 2) + i / 1000, name=str(i)) for i in range(20)]
    step = Step("blur", 1)
    worse = [row(i % 2, 0.4 + i / 100, name=str(i)) for i in range(18)] + [
        row(0, None, "no_face", name="18"), row(1, None, "no_face", name="19")
    ]  # fmt: skip
    found = grid({"blur": (step, Step("blur", 2))}, {step: worse, Step("blur", 2): []}, clean, ["a"], 0.5)
    assert list(found["blur"]) == ["blur-1"], "a step that was not begun is left out"
    cell = found["blur"]["blur-1"]
    assert cell["coverage"]["value"] == 0.9 and cell["overall"]["accuracy"]["n"] == 18
    change = cell["change"]["fused"]
    assert change["n"] == 18 and change["difference"] == pytest.approx(cell["overall"]["auc"]["value"] - 1.0, abs=1e-5)
    assert change["high"] < 0 and cell["change"]["a"] == change
