"""A person's landmarks in motion, as the page draws them."""

import re
from xml.etree import ElementTree

import numpy as np

from detectors.landmark_track import LandmarkTrack
from ui.landmark_plot import PATH, motion_svg, paths_svg, typical_motion


def track(frames: list[int]) -> LandmarkTrack:
    """Found with a jitter of 4 pixels, still after calibration."""
    count = len(frames)
    face = np.random.default_rng(1).integers(100, 300, (68, 2))
    still = np.repeat(face[None], count, 0).astype(np.int16)
    found = still + np.where(np.arange(count) % 2, 4, 0)[:, None, None].astype(np.int16)
    return LandmarkTrack(np.array(frames, np.int32), np.array(frames, np.float32) / 25, found, still)


def test_the_moment_is_shown_before_and_after_with_its_paths() -> None:
    before, after = ElementTree.fromstring(paths_svg(track(list(range(60))), 30, "68 landmarks")).findall(".//svg")
    assert len(before.findall(".//circle")) == len(after.findall(".//circle")) == 68
    paths = [one.find("path").get("d").split("M")[1:] for one in (before, after)]
    assert [len(one) for one in paths] == [68, 68], "a path for each landmark"
    assert all(path.count("L") == 2 * PATH for one in paths for path in one)
    assert len(set(paths[1][0].split("L"))) == 1 < len(set(paths[0][0].split("L"))), "still after calibration"
    assert before.get("viewBox") == after.get("viewBox"), "at the same scale"


def test_no_path_and_no_motion_crosses_a_gap() -> None:
    gap = track([0, 1, 2, 9, 10])
    svg = ElementTree.fromstring(paths_svg(gap, 2, "")).find(".//svg")
    assert [one.count("L") for one in svg.find("path").get("d").split("M")[1:3]] == [2, 1]
    lines = re.findall(r'class="um-time-line" [^>]* d="([^"]*)"', motion_svg(gap, 2, "").split("um-time-plot")[1])
    assert [line.count("M") for line in lines] == [2, 2]


def test_a_track_of_gaps_alone_has_an_empty_figure() -> None:
    assert 'aria-label="none"' in motion_svg(track([0, 5, 10]), 1, "none")


def test_the_typical_motion_tells_jitter_from_stillness() -> None:
    raw, calibrated = typical_motion(track(list(range(10))))
    assert raw == np.float32(np.hypot(4, 4)) and calibrated == 0
