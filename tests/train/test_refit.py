"""The classifier of a metric-learning network, fitted after it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_media import make_pack

from train.loop import train
from train.monitor import keep
from train.recipe import build_data, create_detector, load_recipe
from train.refit import fit, main


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_a_separable_cloud_is_separated_wherever_it_lies(shift: float) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], 200)
    vectors = rng.normal(size=(400, 3)) * (1, 20, 0.1) + labels[:, None] * (3, 0, 0.3) + shift
    weight, bias = fit(vectors, labels)
    called = vectors @ weight + bias > 0
    assert (called == labels).mean() > 0.97


def run_of(name: str, folder: Path) -> tuple[Path, Path]:
    pack = make_pack(folder / "faces.npz", 12)
    changes = ["epochs=1", "workers=0", "batch=4", "data.settings.held_out=0.4", "data.settings.validation_items=4"]
    recipe = load_recipe(name, [*changes, f"data.settings.pack={pack}"])
    detector = create_detector(recipe)
    splits = build_data(recipe, detector, pack)
    train(detector, splits, recipe, folder / "run")
    keep(recipe, splits.summary, folder / "run")
    return folder / "run", pack


def test_a_runs_classifier_is_fitted_anew_and_nothing_else_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pack = run_of("triplet-compact", tmp_path)
    before = torch.load(run / "best.pt", weights_only=True)
    assert main([str(run), "--pairs", "6", "--data", str(pack)]) == 0
    after = torch.load(run / "best.pt", weights_only=True)
    assert {k for k, v in after.items() if not torch.equal(v, before[k])} == {"classifier.weight", "classifier.bias"}
    assert "before" in capsys.readouterr().out and not list(run.glob("*.part"))


def test_what_has_no_such_classifier_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, pack = run_of("xception-compact", tmp_path)
    shutil.copy(run / "best.pt", tmp_path / "kept.pt")
    assert main([str(run), "--data", str(pack)]) == 2
    assert "xception has no linear classifier" in capsys.readouterr().err
    assert (run / "best.pt").read_bytes() == (tmp_path / "kept.pt").read_bytes()
    assert main([str(tmp_path / "none")]) == 2
