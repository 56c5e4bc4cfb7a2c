"""Each detector has a page, and what the page says of the code is what the code says."""

import json
import subprocess
import sys

import pytest

from detectors.registry import entry, names
from detectors.store import Metric, available
from ui.detector_pages import CARD, END, FOLDER, START, SWAPS, readme_table, stale, with_card, with_facts
from ui.listing import print_detectors

OURS = [name for name in names() if entry(name).cls.__module__.startswith("detectors.methods.")]


def test_no_page_is_missing_or_stale() -> None:
    assert stale(write=False) == [], "run python -m ui.detector_pages"


def test_a_page_without_the_part_gets_it_under_its_title() -> None:
    generated = f"{START}\nfacts\n{END}"
    assert with_facts("# Name\n\nText.\n", generated) == f"# Name\n\n{generated}\n\nText.\n"
    assert with_facts(f"# Name\n\n{START}\nold\n{END}\n\nText.\n", generated) == f"# Name\n\n{generated}\n\nText.\n"


def test_the_card_of_shipped_weights_ends_a_page_and_goes_with_them() -> None:
    card = available()["lrnet"]
    page = with_card("# Name\n\nText.\n", card)
    assert page.startswith("# Name\n\nText.\n\n" + CARD) and page.endswith(END + "\n")
    assert card.data in page and card.licence in page and card.limits in page and card.command in page
    assert with_card(page, card) == page and with_card(page, None) == "# Name\n\nText.\n"


def test_what_perturbed_media_gave_stands_beside_what_they_gave_as_they_are() -> None:
    plain = Metric(set=SWAPS, metric="AUC", value=0.9, n=29)
    steps = [
        plain.model_copy(update={"value": value, "perturbation": step, "note": f"{step} in words; more"})
        for step, value in (("jpeg-5", 0.8), ("small-2", 0.7))
    ]
    alone = Metric(set="elsewhere", metric="AUC", value=0.5, n=3)
    card = available()["lrnet"].model_copy(update={"metrics": (plain, *steps, alone)})
    page = with_card("# Name\n", card)
    assert "| perturbed | as they are | jpeg-5 in words | small-2 in words |" in page
    assert f"| {SWAPS}: AUC | 0.900 | 0.800 | 0.700 |" in page and page.count("elsewhere") == 1
    assert page.count("| 0.800 |") == 1, "perturbed figures are no rows of their own"
    assert "0.900, n = 29" in readme_table([card])


def test_the_readmes_table_shows_what_the_cards_say_and_no_more() -> None:
    shown = Metric(set=SWAPS, metric="video AUC", value=0.9, low=0.8, high=0.95, n=29)
    card = available()["lrnet"].model_copy(update={"metrics": (shown,)})
    assert "| [lrnet](docs/detectors/lrnet.md) | 0.900 [0.800, 0.950], n = 29 | – | – |" in readme_table([card])


def test_every_page_is_listed_in_the_table() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in OURS if f"({name}.md)" not in table] == []


def test_the_listing_names_paper_year_and_licence_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    print_detectors(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    for name in OURS:
        meta = entry(name).cls.meta
        assert any(
            line.startswith(name) and meta.paper in line and str(meta.year) in line and meta.licence in line
            for line in lines
        )


def test_the_command_line_lists_every_detector_with_its_input_and_licence() -> None:
    done = subprocess.run([sys.executable, "-m", "ui.cli", "detectors", "--json"], capture_output=True, check=True)
    rows = json.loads(done.stdout)
    assert sorted({row["name"] for row in rows}) == OURS
    assert all(row["input"] and row["licence"] and row["parameters"] > 0 for row in rows)
