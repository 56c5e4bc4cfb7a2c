"""A whole visit in a real browser: two people in a video, a file too large, the report, the history after a restart;
pages without barriers as axe-core and the Tab key see them."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from accessibility import reached_by_tab, violations
from hostile import write_video
from local_api import portrait_video, running_api, untrained
from pypdf import PdfReader

from benchmarks.browsing import ARGUMENTS, find_chromium, free_ports, open_tab, settle
from preprocessing.media import open_media
from preprocessing.settings import MediaLimits, Settings
from ui.children import Children
from ui.client import Client
from ui.demo import await_pages, start_pages
from ui.gradio_limits import HOSTED, PASSWORD
from ui.report import finished_report, picture_names
from ui.samples import FOLDER

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LARGEST = 3 * 1024**2


class Visit:
    """A service that can be started again at the same address over the same storage, and its pages."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self.loaded = untrained(folder / "weights")
        self.port, dashboard, gradio = free_ports(3)
        self.api, self.dashboard, self.gradio = (f"http://127.0.0.1:{port}" for port in (self.port, dashboard, gradio))
        self._running: Any = None
        self.start()
        start_pages(children, self.api, dashboard, gradio, share=False)
        await_pages(children, dashboard, gradio)

    def start(self) -> None:
        limits = Settings(limits=MediaLimits(max_bytes=LARGEST))
        self._running = running_api(self.folder, self.loaded, limits, self.port)
        self._running.__enter__()

    def stop(self) -> None:
        self._running.__exit__(None, None, None)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch, Children() as children:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        found = Visit(folder, children)
        yield found
        found.stop()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait_video(tmp_path_factory.mktemp("media") / "clip.mp4")


def couple(folder: Path) -> Path:
    """The portrait and its mirror image, side by side in one video."""
    with open_media(portrait_video(folder / "one.mp4")) as media:
        frames = [np.hstack([frame.image, np.ascontiguousarray(cv2.flip(frame.image, 1))]) for frame in media]
    write_video(folder / "couple.mp4", frames, fps=25)
    return folder / "couple.mp4"


