"""The Gradio demo's two-sided tabs in a real browser, and its API as a program calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_api import running_api, untrained
from PIL import Image

from benchmarks.browsing import free_ports
from preprocessing.blending import BlendError
from preprocessing.errors import MediaError
from ui.children import Children
from ui.demo import await_pages, start_pages
from ui.gradio_pairs import KINDS, fake_of
from ui.samples import FOLDER

pytestmark = pytest.mark.e2e
PORTRAIT = FOLDER / "astronaut-real.jpg"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("api")
    dashboard, gradio = free_ports(2)
    with running_api(folder, untrained(folder / "weights")) as api, Children() as children:
        start_pages(children, api, dashboard, gradio, share=False)
        await_pages(children, dashboard, gradio)
        yield f"http://127.0.0.1:{gradio}"


@pytest.fixture
def page(demo: str, open_page: Callable[..., Any]) -> Any:
    page = open_page(height=1000)
    page.goto(demo)
    return page


def test_two_files_are_answered_side_by_side(page: Any) -> None:
    from playwright.sync_api import expect

    page.get_by_role("tab", name="Compare two").click()
    page.locator("button:visible", has_text="Compare").last.click()
    page.locator("[data-verdict=failed]:visible", has_text="Two files are needed").wait_for()
    for left, name in ((1, "astronaut-real.jpg"), (0, "astronaut-fake.jpg")):  # who has a file asks for none
        page.locator("input[type=file]:not([accept])").first.set_input_files(FOLDER / name)
        expect(page.locator("input[type=file]:not([accept])")).to_have_count(left)
    page.locator("button:visible", has_text="Compare").last.click()
    page.locator(".um-axis:visible").wait_for()
    said = page.locator("[data-verdict]:visible").all_inner_texts()
    assert len(said) == 2 and "astronaut-real.jpg" in said[0] and "astronaut-fake.jpg" in said[1]
    assert "mesonet" in page.locator(".um-axis:visible").inner_text()


def test_a_fake_is_made_and_both_are_asked_about(page: Any) -> None:
    page.get_by_role("tab", name="Make a fake").click()
    page.locator("input[type=file][accept*='image/*']").last.set_input_files(PORTRAIT)
    page.locator("button:visible", has_text="Make a fake and ask").click()
    page.locator(".um-axis:visible").wait_for()
    said = page.locator("[data-verdict]:visible").all_inner_texts()
    assert len(said) == 2 and "astronaut-real.png" in said[0] and f"astronaut-real {KINDS[0]}.png" in said[1]
    assert page.locator(".um-crops img:visible, .um-made img:visible").count() >= 1


def test_a_program_gets_the_same_result(demo: str) -> None:
    from gradio_client import Client, handle_file

    result = Client(demo, verbose=False).predict(handle_file(str(PORTRAIT)), api_name="/analyse")
    assert result["schema"] == "unmask.result/1" and result["faces"][0]["detectors"]["mesonet"]["score"] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_fake_differs_in_the_face_alone(kind: str) -> None:
    real, fake = (np.asarray(Image.open(path)).astype(int) for path in fake_of(PORTRAIT, kind, 1))
    rows, columns = np.nonzero(np.abs(real - fake).max(2))
    assert real.shape == fake.shape and len(rows) > 200, "something was changed"
    if kind != "rendered_whole":
        assert np.ptp(rows) < 0.8 * real.shape[0] and np.ptp(columns) < 0.8 * real.shape[1]


def test_no_face_and_no_such_way_are_said(tmp_path: Path) -> None:
    Image.new("RGB", (200, 200)).save(tmp_path / "black.png")
    with pytest.raises(MediaError, match="no face"):
        fake_of(tmp_path / "black.png", "sbi", 1)
    with pytest.raises(BlendError, match="did you mean"):
        fake_of(PORTRAIT, "sby", 1)
