"""Each detector has a page, and what the page says of the code is what the code says."""

import json
import subprocess
import sys

from detectors.registry import entry, names
from ui.detector_pages import END, FOLDER, START, stale, with_facts

OURS = [name for name in names() if entry(name).cls.__module__.startswith("detectors.methods.")]


def test_no_page_is_missing_or_stale() -> None:
    assert stale(write=False) == [], "run python -m ui.detector_pages"


def test_a_page_without_the_part_gets_it_under_its_title() -> None:
    generated = f"{START}\nfacts\n{END}"
    assert with_facts("# Name\n\nText.\n", generated) == f"# Name\n\n{generated}\n\nText.\n"
    assert with_facts(f"# Name\n\n{START}\nold\n{END}\n\nText.\n", generated) == f"# Name\n\n{generated}\n\nText.\n"


def test_every_page_is_listed_in_the_table() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in OURS if f"({name}.md)" not in table] == []


def test_the_command_line_lists_every_detector_with_its_input_and_licence() -> None:
    done = subprocess.run([sys.executable, "-m", "ui.cli", "detectors", "--json"], capture_output=True, check=True)
    rows = json.loads(done.stdout)
    assert sorted({row["name"] for row in rows}) == OURS
    assert all(row["input"] and row["licence"] and row["parameters"] > 0 for row in rows)
