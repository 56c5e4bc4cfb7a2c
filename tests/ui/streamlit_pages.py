"""The dashboard's pages as Streamlit runs them, against the real API in the test's process."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any

from gateway_api import Api
from results import face, result
from streamlit.testing.v1 import AppTest

from detectors.result import AnalysisResult
from ui.client import Client
from ui.dashboard import session

Open = Callable[..., AppTest]


class Called(Client):
    """A client whose requests reach the API of this test, with the session's token."""

    def __init__(self, api: Api) -> None:
        super().__init__("http://127.0.0.1", token="")
        self._there = api.http

    def _send(self, method: str, path: str, **more: Any) -> Any:
        from ui.client import _error

        token = session.token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._there.request(method, path, headers=headers, **more)
        if answer.is_error:
            raise _error(answer)
        return answer


def opened(name: str, token: str = "", state: dict[str, Any] | None = None, **query: str) -> AppTest:
    """A page that has run once, without an exception."""
    app = AppTest.from_string(f"from ui.dashboard import {name}_page\n{name}_page.show()", default_timeout=60)
    for key, value in (state or {}).items():
        app.session_state[key] = value
    if token:
        app.session_state["token"] = token
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def text(app: AppTest) -> str:
    """All that the page shows as HTML or words."""
    parts = [str(one.value if hasattr(one, "value") else one.proto.body) for one in [*app.get("html"), *app.error]]
    return unescape(" ".join(parts))


def finished(api: Api, name: str, made: AnalysisResult | None = None) -> str:
    """The id of an analysis that has ended with that result."""
    api.post(name=name)
    job = api.store.lease("x", 10, 3)
    assert job is not None
    made = made or result("fake", [face()])
    made.media.name = name
    assert api.store.finish(job.id, "x", made.model_dump_json(by_alias=True), made.verdict, made.score)
    return str(job.id)
