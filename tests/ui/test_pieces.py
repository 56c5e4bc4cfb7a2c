"""Wording, HTML pieces and overlays, which need nothing but a result."""

from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from results import detector, face, media, result

from detectors.result import Verdict
from ui import cards, words
from ui.overlay import overlay
from ui.palette import PALETTE


def test_every_verdict_and_every_status_has_words() -> None:
    from detectors.result import DetectorScore
    from preprocessing.types import Quality

    assert set(words.VERDICTS) == set(get_args(Verdict))
    assert set(words.STATUS) == set(get_args(DetectorScore.model_fields["status"].annotation))
    assert set(words.QUALITY) == set(get_args(Quality))


def test_no_verdict_claims_that_media_is_real() -> None:
    for wording in words.VERDICTS.values():
        assert "is real" not in wording.title.lower() and "authentic" not in wording.title.lower()
    assert "no proof" in words.VERDICTS["real"].meaning
    assert "not a finding that the media is real" in words.VERDICTS["no_face"].meaning


@given(st.floats(0, 1))
def test_a_shown_probability_is_never_certain(value: float) -> None:
    assert words.probability(value) not in ("0.00", "1.00")
    assert words.percent(value) not in ("0 %", "100 %")
    assert abs(float(words.probability(value)) - value) <= 0.0101


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00.0"), (3.44, "0:03.4"), (59.97, "1:00.0"), (75.2, "1:15.2")])
def test_a_time_is_minutes_and_seconds(seconds: float, said: str) -> None:
    assert words.clock(seconds) == said


def test_a_name_with_control_characters_and_broken_bytes_is_safe_to_print() -> None:
    shown = words.printable("a\x1b[31mred\n\udcff\u202egpj.exe")
    assert shown.isprintable() and "\x1b" not in shown and "\u202e" not in shown
    shown.encode("utf-8")


def test_the_most_suspicious_face_decides_and_its_detectors_are_shown() -> None:
    calm = face(1, 0.2, detectors={"mesonet": detector(0.3), "lrnet": detector(0.6)})
    loud = face(2, 0.9, detectors={"mesonet": detector(0.8), "lrnet": detector(None, status="failed", reason="x")})
    both = result(faces=[calm, loud])
    assert words.deciding_face(both) is loud
    best = words.detector_scores(both)
    assert (best["mesonet"].score, best["lrnet"].score) == (0.8, 0.6)
    assert words.deciding_face(result("no_face", faces=[])) is None


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_the_card_says_the_verdict_and_escapes_what_the_file_says(verdict: str) -> None:
    evil = "<img src=x onerror=alert(1)>.mp4"
    faces = [] if verdict == "no_face" else None
    made = result(verdict, faces, media=media(name=evil), reasons=[f"about {evil}"])
    page = cards.verdict_card(made) + cards.notices(made) + cards.facts(made) + cards.error_card(evil, evil, evil)
    page += cards.progress_card(evil, "tracking", 0.4)
    assert words.VERDICTS[made.verdict].title in page
    assert "<img" not in page and "&lt;img" in page


def test_progress_marks_the_stage_that_runs() -> None:
    page = cards.progress_card("a.mp4", "detectors", 0.5)
    assert page.count('class="done"') == 2 and page.count('class="now"') == 1 and "width:50%" in page


def _bytes(picture: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind)
    return out.getvalue()


def test_the_overlay_leaves_the_face_alone_where_the_detector_saw_nothing() -> None:
    crop = _bytes(np.full((64, 64, 3), 120, np.uint8), "JPEG")
    heat = np.zeros((32, 32), np.uint8)
    heat[:, 16:] = 255
    drawn = overlay(crop, _bytes(heat, "PNG"), opacity=1.0)
    assert drawn.shape == (64, 64, 3)
    assert np.abs(drawn[:, :24].astype(int) - 120).max() <= 1
    assert np.abs(drawn[:, 40:].astype(int) - (252, 246, 170)).max() <= 1
    assert np.array_equal(overlay(crop, _bytes(heat, "PNG"), 0.0), overlay(crop, _bytes(heat * 0, "PNG"), 1.0))


def test_an_interval_whose_ends_read_alike_is_left_out() -> None:
    sure = result(faces=[face(fused=0.999, interval=(0.998, 0.9995))])
    assert words.between((0.81, 0.97)) == "0.81 to 0.97" and words.between((0.998, 0.9995)) == ""
    assert words.score_with_interval(sure) == "0.99" and words.score_with_interval(result()) == "0.93 (0.83 to 0.98)"
    card = cards.verdict_card(sure)
    assert "99 %" in card and "interval" not in card
    assert "interval 83 % to 98 %" in cards.verdict_card(result())


def test_a_bar_tells_its_value_to_who_does_not_see_it() -> None:
    page = cards.progress_card("a.mp4", "detectors", 0.5, {"<lrnet>": 0.25})
    assert 'role="progressbar" aria-label="Asking the detectors"' in page and 'aria-valuenow="50"' in page
    assert 'aria-label="&lt;lrnet&gt;" aria-valuemin="0" aria-valuemax="100" aria-valuenow="25"' in page


@pytest.mark.parametrize("ground", ["#ffffff", "#fcfbf9", "#12141b", "#18181b"])
def test_lines_and_verdicts_stand_out_from_every_ground(ground: str) -> None:
    """WCAG 1.4.11: 3 to 1; the pages' grounds, light and dark."""
    said = [*words.VERDICTS.values(), words.FAILED]
    assert all(contrast(colour, ground) >= 3 for colour in [*PALETTE, *(one.colour for one in said)])


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, relative luminance and contrast ratio."""
    found = []
    for colour in (one, other):
        linear = [(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in linear]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(found) / min(found)


@pytest.mark.parametrize(
    ("container", "codec", "said"),
    [
        ("mov,mp4,m4a,3gp,3g2,mj2", "h264", "video, MP4 or QuickTime (H.264)"),
        ("matroska,webm", "vp9", "video, Matroska or WebM (VP9)"),
        ("nut", "ffv1", "video, nut (ffv1)"),
    ],
)
def test_a_files_kind_is_called_as_people_call_it(container: str, codec: str, said: str) -> None:
    assert cards.decoded(result(media=media(container=container, codec=codec)))[0] == ("Kind", said)
    still = media(kind="image", container="jpeg", codec="jpeg")
    assert cards.decoded(result(media=still))[0] == ("Kind", "image, JPEG")
