"""The operator's pages as Streamlit runs them: who is let in, what each page says, what a wrong input costs."""

from __future__ import annotations

import pytest
from gateway_api import Api
from results import face, result
from streamlit_pages import Open, text

from serve.access import Tokens
from ui.client import ApiError, Client
from ui.dashboard import operator


@pytest.mark.parametrize("name", ["evaluate", "training", "operate"])
def test_an_analyst_is_told_whose_page_it_is_and_sees_nothing_of_it(api: Api, page: Open, name: str) -> None:
    ann = Tokens(api.folder / "tokens.json").add("ann", "analyst")
    app = page(name, ann)
    assert "This page is the operator's" in text(app) and "--role operator" in text(app)
    assert [one.label for one in app.button] == ["Sign in"] and not app.expander


def test_an_operators_token_opens_it(api: Api, page: Open) -> None:
    ops = Tokens(api.folder / "tokens.json").add("ops", "operator")
    assert "Waiting" in text(page("operate", ops))


def test_a_dashboard_that_others_can_reach_asks_everyone_for_a_token_of_their_own(
    api: Api, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "on_this_machine", lambda: False)
    assert "sign in with a token of your own" in text(page("operate"))


@pytest.mark.parametrize(
    ("address", "headers", "here"),
    [
        ("127.0.0.1", {}, True), ("localhost", {}, True), ("::1", {}, True), ("", {}, False), ("0.0.0.0", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.1"}, False), ("127.0.0.1", {"Forwarded": "for=10.0.0.1"}, False),
    ],
)  # fmt: skip
def test_this_machine_alone_means_a_loopback_address_and_nobody_in_between(
    monkeypatch: pytest.MonkeyPatch, address: str, headers: dict[str, str], here: bool
) -> None:
    class Context:
        pass

    context = Context()
    context.headers = headers  # type: ignore[attr-defined]
    monkeypatch.setattr(operator.st, "context", context)
    monkeypatch.setattr(operator.st, "get_option", lambda _: address)
    assert operator.on_this_machine() is here


def test_operate_shows_the_queue_and_how_long_stages_take(api: Api, page: Open) -> None:
    api.post()
    job = api.store.lease("x", 10, 3)
    assert job is not None
    made = result("fake", [face()], timings={"tracking": 0.5, "detectors": 1.5})
    assert api.store.finish(job.id, "x", made.model_dump_json(by_alias=True), "fake", 0.9)
    api.post()
    app = page("operate")
    assert "the oldest for" in text(app) and "Likely manipulated" in text(app)
    assert "POST /<wbr>v1/<wbr>analyses" in text(app)
    assert "Too few scores to tell" in text(app) and "gateway" in text(app)


def test_evaluate_names_what_is_missing_and_what_is_not_there(page: Open) -> None:
    app = page("evaluate")
    app.button[0].click().run()
    assert "no labelled media are given" in app.error[0].value.lower().replace("\\", "")
    app.text_input(key="evaluate-place").set_value("/no/such/folder").run()
    next(one for one in app.button if one.label == "Evaluate").click().run()
    assert "there is no /no/such/folder" in app.error[0].value.lower().replace("\\", "")


def test_an_evaluation_of_another_id_opens_the_list(page: Open) -> None:
    app = page("evaluate", evaluation="../../etc")
    assert [one.value for one in app.subheader] == ["Evaluations"] and not app.exception


def test_training_without_a_cluster_says_how_to_start_one(page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    app = page("training")
    assert "No cluster answers at http://127.0.0.1:9" in text(app) and "Not analysed" not in text(app)
    assert "ray start --head" in app.code[0].value


def test_models_without_an_api_say_so(page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Client:
        raise ApiError("no_api", "nothing answers at http://127.0.0.1:8000", "start it with `unmask serve`")

    from ui.dashboard import models_page

    monkeypatch.setattr(models_page, "api", gone)
    assert "<code>unmask serve</code>" in text(page("models"))
