"""What the tests of the dashboard's pages share; other tests do not pay for its imports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gateway_api import Api
    from streamlit_pages import Open


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The real API, in this process; the session's client calls it."""
    from gateway_api import Api
    from streamlit_pages import Called

    from preprocessing.settings import Settings
    from serve.settings import GatewayArgs
    from ui.dashboard import compare_page, history_page, operator, session

    made = Api(tmp_path / "api", GatewayArgs(min_free_bytes=0), Settings())
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("UNMASK_TOKEN", raising=False)
    monkeypatch.setattr(operator, "on_this_machine", lambda: True)
    with made.http:
        for module in (session, history_page, compare_page):
            monkeypatch.setattr(module, "api", lambda: Called(made))
        yield made
    made.store.close()


@pytest.fixture
def page(api: Api) -> Open:
    """Opens a page by its module's name: page("history")."""
    from streamlit_pages import opened

    return opened
