"""Scores as rows on one axis."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import detector, face, result

from ui import words
from ui.axes import FORMS, compared_axis, contributions_axis, scores_axis


def rows(page: str) -> dict[str, str]:
    """What is drawn in each row, by its name, from above."""
    found = re.findall(
        r'<div class="um-axis-row [a-z]*"[^>]*><span class="um-axis-name">(.*?)</span>'
        r'<div class="um-axis-track">(.*?)</div></div>',
        page,
    )  # fmt: skip
    return dict(found)


def dots(drawn: str) -> list[tuple[str, float]]:
    """Classes and place (percent) of a row's dots."""
    return [(kind, float(at)) for kind, at in re.findall(r'um-axis-dot ([^"]*)" style="left:([\d.]+)%', drawn)]


def test_each_score_the_interval_and_the_threshold_stand_on_the_axis() -> None:
    made = result()
    page = scores_axis(made, made.faces[0], "who says what")
    found = rows(page)
    assert list(found) == ["together", "mesonet", "lrnet"], "the fused score first, what has no score last"
    assert dots(found["together"]) == [("diamond together", 93.0)] and dots(found["mesonet"]) == [("", 90.0)]
    low, width = re.findall(r'um-axis-bar band" style="left:([\d.]+)%;width:([\d.]+)%', found["together"])[0]
    assert float(low) == pytest.approx(83) and float(width) == pytest.approx(15)
    assert "does not apply" in found["lrnet"] and dots(found["lrnet"]) == []
    assert "--um-threshold:50.00%" in page and 'aria-label="who says what"' in page


def test_a_score_without_a_say_is_hollow_and_says_why() -> None:
    silent = detector(0.2, status="out_of_domain", reason="other <landmarks>")
    made = result(faces=[face(detectors={"lrnet": silent})])
    page = scores_axis(made, made.faces[0], "")
    assert dots(rows(page)["lrnet"]) == [("hollow", 20.0)]
    assert "outside its domain: other &lt;landmarks&gt;" in page and "<landmarks>" not in page


def test_contributions_point_to_fake_in_its_colour_and_to_real_in_its_own() -> None:
    page = contributions_axis(result().faces[0], "moves")
    found = rows(page)
    assert list(found) == ["mesonet", "lrnet"], "the strongest first"
    assert words.VERDICTS["fake"].colour in found["mesonet"] and "+2.10" in found["mesonet"]
    assert words.VERDICTS["real"].colour in found["lrnet"] and "-0.40" in found["lrnet"]
    spans = {
        name: tuple(map(float, re.findall(r"left:([\d.]+)%;width:([\d.]+)%", drawn)[0]))
        for name, drawn in found.items()
    }
    assert spans["mesonet"][0] == 50 and sum(spans["lrnet"]) == pytest.approx(50, abs=0.02)
    assert spans["mesonet"][1] / spans["lrnet"][1] == pytest.approx(2.1 / 0.4, rel=0.01)
    assert contributions_axis(face(fused=None), "") == ""


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(-20, 20), min_size=1))
def test_no_contribution_leaves_its_axis(moves: dict[str, float]) -> None:
    for drawn in rows(contributions_axis(face(contributions=moves), "")).values():
        left, width = map(float, re.findall(r"left:([\d.]+)%;width:([\d.]+)%", drawn)[0])
        assert left >= 0 and left + width <= 100.5


@pytest.mark.parametrize(
    ("score", "side", "at"),
    [(0.5, "above", 50), (0.99, "before above", 98), (0.95, "before above", 95), (0.85, "above", 85)],
)
def test_a_scores_number_keeps_clear_of_the_thresholds_line(score: float, side: str, at: float) -> None:
    made = result(faces=[face(fused=score, detectors={"mesonet": detector(score)})], threshold=0.98)
    numbers = re.findall(
        r'um-axis-number ([a-z ]+)" style="left:([\d.]+)%', scores_axis(made, made.faces[0], "")
    )  # fmt: skip
    assert numbers == [(side, f"{at:.2f}")] * 2


def test_files_side_by_side_have_a_form_each_and_their_names_are_harmless() -> None:
    results = [result(faces=[face(fused=score)]) for score in (0.2, 0.5, 0.8, 0.9)]
    page = compared_axis(results, ["<a>", "b", "c", "d"], "side by side")
    together = dots(rows(page)["together"])
    assert [at for _, at in together] == [20, 50, 80, 90] and [form for form, _ in together] == [f for f, _ in FORMS]
    assert "&lt;a&gt;" in page and "<a>" not in page
    assert compared_axis([result("no_face", [])] * 2, ["a", "b"], "") == ""
