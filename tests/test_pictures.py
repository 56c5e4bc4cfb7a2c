"""The documentation shows every picture that is taken of the pages, and no other."""

import re
from pathlib import Path

from docs.screenshots import PAPER
from docs.shots import shots

DOCS = Path(__file__).resolve().parents[1] / "docs"
PLOTS = {"autoscaling"}
"""Of measurements, by benchmarks/."""


def test_every_picture_is_in_the_documentation_with_words_for_those_who_cannot_see_it() -> None:
    shown = [
        found for page in DOCS.glob("*.md") for found in re.findall(r"!\[(.*)\]\(images/(.*)\.png\)", page.read_text())
    ]
    assert {name for _, name in shown} == {shot.name for shot in shots({}, Path("/"), print, None)} | {PAPER} | PLOTS
    assert all(len(words.split()) > 3 for words, _ in shown)