def test_two_people_are_followed_watched_and_reported(page: Any, visit: Visit, tmp_path: Path) -> None:
    page.goto(visit.dashboard)
    page.locator("input[type=file]").first.set_input_files(couple(tmp_path))
    page.locator("[data-stage]").first.wait_for()
    page.locator("[data-verdict]").first.wait_for()
    with Client(visit.api) as client:
        analysis = client.analyses("couple.mp4")[0]["id"]
        result = client.result(analysis)
        pictures = {name: client.artifact(analysis, name) for name in picture_names(result)}
    assert len(result.faces) == 2
    for face in result.faces:
        page.get_by_text(f"Person {face.track}").first.wait_for()
    page.locator(".um-crops img").first.wait_for()
    report = finished_report(result, pictures)
    pages = PdfReader(io.BytesIO(report.render("pdf"))).pages
    text = "\n".join(one.extract_text() for one in pages)
    assert "Person 0" in text and "Person 1" in text and sum(len(one.images) for one in pages) >= 4
    report.write(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    assert page.get_by_role("heading", name="Person 1").is_visible()
    assert violations(page) == []


def test_a_file_too_large_is_refused_by_name_and_limit(page: Any, visit: Visit, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(couple(tmp_path).read_bytes() + bytes(LARGEST))
    page.goto(visit.dashboard)
    page.locator("input[type=file]").first.set_input_files(large)
    card = page.locator("[data-verdict=failed]").first
    card.wait_for()
    assert "large.mp4" in card.inner_text() and "3.0 MB" in card.inner_text()


@pytest.fixture
def with_camera(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A browser whose camera shows the portrait."""
    film = tmp_path / "camera.mjpeg"
    film.write_bytes((FOLDER / "astronaut-real.jpg").read_bytes() * 30)
    camera = [f"--use-fake-{what}-for-media-stream" for what in ("ui", "device")]
    camera += [f"--use-file-for-fake-video-capture={film}"]
    found = browser.browser_type.launch(executable_path=find_chromium(), args=[*ARGUMENTS, *camera])
    yield found
    found.close()


def test_a_snapshot_of_the_camera_is_analysed(with_camera: Any, open_page: Callable[..., Any], visit: Visit) -> None:
    page = open_page(within=with_camera)
    page.goto(visit.dashboard)
    page.get_by_role("button", name="Use the camera").click()
    # A person sees himself before he presses; a camera that has just begun is black.
    page.wait_for_function("() => [...document.querySelectorAll('video')].some(video => video.currentTime > 0.5)")
    page.get_by_role("button", name="Take Photo").click()
    page.locator("[data-verdict]").filter(has_text="snapshot 1.jpg").wait_for()
    with Client(visit.api) as client:
        result = client.result(client.analyses("snapshot 1.jpg")[0]["id"])
    assert len(result.faces) == 1 and result.faces[0].detectors["mesonet"].score is not None


def test_the_history_is_there_after_the_service_was_started_again(page: Any, visit: Visit) -> None:
    with Client(visit.api) as client:
        client.analyse(FOLDER / "astronaut-fake.jpg")
    visit.stop()
    visit.start()
    page.goto(f"{visit.dashboard}/history")
    page.get_by_role("button", name="astronaut-fake.jpg").first.click()
    page.locator("[data-verdict]").first.wait_for()
    assert "astronaut-fake.jpg" in page.locator("[data-verdict]").first.inner_text()
    page.locator(".um-crops img").first.wait_for()


def test_strangers_need_the_password_and_leave_nothing(page: Any, visit: Visit, tmp_path: Path) -> None:
    from gradio_client import Client as Gradio
    from gradio_client import handle_file

    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    command = [sys.executable, "-m", "ui.gradio_demo", "--api", visit.api, "--hosted"]
    command += ["--port", address.rsplit(":", 1)[1], "--queue", "1", "--at-once", "1"]
    with Children() as children, Client(visit.api) as client:
        children.start("a hosted demo", command, {PASSWORD: "open sesame"}, quiet=True)
        until = time.monotonic() + 90
        while not answers(address) and time.monotonic() < until:
            time.sleep(0.5)
        page.goto(address)
        page.get_by_text("the password that you were given").wait_for()
        assert page.locator("input[type=file]").count() == 0
        with pytest.raises(Exception, match=r"(?i)auth|login|credential|401"):
            Gradio(address, auth=("me", "let me in"), verbose=False)
        known = len(client.analyses())
        demo = Gradio(address, auth=("me", "open sesame"), verbose=False)
        result = demo.predict(handle_file(str(FOLDER / "astronaut-real.jpg")), api_name="/analyse")
        assert result["schema"] == "unmask.result/1" and len(client.analyses()) == known
        large, long = tmp_path / "large.jpg", tmp_path / "long.mp4"
        large.write_bytes((FOLDER / "astronaut-real.jpg").read_bytes() + bytes(HOSTED.max_mb * 1024**2))
        write_video(long, [np.zeros((64, 64, 3), np.uint8)] * 62, fps=1)
        for path, limit in ((large, "size"), (long, "60 s")):
            with pytest.raises(Exception, match=limit):
                demo.predict(handle_file(str(path)), api_name="/analyse")
        video = handle_file(str(couple(tmp_path)))
        jobs = [demo.submit(video, api_name="/analyse") for _ in range(4)]
        refused = [str(job.exception()) for job in jobs]
        assert any("Queue is full" in why for why in refused) and "None" in refused, refused


def answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_pages_have_no_grave_barrier(
    open_page: Callable[..., Any], visit: Visit, clip: Path, width: int, scheme: str
) -> None:
    with Client(visit.api) as client:
        for path in (FOLDER / "astronaut-fake.jpg", clip):
            client.analyse(path)
        picture, video = (client.analyses(name)[0]["id"] for name in ("astronaut-fake.jpg", clip.name))
    page = open_page(width, scheme=scheme)
    told: list[str] = []

    def look(name: str) -> None:
        settle(page)
        told.extend(f"{name}: {one}" for one in violations(page))

    for name, where, ready in (
        ("Analyse", "", "[data-testid=stFileUploader]"),
        ("a picture's result", f"?analysis={picture}", "[data-testid=stDownloadButton]"),
        ("a video's result", f"?analysis={video}", "[data-testid=stDownloadButton]"),
        ("Compare", f"compare?with={picture},{video}", "[data-verdict]"),
        ("History", "history", "[data-testid=stTextInput]"),
        ("Models", "models", ".um-card"),
        ("Evaluate", "evaluate", "h1"),
        ("Training", "training", "h1"),
        ("Operate", "operate", "table"),
    ):
        page.goto(f"{visit.dashboard}/{where}")
        page.locator(ready).last.wait_for()
        look(name)
    page.goto(f"{visit.gradio}/?__theme={scheme}")
    for tab in ("Video", "Compare two", "Make a fake", "Image"):
        open_tab(page, tab)
        look(f"Gradio, {tab}")
    page.locator("button:visible", has_text="Astronaut fake").click()
    page.locator("button:visible:enabled", has_text="Analyse").click()
    page.locator(".um-axis:visible").first.wait_for()
    look("Gradio, an answer")
    assert not told, "\n".join(told)


def test_everything_that_acts_is_reached_by_the_keyboard(page: Any, visit: Visit) -> None:
    page.goto(visit.gradio)
    page.get_by_role("tab", name="Compare two").wait_for()
    reached = " ".join(reached_by_tab(page, 20))
    for name in ("Image", "Astronaut real", "Astronaut fake"):
        assert name in reached, reached
    page.goto(visit.dashboard)
    page.locator("h1").first.wait_for()
    settle(page)
    reached = " ".join(reached_by_tab(page))
    for name in ("Analyse", "History"):
        assert name in reached, reached
    assert "pload" in reached or "rowse" in reached, reached
