"""Quality measures: 0 for a face as good as it gets, 1 for a poor one, and nothing made up where nothing is known."""

import pytest

from detectors.quality import MEASURES, measure, vector
from detectors.result import FaceResult

HD = 1920 * 1080 * 250


def face(side: float = 300, frames: int = 250, quality: tuple[str, ...] = ()) -> FaceResult:
    box = (0.0, 0.0, side * 0.8, side)
    return FaceResult(
        track=0, times=(0, 10), frames=frames, box=box, boxes=[box], box_times=[0.0], quality=list(quality)
    )


def test_a_large_sharp_long_track_of_a_good_file_has_no_fault() -> None:
    assert measure(face(), "video", HD, HD) == dict.fromkeys(MEASURES, 0.0)


@pytest.mark.parametrize(
    ("name", "poor"),
    [
        ("small", measure(face(side=40), "video", HD, HD)),
        ("blurred", measure(face(quality=("blurred",)), "video", HD, HD)),
        ("compressed", measure(face(), "video", HD, HD // 1000)),
        ("turned", measure(face(quality=("profile",)), "video", HD, HD)),
        ("short", measure(face(frames=3), "video", HD, HD)),
    ],
)
def test_each_fault_is_one_measure(name: str, poor: dict[str, float]) -> None:
    assert poor == {**dict.fromkeys(MEASURES, 0.0), name: 1.0}


def test_between_good_and_poor_a_measure_rises() -> None:
    sizes = [measure(face(side=side), "video", HD, HD)["small"] for side in (160, 113.1, 80, 56.6, 40)]
    assert sizes == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-3)


def test_a_still_is_the_shortest_track_and_its_bits_are_judged_as_a_stills() -> None:
    still = measure(face(frames=1), "image", 1000 * 1000, 1000 * 1000 // 8)
    assert still["short"] == 1 and 0 < still["compressed"] < 1


def test_what_is_not_known_counts_as_good() -> None:
    empty = FaceResult(track=0, times=(0, 1), frames=100, box=(0, 0, 0, 0), boxes=[], box_times=[])
    assert measure(empty, "landmarks", 0, 1000) == dict.fromkeys(MEASURES, 0.0)
    assert vector({"short": 0.5}) == [0, 0, 0, 0, 0.5]
