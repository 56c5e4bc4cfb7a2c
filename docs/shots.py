"""Which pictures there are of the pages: where each begins and ends, and what is done before it is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.browsing import SAMPLES, Demo, open_tab, settle
from docs.pictured import ask_for_tokens
from ui.dashboard.texts import AMONG, LANDMARKS

LOOKS = (("wide", "light"), ("wide", "dark"), ("phone", "light"))
MAP = ".js-plotly-plot:visible"
EVIDENCE, MEDIA = "[data-testid=stTabs] >> nth=0", "h3:has-text('The media')"
"""Where the heatmaps begin on the page of a result, and what is known of the file."""

Where = Callable[[Demo, dict[str, str]], str | None]


@dataclass(frozen=True)
class Shot:
    """A picture: where to go (given the dashboard's pages by title), what to do there, and the elements (selectors)
    above which it begins and ends; without them it is of the whole page."""

    name: str
    where: Where
    act: Callable[[Any], None] = settle
    looks: Sequence[tuple[str, str]] = LOOKS
    start: str = ""
    end: str = ""


def titled(title: str) -> Where:
    """That page of the navigation."""
    return lambda demo, pages: pages.get(title)


def _gradio(demo: Demo, pages: dict[str, str]) -> str:
    return demo.gradio


def _result(page: Any) -> None:
    page.locator("[data-verdict]").first.wait_for()
    page.locator(".um-axis").first.wait_for()
    settle(page)


def _whole_result(page: Any) -> None:
    """The buttons at its end are drawn last."""
    page.locator("[data-testid=stDownloadButton]").last.wait_for()
    page.locator(".um-crops img").first.wait_for()
    settle(page)


def _with(tab: str, drawn: str) -> Callable[[Any], None]:
    """The whole page, with that of the evidence, which is there when `drawn` is."""

    def act(page: Any) -> None:
        _whole_result(page)
        open_tab(page, tab)
        page.locator(drawn).first.wait_for()
        settle(page)

    return act


def _gradio_image(page: Any) -> None:
    page.locator("input[type=file][accept*='image/*']").first.set_input_files(SAMPLES / "astronaut-fake.jpg")
    page.locator("button:visible", has_text="Analyse").click()
    page.locator(MAP).first.wait_for()
    settle(page)


def _gradio_video(page: Any) -> None:
    open_tab(page, "Video")
    page.locator("input[type=file][accept*='video/*']").set_input_files(SAMPLES / "astronaut-clip.mp4")
    page.locator("video:visible").first.wait_for()
    page.locator("button:visible", has_text="Analyse").click()
    page.locator(MAP).first.wait_for()
    settle(page)


def _gradio_compare(page: Any) -> None:
    open_tab(page, "Compare two")
    page.locator("td:visible", has_text="astronaut-fake.jpg").click()
    page.get_by_label("Remove this file").or_(page.locator("[aria-label=Clear]:visible")).nth(1).wait_for()
    page.locator("button:visible", has_text="Compare").last.click()
    page.locator(MAP).first.wait_for()
    settle(page)


def _gradio_fake(page: Any) -> None:
    open_tab(page, "Make a fake")
    page.locator("input[type=file][accept*='image/*']").last.set_input_files(SAMPLES / "astronaut-real.jpg")
    page.locator("button:visible", has_text="Make a fake and ask").click()
    page.locator(MAP).first.wait_for()
    settle(page)


def shots(analyses: dict[str, str], report: Path, begin: Callable[[Any], None], evaluation: str | None) -> list[Shot]:
    """`analyses`: the ids of the samples by file name; `report`: a page that `unmask scan --report` would write;
    `begin`: what gives a page a video and waits for its progress; `evaluation`: its id. The last one locks the service.
    """

    def opened(name: str) -> Where:
        return lambda demo, pages: f"{demo.dashboard}/?analysis={analyses[name]}" if name in analyses else None

    def compared(demo: Demo, pages: dict[str, str]) -> str | None:
        both = [analyses[name] for name in ("astronaut-real.jpg", "astronaut-fake.jpg") if name in analyses]
        return f"{pages['Compare']}?with={','.join(both)}" if "Compare" in pages else None

    def evaluated(demo: Demo, pages: dict[str, str]) -> str | None:
        return f"{pages['Evaluate']}?evaluation={evaluation}" if evaluation and "Evaluate" in pages else None

    clip = opened("astronaut-clip.mp4")
    return [
        Shot("dashboard", clip, _whole_result, end=EVIDENCE),
        Shot("result-evidence", clip, _whole_result, start=EVIDENCE, end=MEDIA),
        Shot("result-landmarks", clip, _with(LANDMARKS, ".um-paths"), start=EVIDENCE, end=MEDIA),
        Shot("result-map", clip, _with(AMONG, MAP), start=EVIDENCE, end=MEDIA),
        Shot("result-media", clip, _whole_result, start=MEDIA),
        Shot("result-image", opened("astronaut-fake.jpg"), _whole_result, end=MEDIA),
        Shot("analyse", titled("Analyse")),
        Shot("compare", compared, _result),
        Shot("history", titled("History")),
        Shot("models", titled("Models")),
        Shot("evaluate", titled("Evaluate")),
        Shot("evaluate-result", evaluated),
        Shot("training", titled("Training")),
        Shot("operate", titled("Operate")),
        Shot("gradio-image", _gradio, _gradio_image),
        Shot("gradio-video", _gradio, _gradio_video),
        Shot("gradio-compare", _gradio, _gradio_compare),
        Shot("gradio-fake", _gradio, _gradio_fake),
        Shot("report", lambda demo, pages: report.as_uri(), end="h3 >> nth=1"),
        Shot("report-end", lambda demo, pages: report.as_uri(), start="h2:has-text('The media')"),
        Shot("progress", titled("Analyse"), begin),
        Shot("sign-in", lambda demo, pages: demo.dashboard if ask_for_tokens(demo) else None),
    ]
