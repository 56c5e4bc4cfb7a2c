"""Each browser session of the dashboard signs in for itself, and sees its own analyses alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from accessibility import violations
from local_api import running_api, untrained

from benchmarks.browsing import free_ports
from serve.access import Tokens
from ui.children import Children
from ui.client import ApiError, Client
from ui.demo import await_pages, start_pages
from ui.samples import FOLDER

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The API's address, the dashboard's, and the tokens of two people."""
    folder = tmp_path_factory.mktemp("api")
    tokens = Tokens(folder / "tokens.json")
    people = {name: tokens.add(name, "analyst") for name in ("ann", "bob")}
    dashboard, gradio = free_ports(2)
    assert "UNMASK_TOKEN" not in os.environ
    with running_api(folder, untrained(folder / "weights")) as api, Children() as children:
        start_pages(children, api, dashboard, gradio, share=False)
        await_pages(children, dashboard, gradio)
        yield api, f"http://127.0.0.1:{dashboard}", people


def sign_in(page: Any, address: str, token: str) -> Any:
    page.goto(address)
    page.get_by_role("heading", name="Sign in").wait_for()
    assert page.locator("input[type=file]").count() == 0, "nothing can be sent before"
    page.get_by_label("Your token", exact=True).fill(token)
    page.get_by_role("button", name="Sign in").click()
    return page


def test_a_wrong_token_is_told_and_a_right_one_lets_in(page: Any, service: tuple[str, str, dict[str, str]]) -> None:
    _, dashboard, people = service
    sign_in(page, dashboard, "um_wrong")
    page.locator("[data-verdict=failed]").wait_for()
    assert "unknown" in page.locator("[data-verdict=failed]").inner_text()
    assert violations(page) == []
    page.get_by_label("Your token", exact=True).fill(people["ann"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Is this face real?").wait_for()


def test_another_persons_analysis_cannot_be_opened(
    open_page: Callable[..., Any], service: tuple[str, str, dict[str, str]]
) -> None:
    api, dashboard, people = service
    with Client(api, token=people["ann"]) as ann:
        analysis = ann.submit(FOLDER / "astronaut-real.jpg", "ann's picture.jpg")
        for _ in ann.watch(analysis):
            pass
    address = f"{dashboard}/?analysis={analysis}"
    own = sign_in(open_page(), address, people["ann"])
    own.locator("[data-verdict]").wait_for()
    assert "ann's picture.jpg" in own.locator("[data-verdict]").inner_text()
    own.locator(".um-crops img, [data-testid=stImage] img").first.wait_for()
    other = sign_in(open_page(), address, people["bob"])
    other.locator("[data-verdict=failed]").wait_for()
    assert "no such analysis" in other.locator("[data-verdict=failed]").inner_text()


def test_a_client_without_a_token_is_refused(service: tuple[str, str, dict[str, str]]) -> None:
    with Client(service[0], token="") as nobody, pytest.raises(ApiError, match="asks for a token"):
        nobody.analyses()
