"""Both pages in a real browser, against the real API: a video goes in, the verdict is read off the page."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import build
from local_api import portrait_video, running_api, untrained

from benchmarks.browsing import free_ports
from ui.children import Children
from ui.client import Client
from ui.demo import await_pages, start_pages
from ui.samples import FOLDER
from ui.words import VERDICTS

pytestmark = pytest.mark.e2e


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


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Iterator[Any]:
    """A page that may talk to this machine only, and whose scripts must not fail."""
    page = open_page()
    outside: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if _outside(request.url) else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
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
    mapped = {name: len(score.heatmaps) for name, score in result.faces[0].detectors.items() if score.heatmaps}
    assert mapped.keys() == {"lrnet", "mesonet"}, "native maps, and the landmarks that move LRNet's score"
    from playwright.sync_api import expect

    for name, pictures in sorted(mapped.items(), key=lambda item: item[1]):
        page.get_by_role("radiogroup", name="Where it looks").get_by_text(name, exact=True).click()
        expect(page.locator(".um-crops img")).to_have_count(pictures)
    chart = page.locator(".um-axis").first
    chart.wait_for()
    assert "mesonet" in chart.inner_text() and "lrnet" in chart.inner_text()
    assert_fits_a_phone(page)
    before = page.locator(".um-crops img").first.get_attribute("src")
    page.get_by_role("slider").first.focus()
    page.keyboard.press("Home")
    page.wait_for_function("b => document.querySelector('.um-crops img').src !== b", arg=before)
    for heading in ("Content credentials (C2PA)", "Signs of re-encoding"):
        page.get_by_role("heading", name=heading).wait_for()
    assert page.locator(".um-paths").count() == 0, "drawn when somebody wants it"
    page.get_by_role("tab", name="How the landmarks move").click()
    expect(page.locator(".um-paths circle")).to_have_count(2 * 68)  # before and after calibration
    page.locator(".um-time-plot .um-time-line").nth(2).wait_for(state="attached")  # scores, the landmarks' two motions
    chart = page.locator(".um-time").filter(has_text="seconds").first
    chart.scroll_into_view_if_needed()
    point = chart.locator("[data-at]").nth(3)
    assert result.faces[0].detectors.keys() & set(point.locator("title").text_content().split())
    where = point.locator("circle").bounding_box()
    page.mouse.click(where["x"] + where["width"] / 2, where["y"] + where["height"] / 2)
    told = page.locator("p[role=status]").filter(has_text="says")
    told.wait_for()
    minutes, seconds = re.match(r"(\d+):(\d+\.\d)", told.inner_text()).groups()
    page.wait_for_function(
        "time => Math.abs(document.querySelector('.st-key-player video').currentTime - time) < 0.06",
        arg=60 * int(minutes) + float(seconds),
    )
    for button, kind, legible in (
        ("Download the result as JSON", b"{", True),
        ("Report", b"<!DOCTYPE", True),
        ("Report as PDF", b"%PDF", False),
        ("Annotated video", b"\0\0\0", False),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=re.compile(f"{button}$")).click()
        content = download.value.path().read_bytes()
        assert content.startswith(kind)
        assert result.media.sha256.encode() in content or not legible


def test_pasted_files_are_analysed_and_a_long_analysis_is_cancelled(page: Any, pages: Pages, tmp_path: Path) -> None:
    page.goto(pages.dashboard)
    page.locator("input[type=file]").wait_for(state="attached")
    long = portrait_video(tmp_path / "long.mp4", frames=500)
    picture = (FOLDER / "astronaut-real.jpg").read_bytes()
    paste = """content => {
        const taken = new DataTransfer();
        taken.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], 'pasted.jpg'));
        const event = new ClipboardEvent('paste', { clipboardData: taken, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    page.wait_for_function(f"content => ({paste})(content)", arg=base64.b64encode(picture).decode())
    card = page.locator("[data-verdict]").filter(has_text="pasted.jpg")
    card.wait_for()
    assert pages.answer("pasted.jpg").media.sha256 == hashlib.sha256(picture).hexdigest()
    page.locator("input[type=file]").set_input_files(long)
    page.locator(".um-progress").filter(has_text="long.mp4").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("[data-verdict=failed]").filter(has_text="It was cancelled").wait_for()
    assert pages.client.analyses("long.mp4")[0]["status"] == "cancelled"


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


def test_the_dashboard_shows_the_models_cards_and_opens_an_analysis_by_its_link(
    page: Any, pages: Pages, video: Path
) -> None:
    page.goto(f"{pages.dashboard}/models")
    page.locator(".um-card").nth(1).wait_for()
    cards = page.locator(".um-card").all_inner_texts()
    assert any("MesoNet" in card for card in cards) and any("LRNet" in card for card in cards)
    analysis = pages.client.submit(video, "linked.mp4", again=True)
    page.goto(f"{pages.dashboard}/?analysis={analysis}")
    page.locator("[data-verdict]").wait_for()
    assert "linked.mp4" in page.locator("[data-verdict]").inner_text()
    page.goto(f"{pages.dashboard}/?analysis={'0' * 32}")
    page.locator("[data-verdict=failed]").wait_for()
    assert "no such analysis" in page.locator("[data-verdict=failed]").inner_text()


def test_the_history_finds_opens_tags_and_deletes(page: Any, pages: Pages, tmp_path: Path) -> None:
    for name in ("holiday.png", "[press] *1*.png"):
        analysis = pages.client.submit(build("palette_alpha", tmp_path), name, again=True)
        for _ in pages.client.watch(analysis):
            pass
    page.goto(f"{pages.dashboard}/history")
    page.get_by_role("button", name="holiday.png").wait_for()
    page.get_by_label("Part of the name").fill("press")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="holiday.png").wait_for(state="detached")
    row = page.get_by_role("button", name="[press] *1*.png")
    assert "No face found" in row.inner_text()
    page.get_by_label("Tags", exact=True).fill("b, a")
    page.keyboard.press("Enter")
    page.get_by_label("Tag", exact=True).fill("a")
    page.keyboard.press("Enter")
    assert_fits_a_phone(page)
    row.click()
    page.locator("[data-verdict=no_face]").wait_for()
    assert "[press] *1*.png" in page.locator("[data-verdict=no_face]").inner_text()
    assert pages.client.page("press")[0][0]["tags"] == ["a", "b"]
    page.goto(f"{pages.dashboard}/history")
    page.get_by_role("button", name="holiday.png").wait_for()
    page.get_by_role("button", name="Notes").first.click()
    notes = page.get_by_role("textbox", name="Notes", exact=True)
    notes.fill("asked the sender")
    notes.press("Control+Enter")
    until = time.monotonic() + 30  # the words stand in their field before they are kept
    while not (noted := pages.client.page("asked the sender")[0]) and time.monotonic() < until:
        page.wait_for_timeout(200)
    assert [job["name"] for job in noted] == ["[press] *1*.png"]
    page.keyboard.press("Escape")
    for number in range(2):
        page.locator("[data-testid=stCheckbox] label").nth(number).click()
    page.get_by_role("button", name="Compare the 2 chosen").click()
    page.get_by_role("heading", name="In what they differ").wait_for()
    assert page.locator("[data-verdict=no_face]").count() == 2
    assert_fits_a_phone(page)
    page.goto(f"{pages.dashboard}/history")
    page.get_by_role("button", name="holiday.png").wait_for()  # its absence says nothing before the list stands
    page.get_by_label("Part of the name").fill("press")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="holiday.png").wait_for(state="detached")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("No match.").wait_for()
    assert pages.client.page("press") == ([], 0)


def test_the_gradio_demo_takes_a_video_and_shows_the_verdict(page: Any, pages: Pages, tmp_path: Path) -> None:
    video = portrait_video(tmp_path / "another.mp4", frames=50)
    page.goto(pages.gradio)
    page.get_by_role("tab", name="Video").click()
    page.locator("input[type=file][accept*='video/*']").set_input_files(video)
    page.locator("video:visible").first.wait_for()
    page.locator("button:visible", has_text="Analyse").click()
    page.locator(".um-progress:visible", has_text=video.name).wait_for()
    card = page.locator("[data-verdict]:visible")
    card.wait_for()
    result = pages.answer(video.name)
    assert card.get_attribute("data-verdict") == result.verdict
    assert VERDICTS[result.verdict].title in card.inner_text()
    page.locator(".um-time:visible").first.wait_for()
    assert "mesonet" in page.locator(".um-axis:visible").first.inner_text()
    page.locator(".um-crops img:visible").first.wait_for()
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
