"""A recipe's overrides as a page takes them."""

from __future__ import annotations

import json

import pytest

from preprocessing.perturb import suites
from ui import recipe_check
from ui.errors import UsageError
from ui.evaluation_words import SUITES


def test_overrides_are_a_line_each() -> None:
    assert recipe_check.overrides_of("\n epochs=5 \n# not this\noptimiser.lr=3e-4\n") == [
        "epochs=5",
        "optimiser.lr=3e-4",
    ]
    with pytest.raises(UsageError, match="'epochs 5' is not of the form key=value"):
        recipe_check.overrides_of("epochs 5")


def test_a_recipe_that_can_be_trained_is_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    assert "lrnet-compact" in recipe_check.names()
    assert recipe_check.main(["lrnet-compact", "epochs=3", "name=mine"]) == 0
    found = recipe_check.Checked(**json.loads(capsys.readouterr().out))
    assert (found.name, found.detector, found.epochs) == ("mine", "lrnet", 3)
    assert found.parameters > 1000 and "epochs: 3" in found.resolved


def test_a_wrong_key_names_the_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_check.main(["lrnet-compact", "epohcs=3"]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no recipe"):
        recipe_check.check("../secrets", [])


def test_the_suites_that_the_page_offers_are_there() -> None:
    assert set(SUITES) - {""} <= set(suites())
