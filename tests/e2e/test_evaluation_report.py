"""The evaluation report in a real browser: no requests, no errors, no sideways scrolling, light and dark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_rows import row

from train.evaluate import report
from train.report import render

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        row(i % 2, float(rng.uniform(0.2, 0.7) + 0.2 * (i % 2)), name=f"a_rather_long_file_name_{i}.mp4",
            dataset=f"data_set_of_a_long_name_{i % 9}", method="a manipulation told in many words" * (i % 2))
        for i in range(60)
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(report(rows)), encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "dark")])
def test_the_report_fits_its_window_and_loads_nothing(
    open_page: Callable[..., Any], page_file: Path, width: int, scheme: str
) -> None:
    page = open_page(width, 800, scheme)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()] and not complaints
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Lines are drawn and seen: the fused score's has the colour of the text, not the background's.
    ink = page.evaluate("getComputedStyle(document.querySelector('path.fused')).stroke")
    paper, text = page.evaluate(
        "(body => [getComputedStyle(body).backgroundColor, getComputedStyle(body).color])(document.body)"
    )
    assert ink == text != paper
    chart = page.locator("figure svg").first.bounding_box()
    assert chart is not None and 250 < chart["width"] < width and chart["height"] > 200
