"""Cards and tables of the operator's pages: everything is said, nothing that others wrote is read as HTML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from detectors.store import located as shipped
from preprocessing.settings import MediaLimits
from ui import evaluation_words, operator_cards, operator_words, training_words
from ui.dashboard import charts
from ui.operator_words import seconds

EVIL = "<img src=x onerror=alert(1)>"


def card(**changes: Any) -> dict[str, Any]:
    metric = {
        "set": f"videos {EVIL}",
        "metric": "auc",
        "value": 0.81234,
        "low": 0.7,
        "high": 0.9,
        "n": 1234,
        "note": "",
    }
    values: dict[str, Any] = {
        "name": "mesonet", "title": "MesoNet", "looks_at": EVIL, "profile": "compact", "calibrated": False,
        "paper": EVIL, "year": 2018, "url": "https://example.org", "weights": "mesonet-compact@0123",
        "parameters": 16327, "licence": "Apache-2.0", "data": "faces",
        "limits": EVIL, "sha256": "f" * 64, "bytes": 38274,
        "date": "2026-11-20", "calibration": "", "metrics": [metric],
    }  # fmt: skip
    return {**values, **changes}


def test_a_model_card_has_figures_with_intervals_licence_and_the_weights_hash() -> None:
    page = operator_cards.model_card(card())
    assert "0.812<small>0.70 to 0.90</small>" in page and "n = 1,234" in page and ">AUC<" in page
    assert "f" * 64 in page and "Apache-2.0" in page and "not calibrated" in page and "37 KiB" in page
    assert "<img" not in page and "javascript" not in operator_cards.model_card(card(url="javascript:alert(1)"))


def test_what_was_not_measured_is_said_so() -> None:
    page = operator_cards.model_card(card(metrics=[]))
    assert page.count("not measured") == 2


NOTES = {"jpeg-4": "JPEG, quality 60; few files"}


def test_the_robustness_grid_has_a_column_for_each_step_and_says_which_cell_is_missing() -> None:
    def cell(where: str, step: str, value: float) -> dict[str, Any]:
        return {
            "set": where,
            "metric": "AUC",
            "value": value,
            "n": 9,
            "perturbation": step,
            "note": NOTES.get(step),
        }

    cells = [cell("a", "jpeg-4", 0.7), cell("a", "blur-2", 0.6), cell("b", "jpeg-4", 0.8)]
    page = operator_cards.model_card(card(metrics=cells))
    assert page.count('<th scope="col">JPEG, quality 60</th>') == 1 and "0.600" in page
    assert page.count("not measured") == 2  # one cell, and no unperturbed figures


def test_the_headline_says_what_is_not_defined() -> None:
    empty = {"value": None, "low": None, "high": None, "n": 0}
    figures = dict.fromkeys(evaluation_words.FIGURES, empty)
    page = operator_cards.headline({"overall": figures, "by_detector": {EVIL: {}}})
    assert page.count("–") >= len(figures) and "<img" not in page and "Together" in page


def test_what_does_not_work_is_said_with_the_way_out_and_commands_are_shown_as_such() -> None:
    page = operator_cards.trouble("No cluster", f"nothing answers at {EVIL}", "start one with `ray start --head`")
    assert "Nothing answers at &lt;img" in page and "<code>ray start --head</code>" in page


def test_every_state_is_told_by_sign_and_words() -> None:
    signs = [*evaluation_words.STATES.values(), *training_words.STATES.values(), *operator_words.PARTS.values()]
    assert all(one.sign and one.title and one.title in operator_cards.state(one) for one in signs)
    for group in (evaluation_words.STATES, training_words.STATES):
        assert len({one.sign for one in group.values()}) == len(group)


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.0123, "12 ms"), (3.14, "3.1 s"), (190, "3 min 10 s"), (7300, "2 h 1 min")]
)
def test_a_duration_is_said_in_its_own_unit(value: float | None, said: str) -> None:
    assert seconds(value) == said


def test_a_figure_without_interval_has_none_and_a_card_has_the_detectors_name() -> None:
    assert operator_cards.estimate({"value": 0.81234, "low": None, "high": None}) == "0.812"
    page = operator_cards.model_card(card(title="Frame CNN", name="frame_cnn"))
    assert "Frame CNN" in page and '<span class="um-tag">frame_cnn</span>' in page


def test_every_figure_of_the_shipped_weights_is_said_without_jargon() -> None:
    said = [operator_words.METRICS.get(one.metric, one.metric) for found in shipped() for one in found.card.metrics]
    assert said and not [words for words in said if "logit" in words]


def test_a_long_route_may_break_and_its_heading_stands_above_its_figures_on_a_phone() -> None:
    assert operator_cards.breakable("/v1/<x>") == "/<wbr>v1/<wbr>&lt;x&gt;"
    page = operator_cards.table(["Route", "Answered"], [["a", "1"]], "Answers", stacked=True)
    assert 'class="um-table um-stacked"' in page
    assert "um-stacked" not in operator_cards.table(["Route", "Answered"], [["a", "1"]], "Answers")


def test_every_chart_of_the_dashboard_has_words_for_who_does_not_see_it() -> None:
    """ui/dashboard/charts.py asks for them; nothing goes past it."""
    folder = Path(charts.__file__).parent
    past = [path.name for path in folder.glob("*.py") if "st.plotly_chart" in path.read_text(encoding="utf-8")]
    assert past == ["charts.py"]


def test_the_pages_take_no_less_than_the_api() -> None:
    config = tomllib.loads((Path(charts.__file__).parent / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["server"]["maxUploadSize"] << 20 >= MediaLimits().max_bytes
