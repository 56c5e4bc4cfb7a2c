"""The operator's pages in a real browser: an evaluation of an upload, a training run on a real Ray, the service."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from landmark_sequences import write_sequences
from local_api import running_api, untrained
from ray_head import running_head

from benchmarks.browsing import free_ports
from ui.children import Children
from ui.demo import await_pages, start_pages
from ui.samples import FOLDER

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
WAIT_MS = 240_000


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; what it keeps lies in a folder of the test."""
    folder = tmp_path_factory.mktemp("api")
    pages = free_ports(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        with running_api(folder, untrained(folder / "weights")) as api, Children() as children:
            start_pages(children, api, *pages, share=False)
            await_pages(children, *pages)
            yield f"http://127.0.0.1:{pages[0]}"


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    page = open_page(height=1100)
    page.set_default_timeout(WAIT_MS)
    return page


def test_an_uploaded_set_is_evaluated_and_its_report_opened(page: Any, dashboard: str, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for label in ("real", "fake"):
            packed.write(FOLDER / f"astronaut-{label}.jpg", f"set/{label}/astronaut.jpg")
    page.goto(f"{dashboard}/evaluate")
    page.get_by_text("Upload a ZIP").click()
    page.locator("input[type=file]").set_input_files(archive)
    page.get_by_text("pictures.zip").first.wait_for()
    page.get_by_text("Options").click()
    page.get_by_text("Measure files that the calibration").click()
    page.get_by_role("button", name="Evaluate", exact=True).click()
    page.get_by_role("table", name="Figures with their 95 % intervals").wait_for()
    assert "evaluation=" in page.url
    page.get_by_text("Show the report here").click()
    page.frame_locator("iframe").get_by_role("heading", name="Evaluation of media").wait_for()
    page.get_by_role("button", name="All evaluations").click()
    page.get_by_text("2 files").wait_for()


def test_a_run_is_started_followed_and_stopped(page: Any, dashboard: str, tmp_path: Path) -> None:
    data, runs = write_sequences(tmp_path / "sequences"), tmp_path / "runs"
    with running_head(tmp_path / "head.log") as head:
        page.goto(f"{dashboard}/training")
        page.get_by_text("How to start one").wait_for()
        page.get_by_text("Cluster", exact=True).first.click()
        for label, text in (("Address of Ray's dashboard", head.url), ("Its token", head.client["RAY_AUTH_TOKEN"])):
            field = page.get_by_role("textbox", name=label)
            field.fill(text)
            field.press("Enter")
            page.wait_for_timeout(1000)
        page.get_by_role("combobox", name="Recipe").click()
        page.get_by_role("combobox", name="Recipe").fill("lrnet-compact")
        page.get_by_role("option", name="lrnet-compact").click()
        for label, text in (
            ("Data, as the cluster sees them", str(data)), ("Where to keep the run", str(runs)),
            ("Changes to the recipe, one key=value a line", "epochs=500\nbatch=16\ndata.settings.windows=8"),
        ):  # fmt: skip
            field = page.get_by_role("textbox", name=label)
            field.fill(text)
            field.press("Control+Enter")
            page.wait_for_timeout(1000)
        page.get_by_role("button", name="Start", exact=True).click()
        page.get_by_text("Best validation AUC").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.locator(".um-state", has_text="stopped").wait_for()
        assert (runs / "lrnet-compact" / "tensorboard").is_dir()
    shutil.rmtree(runs)


def test_the_service_shows_its_parts_and_models_their_licences(page: Any, dashboard: str) -> None:
    page.goto(f"{dashboard}/operate")
    page.get_by_role("table", name="Parts of the service").wait_for()
    page.get_by_role("link", name="Models").click()
    page.get_by_role("heading", name="MesoNet").wait_for()
    assert "not measured" in page.locator("[data-detector=mesonet]").inner_text()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 390")
