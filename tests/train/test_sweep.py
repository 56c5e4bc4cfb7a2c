"""Many settings of a recipe on Ray Tune: which they are, and what becomes of each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from landmark_sequences import write_sequences

from train.__main__ import main
from train.recipe import RecipeError
from train.sweep import settings


@pytest.mark.slow
@pytest.mark.e2e
def test_a_sweep_trains_every_setting(tmp_path: Path) -> None:
    """The first run was finished by a sweep that was stopped, in the place of the last is a run of another sweep."""
    sequences, out = write_sequences(tmp_path / "sequences"), tmp_path / "sweep"
    given = ["lrnet-compact", "--data", str(sequences), "epochs=1", "data.settings.windows=8"]
    for folder, rate in (("run000", "1e-4"), ("run002", "1e-2")):
        assert main([*given, f"optimiser.lr={rate}", "--out", str(out / folder)]) == 0
    before = (out / "run000/last.pt").stat().st_mtime_ns
    ended = subprocess.run(
        [sys.executable, "-m", "train", "sweep", *given, "--param", "optimiser.lr=1e-4,3e-3,1e-3", "--out", str(out)],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr[-4000:]
    *lines, lost = json.loads((out / "sweep.json").read_text())
    assert sorted(line["overrides"] for line in lines) == [["optimiser.lr=1e-4"], ["optimiser.lr=3e-3"]]
    assert lines[0]["auc"] >= lines[1]["auc"] and not any(line["failed"] for line in lines)
    assert all((Path(line["folder"]) / "best.pt").exists() for line in lines)
    assert (out / "run000/last.pt").stat().st_mtime_ns == before, "not trained again"
    assert lost["failed"] and "holds a run with other values of optimiser" in lost["why"]
    assert f"failed ({lost['why']}): optimiser.lr=1e-3" in ended.stdout


def test_a_sweep_takes_all_combinations_or_draws_from_them() -> None:
    params = ["optimiser.lr=1e-4,3e-4", "batch=8,16"]
    assert settings(params, None, 1) == [
        ["optimiser.lr=1e-4", "batch=8"],
        ["optimiser.lr=1e-4", "batch=16"],
        ["optimiser.lr=3e-4", "batch=8"],
        ["optimiser.lr=3e-4", "batch=16"],
    ]
    three = settings(params, 3, 1)
    assert len({tuple(one) for one in three}) == 3 and three == settings(params, 3, 1)
    drawn = [float(one[0].partition("=")[2]) for one in settings(["optimiser.lr=1e-5..1e-2"], 20, 1)]
    assert len(set(drawn)) == 20 and all(1e-5 <= value <= 1e-2 for value in drawn)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "needs one --param"),
        (["batch=8", "batch=16"], "needs one --param"),
        (["batch"], "neither key=value"),
        (["optimiser.lr=1e-2..1e-5"], "neither key=value"),
        (["optimiser.lr=1e-5..1e-2"], "needs --samples"),
    ],
)
def test_a_mistake_in_a_sweep_is_named(params: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(params, None, 1)
