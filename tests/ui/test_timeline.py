"""Scores over time."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import detector, face, result

from detectors.result import FrameScore
from ui.palette import SYMBOLS, forms
from ui.timeline import MARKS, SIDE, Line, points_of, scores_over_time, time_chart


def drawn_lines(page: str) -> list[str]:
    """The path of each line of the plot; the legend's are not counted."""
    return re.findall(r'class="um-time-line[^"]*" [^>]* d="([^"]*)"', page.split("um-time-plot")[1])


def test_there_is_a_line_for_each_detector_with_several_moments() -> None:
    made = result()
    page = scores_over_time(made, made.faces[0], "over time")
    (line,) = drawn_lines(page)
    places = [tuple(map(float, place.split())) for place in re.split("[ML]", line)[1:]]
    assert places == [pytest.approx((time / 1.5 * SIDE, 100), abs=0.06) for time in (0, 0.5, 1, 1.5)]
    assert "mesonet 0.90 at 0:00.5, frame 12" in page and 'aria-label="over time"' in page
    still = result(faces=[face(detectors={"mesonet": detector(0.5, frame_scores=[])})])
    assert scores_over_time(still, still.faces[0], "") == ""


def test_a_point_has_the_number_of_its_moment() -> None:
    late = [FrameScore(time=9.0, frame=9, score=0.1), FrameScore(time=2.0, frame=2, score=0.2)]
    person = face(detectors={"mesonet": detector(0.9), "lrnet": detector(0.2, frame_scores=late)})
    page = scores_over_time(result(faces=[person]), person, "")
    points = points_of(person)
    assert [(one.detector, one.at.time) for one in points[:3]] == [("lrnet", 2.0), ("lrnet", 9.0), ("mesonet", 0.0)]
    told = re.findall(r'data-at="(\d+)"><title>(\w+) [\d.]+ at [\d:.]+, frame (\d+)<', page)
    assert [(name, int(frame)) for _, name, frame in told] == [(one.detector, one.at.frame) for one in points]
    assert [int(number) for number, _, _ in told] == list(range(len(points)))


def test_lines_are_told_apart_without_their_colours() -> None:
    many = [f"detector {number:02}" for number in range(35)]
    assert len(set(forms(many).values())) == 35
    made = result(faces=[face(detectors={name: detector(0.5) for name in many[:12]})])
    page = scores_over_time(made, made.faces[0], "").split("um-time-plot")[0]
    marks = re.findall(r'stroke-dasharray="([^"]*)".*?<path fill="[^"]*" d="([^"]*)"', page)
    assert len(marks) == 12 and len(set(marks)) == 12


def test_names_are_harmless() -> None:
    name = "<script>x</script>"
    made = result(faces=[face(detectors={name: detector(0.5)})])
    page = scores_over_time(made, made.faces[0], '"><script>')
    assert "<script" not in page and "&lt;script&gt;x" in page


moment = st.tuples(st.floats(0, 1e5), st.one_of(st.floats(0, 8), st.just(math.nan)))


@given(st.lists(st.lists(moment, min_size=1, max_size=20), max_size=3))
def test_any_lines_are_well_formed_and_stay_within_the_plot(lines: list[list[tuple[float, float]]]) -> None:
    drawn = [Line(str(number), sorted(points), "#000000", "dash") for number, points in enumerate(lines)]
    page = time_chart(drawn, 8.0, [(0.0, "0"), (8.0, "8")], "alt", moment=0.0, unit="m")
    tree = ElementTree.fromstring(page)
    assert len(tree.findall(".//span[@class='x']")) <= MARKS
    for path in drawn_lines(page):
        numbers = [float(one) for one in re.findall(r"-?[\d.]+", path)]
        assert all(0 <= one <= SIDE for one in numbers)


def test_a_line_breaks_where_a_value_is_missing() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, 1.0), (3.0, 1.0)]
    (path,) = drawn_lines(time_chart([Line("a", points, "#000000", "solid")], 2.0, [(0.0, "0")], ""))
    assert path.count("M") == 2 and path.count("L") == 1


def test_every_symbol_is_drawn_around_its_point() -> None:
    for path in SYMBOLS.values():
        assert path.startswith("M") and path.endswith("Z")
        assert max(abs(float(one)) for one in re.findall(r"-?\d*\.?\d+", path)) <= 6
