"""The HTML report: self-contained, escaped, whole for every kind of evaluation."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluation_rows import row

from preprocessing.perturb import Step
from train import report as report_folder
from train.evaluate import report
from train.levels import examples
from train.report import render
from train.report.curves import probit, ranking_charts
from train.report.pictures import Picture, worst
from train.report.svg import Chart, series, share
from train.robustness import grid


class Page(HTMLParser):
    """Checks that every element is closed in its turn; collects text and addresses."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.count: dict[str, int] = {}
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, words: str) -> None:
        self.words.append(words)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def evaluation() -> dict:
    rng = np.random.default_rng(0)
    rows = [
        row(i % 2, float(np.clip(rng.normal(0.35 + 0.3 * (i % 2), 0.2), 0, 1)), ("real", "fake")[i % 2],
            name=f"{i}.mp4", dataset=f"set{i % 3}", method="swap" * (i % 2), frames=(0.2, 0.8), clips=(0.5,))
        for i in range(40)
    ]  # fmt: skip
    bad = row(1, None, "failed", name="<b>bad</b>.mp4", dataset="<i>set</i>", method="swap")
    found = report([*rows, bad | {"reason": "cut <off>", "error": "undecodable"}], {"a": "frame", "b": "clip"})
    step = Step("blur", 1)
    cells = grid({"blur": (step,)}, {step: rows[::-1][:30]}, rows, ["a", "b"], 0.5)
    return found | {"robustness": cells, "partial": False, "planned": 41}


def test_the_page_is_whole_escaped_and_needs_no_other_file() -> None:
    html = render(evaluation(), title="An <evaluation>")
    page = Page(html)
    assert (
        page.addresses == [] and "http" not in re.sub(r"https?://www\.w3\.org\S*", "", html) and "@import" not in html
    )
    assert "<b>bad</b>" not in html and "cut <off>" in page.text and "An <evaluation>" in page.text
    for words in ("ROC", "Precision and recall", "DET", "Risk and coverage", "Reliability: fused", "Scores: fused",
                  "AUC by data set", "AUC by manipulation", "blur-1", "30 files only", "Each frame by itself",
                  "Each clip by itself", "could not be analysed", "Brier"):  # fmt: skip
        assert words in page.text, words
    assert page.count["svg"] >= 4 + 2 * 3 and "script" not in page.count
    assert len(html) < 300_000


def test_mistakes_are_shown_with_their_heatmap() -> None:
    address = "data:image/jpeg;base64,AAAA"
    one = Picture("x<y.mp4", 1, 0.123, "set · swap", address, address, "mesonet", {"mesonet": 0.1})
    page = Page(render(evaluation(), [one]))
    assert page.addresses == [address] * 2
    assert "fake , scored 0.12 · heatmap: mesonet x<y.mp4" in page.text.replace("  ", " ")


@pytest.mark.parametrize("rows", [[], [row(1, 0.9)], [row(0, None, "no_face")], [row(0, 0.2), row(1, 0.2)]])
def test_few_or_no_scores_make_a_page_too(rows: list[dict]) -> None:
    found = report(rows) | {"partial": True, "planned": 9, "detectors": {}}
    assert f"interrupted; {len(rows)} of 9" in Page(render(found)).text


def test_worst_are_the_furthest_on_the_wrong_side() -> None:
    rows = [row(1, 0.4, name="b"), row(1, 0.1, name="a"), row(0, 0.7, name="c"), row(0, 0.2), row(1, 0.9), row(0, None)]
    assert [one["path"] for one in worst(rows, 5)] == ["a", "b", "c"]
    assert [one["path"] for one in worst(rows, 1)] == ["a", "c"]


def test_a_line_ends_where_its_values_do() -> None:
    chart = Chart(share("x"), share("y"), "a <chart>", width=176, height=152)
    assert chart.at((0, 0)) == (56, 112) and chart.at((1, 1)) == (156, 12) and chart.at((2, -1)) == (156, 112)
    chart.line([(0, 0), (0.5, 1)], "guide", "1 < 2")
    assert 'd="M56.0 112.0L106.0 12.0"' in chart.render() and "1 &lt; 2" in chart.render()
    assert 'aria-label="a &lt;chart&gt;"' in chart.render()


def test_two_equal_normals_make_a_straight_det_curve() -> None:
    rng = np.random.default_rng(0)
    rows = [row(i % 2, float(1 / (1 + np.exp(-rng.normal(i % 2 * 1.5, 1)))), name=str(i)) for i in range(4000)]
    drawn = str(ranking_charts({"fused": examples(rows, "video")})["DET"])
    path = re.search(r'class="line fused" d="M([^"]+)"', drawn)
    assert path is not None
    points = np.array([list(map(float, point.split())) for point in path[1].split("L")])
    inside = (points[:, 0] > 80) & (points[:, 0] < 330) & (points[:, 1] > 30) & (points[:, 1] < 240)
    x, y = points[inside].T
    assert np.corrcoef(x, y)[0, 1] > 0.99 and probit(0.975) == pytest.approx(1.96, abs=1e-3)


def test_lines_are_told_apart_without_their_colours() -> None:
    lines = [tuple(series(index).split()) for index in range(56)]
    assert len(set(lines)) == 56 and len({dash for _, dash in lines[:7]}) == 7
    style = (Path(report_folder.__file__).parent / "page.css").read_text()
    patterns = dict(re.findall(r"\.(d\d) { stroke-dasharray: ([\d ]+); }", style))
    assert set(patterns) | {"d0"} == {dash for _, dash in lines} and len(set(patterns.values())) == len(patterns)
