"""What the analyst's pages say of a result beyond its verdict: agreement, quality, encoding, comparison."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from results import detector, face, media, result
from streamlit.testing.v1 import AppTest

from ui import cards, timeline, words
from ui.dashboard import browser, compare_page, people, texts
from ui.dashboard.following import Entry
from ui.media_signs import encoding_signs


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"a": 0.9, "b": 0.8}, "The 2 detectors with a say all lean to fake."),
        ({"a": 0.1, "b": 0.8, "c": 0.2}, "1 of 3 detectors with a say lean to fake, 2 to real"),
        ({"a": 0.7}, "Only a has a say"),
        ({}, ""),
    ],
)
def test_agreement_counts_only_those_with_a_say(scores: dict[str, float], said: str) -> None:
    silent = {"x": detector(0.99, status="out_of_domain", reason="other landmarks"), "y": detector(None)}
    found = face(detectors={name: detector(score) for name, score in scores.items()} | silent)
    assert words.agreement_words(found).startswith(said) and bool(words.agreement_words(found)) == bool(said)


def test_a_reader_is_warned_of_a_small_face_and_heavy_compression_but_not_of_a_still() -> None:
    poor = face(frames=1, quality_measures={"small": 0.9, "compressed": 0.7, "short": 1.0, "blurred": 0.2})
    told = " ".join(words.measure_words(poor))
    assert "small" in told and "compressed" in told and "few frames" not in told
    assert "heavily compressed" in cards.notices(result(faces=[poor], warnings=[]))
    assert words.measure_words(face(quality_measures={"small": 0.1})) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metadata": {"software": "Lavf58.29"}}, "Lavf58.29: a program encoded it"),
        ({"metadata": {"software": "Adobe Photoshop 25", "camera": "X"}}, "Adobe Photoshop 25, a program for editing"),
        ({"metadata": {}}, "names no camera"),
        ({"kind": "image", "codec": "png", "metadata": {"camera": "X"}}, "It is a PNG"),
        ({"metadata": {"camera": "Canon EOS R5"}}, words.RE_ENCODED_NONE),
    ],
)
def test_signs_of_an_encoding_after_the_camera(changes: dict[str, Any], said: str) -> None:
    assert said in " ".join(encoding_signs(result(media=media(**changes))))


def test_credentials_answer_present_valid_and_trusted_apart() -> None:
    assert set(words.CREDENTIAL_ANSWERS) == set(words.CREDENTIALS)
    valid = cards.credentials_card({"status": "valid", "signer": "<b>Acme</b>"})
    assert "<b>present</b> yes" in valid and "<b>valid</b> yes" in valid and "<b>trusted</b> not known" in valid
    assert "<b>Acme" not in valid and "&lt;b&gt;Acme" in valid
    assert "<b>valid</b> no" in cards.credentials_card({"status": "invalid"})
    assert "not checked" in cards.credentials_card({})


def test_progress_names_each_detector_that_has_begun() -> None:
    page = cards.progress_card("a.mp4", "detectors", 0.5, {"<lrnet>": 0.25, "mesonet": 1.0})
    assert "&lt;lrnet&gt;" in page and "width:25%" in page and "<lrnet>" not in page
    assert "um-each" not in cards.progress_card("a.mp4", "tracking", 0.5)


def test_the_comparison_tells_files_apart_and_warns_of_other_weights() -> None:
    other = face(detectors={"mesonet": detector(0.9, weights="w@ffffffffffff")})
    both = [result(), result("real", [other], media=media(name="b.mp4"), versions={"unmask": "9"})]
    told = compare_page.incomparable(both)
    assert told[0].startswith("mesonet ran with different weights") and "versions" in told[1]
    assert compare_page.incomparable([both[0], both[0]]) == []
    rows = compare_page.rows(both)
    assert [row[0] for row in rows] == list(texts.COMPARE_ROWS.values()) and all(len(row) == 3 for row in rows)
    assert compare_page.names_of(both) == ["1 · clip.mp4", "2 · b.mp4"]


@pytest.mark.parametrize(
    ("container", "codec", "plays"),
    [("mov,mp4,m4a", "h264", True), ("mov", "h264", True), ("webm", "vp9", True), ("avi", "mpeg4", False),
     ("mp4", "hevc", False)],
)  # fmt: skip
def test_what_a_browser_plays_is_shown_as_it_is(container: str, codec: str, plays: bool) -> None:
    assert people.playable(result(media=media(container=container, codec=codec))) == plays


def test_a_point_that_is_clicked_says_its_moment() -> None:
    point = timeline.points_of(result().faces[0])[1]
    assert people.moment_words(point) == "0:00.5, frame 12: mesonet says 0.90."


def test_a_table_escapes_and_names_its_rows() -> None:
    page = cards.table(["A", "B"], [["<x>", "1"]])
    assert "<th scope=row>&lt;x&gt;</th><td>1</td>" in page


def test_an_input_waits_until_it_has_a_result_or_an_error() -> None:
    entry = Entry("a.mp4", "1" * 32)
    assert entry.waits and entry.label == "… a.mp4"
    entry.result = result()
    assert not entry.waits and entry.label.startswith(words.VERDICTS["fake"].sign)


def test_a_page_takes_breath_before_each_part_when_it_is_first_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    monkeypatch.setattr(browser, "time", SimpleNamespace(sleep=taken.append))

    def page() -> None:
        from ui.dashboard.browser import breathe

        breathe("verdict")
        breathe("people")

    app = AppTest.from_function(page).run()
    assert not app.exception and taken == [browser.BREATH_S] * 2
    app.run()
    assert len(taken) == 2, "what is drawn again is there already"
