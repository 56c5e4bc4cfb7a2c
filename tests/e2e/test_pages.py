"""Both pages in a real browser, against the real API: a video goes in, the verdict is read off the page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, free_ports
from hostile import build
from local_api import portrait_video, running_api, untrained

from ui.children import Children
from ui.client import Client
from ui.demo import await_pages, start_pages
from ui.samples import FOLDER
from ui.words import VERDICTS

pytestmark = pytest.mark.e2e
WAIT_MS = 120_000


class Pages:
    """The addresses of what runs, and a client that says what the API answered."""

    def __init__(self, client: Client, dashboard: str, gradio: str) -> None:
        self.client, self.dashboard, self.gradio = client, dashboard, gradio

    def answer(self, name: str) -> Any:
        """The API's own answer for the newest analysis of that name."""
        return self.client.result(self.client.analyses(name)[0]["id"])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("api")
    dashboard, gradio = free_ports(2)
    with running_api(folder, untrained(folder / "weights")) as api, Children() as children, Client(api) as client:
        start_pages(children, api, dashboard, gradio, share=False)
        await_pages(children, dashboard, gradio)
        yield Pages(client, f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{gradio}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may talk to this machine only, and whose scripts must not fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    outside: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if _outside(request.url) else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(WAIT_MS)
    yield page
    context.close()
    assert not outside, outside
    assert not faults, faults


def _outside(url: str) -> bool:
    return url.startswith("http") and not re.match(r"https?://(127\.0\.0\.1|localhost)[:/]", url)


def assert_fits_a_phone(page: Any) -> None:
    """Nothing is wider than the narrow window, so that nobody scrolls sideways."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 390", timeout=20_000)
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait_video(tmp_path_factory.mktemp("media") / "portrait.mp4")


def test_the_dashboard_takes_a_video_and_shows_verdict_scores_timeline_and_heatmaps(
    page: Any, pages: Pages, video: Path
) -> None:
    page.goto(pages.dashboard)
    page.locator("input[type=file]").set_input_files(video)
    card = page.locator("[data-verdict]")
    card.wait_for()
    result = pages.answer(video.name)
    assert card.get_attribute("data-verdict") == result.verdict
    assert VERDICTS[result.verdict].title in card.inner_text() and video.name in card.inner_text()
    for heading in ("Who says what", "The face", "The media"):
        page.get_by_role("heading", name=heading).wait_for()
    page.locator(".um-crops img").first.wait_for()
    assert page.locator(".um-crops img").count() == len(result.faces[0].detectors["mesonet"].heatmaps)
    chart = page.locator(".js-plotly-plot").first
    chart.wait_for()
    assert "mesonet" in chart.inner_text() and "lrnet" in chart.inner_text()
    assert_fits_a_phone(page)
    before = page.locator(".um-crops img").first.get_attribute("src")
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.wait_for_function("b => document.querySelector('.um-crops img').src !== b", arg=before)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the result as JSON").click()
    assert result.media.sha256 in download.value.path().read_text()


def test_the_dashboard_answers_bad_files_by_name_and_reason_beside_a_good_one(
    page: Any, pages: Pages, tmp_path: Path
) -> None:
    noise, text = build("noise_video", tmp_path), build("text", tmp_path)
    page.goto(pages.dashboard)
    page.locator("input[type=file]").set_input_files([noise, text])
    answers = page.get_by_role("radiogroup", name="Answers")
    answers.get_by_text(text.name).click()
    refused = page.locator("[data-verdict=failed]")
    refused.wait_for()
    assert text.name in refused.inner_text() and "A text file" in refused.inner_text()
    answers.get_by_text(noise.name).click()
    page.locator("[data-verdict=no_face]").wait_for()
    assert "No face found" in page.locator("[data-verdict=no_face]").inner_text()


def test_the_dashboard_shows_the_detectors_cards_and_opens_an_analysis_by_its_link(
    page: Any, pages: Pages, video: Path
) -> None:
    page.goto(f"{pages.dashboard}/detectors")
    page.locator(".um-card").nth(1).wait_for()
    cards = page.locator(".um-card").all_inner_texts()
    assert any("MesoNet" in card for card in cards) and any("LRNet" in card for card in cards)
    analysis = pages.client.submit(video, "linked.mp4")
    page.goto(f"{pages.dashboard}/?analysis={analysis}")
    page.locator("[data-verdict]").wait_for()
    assert "linked.mp4" in page.locator("[data-verdict]").inner_text()
    page.goto(f"{pages.dashboard}/?analysis={'0' * 32}")
    page.locator("[data-verdict=failed]").wait_for()
    assert "no such analysis" in page.locator("[data-verdict=failed]").inner_text()


def test_the_gradio_demo_takes_a_video_and_shows_the_verdict(page: Any, pages: Pages, video: Path) -> None:
    page.goto(pages.gradio)
    page.get_by_role("tab", name="Video").click()
    page.locator("input[type=file][accept*='video/*']").set_input_files(video)
    page.locator("video:visible").first.wait_for()
    page.locator("button:visible", has_text="Analyse").click()
    card = page.locator("[data-verdict]:visible")
    card.wait_for()
    result = pages.answer(video.name)
    assert card.get_attribute("data-verdict") == result.verdict
    assert VERDICTS[result.verdict].title in card.inner_text()
    page.locator(".js-plotly-plot:visible").first.wait_for()
    assert "mesonet" in page.locator(".js-plotly-plot:visible").first.inner_text()
    page.locator(".grid-wrap:visible img").first.wait_for()
    assert_fits_a_phone(page)


def test_the_gradio_demo_takes_a_picture_as_it_is_and_answers_a_bad_one(
    page: Any, pages: Pages, tmp_path: Path
) -> None:
    picture = FOLDER / "astronaut-fake.jpg"
    page.goto(pages.gradio)
    page.locator("input[type=file][accept*='image/*']").set_input_files(picture)
    page.locator("button:visible", has_text="Analyse").click()
    page.locator("[data-verdict]:visible").wait_for()
    # The very bytes reach the detectors: what a browser or a library would re-encode has lost its traces.
    assert pages.answer(picture.name).media.sha256 == hashlib.sha256(picture.read_bytes()).hexdigest()
    page.reload()
    bad = tmp_path / "holiday.png"
    bad.write_text("not a picture")
    page.locator("input[type=file][accept*='image/*']").set_input_files(bad)
    page.locator("button:visible", has_text="Analyse").click()
    page.locator("[data-verdict=failed]:visible").wait_for()
    said = page.locator("[data-verdict=failed]:visible").inner_text()
    assert bad.name in said and "A text file" in said
