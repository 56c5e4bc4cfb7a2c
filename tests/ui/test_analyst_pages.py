"""History, Compare and what a result fetches: nothing is lost silently, and what failed once is asked for again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_api import Api
from results import detector, face, media, result
from streamlit.testing.v1 import AppTest
from streamlit_pages import Open, finished, text

from detectors.result import AnalysisResult
from ui import timeline
from ui.client import ApiError
from ui.dashboard import compare_page, files, history_page, people, result_view, texts


def test_the_page_before_is_shown_when_the_last_row_of_a_page_is_deleted(
    api: Api, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_page, "PAGE", 2)
    ids = [finished(api, f"{number}.png") for number in range(3)]
    app = page("history")
    next(one for one in app.button if one.label == texts.OLDER).click().run()
    assert [one.label for one in app.button if ".png" in one.label] == [history_page._label(row(api, ids[0]))]
    api.http.delete(f"/v1/analyses/{ids[0]}")
    app.run()
    assert sum("png" in one.label for one in app.button) == 2 and texts.HISTORY_EMPTY not in text(app)


def row(api: Api, analysis: str) -> dict[str, Any]:
    return next(one for one in api.http.get("/v1/analyses").json()["analyses"] if one["id"] == analysis)


def test_the_history_says_what_its_number_means_and_how_many_compare_takes(api: Api, page: Open) -> None:
    ids = [finished(api, f"{number}.png") for number in range(5)]
    app = page("history")
    assert any("93 % probability of manipulation" in one.label for one in app.button)
    for count, (word, disabled) in {
        4: ("Compare the 4 chosen", False),
        5: ("5 are chosen: Compare takes 4", True),
    }.items():
        for one in ids[:count]:
            app.checkbox(key=f"mark-{one}").set_value(True)
        app.run()
        button = next(one for one in app.button if "chosen" in one.label)
        assert button.label.startswith(word) and button.disabled is disabled


def test_analyses_older_than_those_listed_are_compared_all_the_same(
    api: Api, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_page, "LISTED", 1)
    old, new = finished(api, "old.png"), finished(api, "new.png")
    app = page("compare", state={"compare-these": [old, new]})
    assert "1 · old.png" in text(app) and "2 · new.png" in text(app)
    app = page("compare", **{"with": f"{old},{new},{'0' * 32}"})
    assert app.multiselect[0].value == [old, new]
    app.multiselect[0].unselect(old).run()
    assert app.multiselect[0].value == [new], "the link says it once"


class Service:
    """A client of a service where some pictures cannot be had."""

    def __init__(self, made: AnalysisResult | None = None, code: str = "") -> None:
        self.made, self.code, self.asked = made, code, 0

    def artifact(self, analysis: str, name: str) -> bytes:
        self.asked += 1
        if self.code:
            raise ApiError(self.code, "it cannot be had")
        return b"picture"

    def status(self, analysis: str) -> dict[str, Any]:
        assert self.made is not None
        return {"status": "done", "result": self.made.model_dump(mode="json"), "settings": {}}

    def detectors(self) -> list[dict[str, Any]]:
        return [{"name": "mesonet", "map": "grad-cam"}] if not self.code else self.artifact("", "")  # type: ignore[return-value]


def test_what_could_not_be_fetched_is_asked_for_again_and_what_was_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "token", lambda: "t")
    service: Any = Service(code="timeout")
    assert files.artifact(service, "a", "x.jpg") is None and files.map_kinds(service, "t") == {}
    service.code = ""
    assert files.artifact(service, "a", "x.jpg") == b"picture"
    assert files.map_kinds(service, "t") == {"mesonet": "grad-cam"}
    service.code = "timeout"
    assert files.artifact(service, "a", "x.jpg") == b"picture" and service.asked == 3


def test_a_report_does_without_deleted_pictures_but_not_without_a_service() -> None:
    made = result()
    service: Any = Service(made)
    service.artifact = gone
    found = json.loads(files.report(service, "a", "json"))
    assert found["schema"] == "unmask.report/2" and found["answers"][0]["result"]["media"]["sha256"] == "a" * 64
    assert b"Where mesonet looks" not in files.report(service, "a")
    service = Service(made, "no_api")
    with pytest.raises(ApiError, match="cannot be had"):
        files.report(service, "a")


def gone(analysis: str, name: str) -> bytes:
    raise ApiError("not_found", "there is no such artifact")


def test_pictures_are_fetched_ahead_of_the_person_who_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead: list[int] = []
    monkeypatch.setattr(result_view, "fetch_ahead", lambda client, analysis, face: ahead.append(face.track))
    monkeypatch.setattr(files, "map_kinds", lambda client, whose: {})
    monkeypatch.setattr(people, "show_evidence", lambda *given: None)
    app = AppTest.from_string(
        "import streamlit as st\nfrom ui.dashboard.result_view import show_result\n"
        "show_result(None, 'a', st.session_state['made'])",
        default_timeout=60,
    )
    app.session_state["made"] = result(faces=[face(1), face(2, 0.3)], media=media(kind="landmarks"))
    app.session_state["person-a"] = 2
    app.run()
    assert not app.exception and ahead == [2]


def test_each_click_moves_the_player_also_the_second_on_the_same_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = timeline.points_of(result().faces[0])
    state: dict[str, Any] = {}
    monkeypatch.setattr(people.st, "session_state", state)
    for wish in (1, 2):
        people._clicked("k", points, 1)
        assert (state["at-k"].time, state["at-k"].number) == (0.5, wish)
    people._clicked("k", points, len(points))  # of a page that has another person now
    assert state["at-k"].number == 2


def test_every_moment_of_the_timeline_can_be_chosen_without_a_mouse(monkeypatch: pytest.MonkeyPatch) -> None:
    person = face(detectors={"mesonet": detector(0.9), "lrnet": detector(0.2), "still": detector(0.5, frame_scores=[])})
    found = people.moments(person)
    assert list(found)[:2] == [(0.0, 0), (0.5, 12)]
    assert found[0.5, 12] == "0:00.5, frame 12: lrnet 0.20, mesonet 0.90"
    state: dict[str, Any] = {"pick-k": (0.5, 12)}
    monkeypatch.setattr(people.st, "session_state", state)
    people._picked("k", found)
    assert state["at-k"] == people.Moment(0.5, found[0.5, 12], 1)
