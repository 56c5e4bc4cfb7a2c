"""From a run folder to weights that detectors load."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_media import make_pack

from detectors.predict import predict
from detectors.store import load
from train.__main__ import run
from train.export import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of the shipped recipe's network on a few pictures."""
    folder = tmp_path_factory.mktemp("export")
    pack = make_pack(folder / "faces.npz", 12)
    overrides = [f"data.settings.pack={pack}", "data.settings.held_out=0.4", "epochs=1", "batch=2"]
    result = run("mesonet-compact", out=folder / "run", overrides=[*overrides, "workers=0"], device="cpu")
    assert result == folder / "run"
    return folder / "run"


def test_exported_weights_load_with_their_card_and_give_the_runs_scores(finished: Path, tmp_path: Path) -> None:
    assert main([str(finished), "--out", str(tmp_path), "--limits", "a test"]) == 0
    loaded = load("mesonet", "compact", tmp_path)
    assert loaded.card.seed == 1 and loaded.card.limits == "a test" and "train mesonet-compact" in loaded.card.command
    metric = loaded.card.metrics[0]
    assert metric.set == "validation" and 0 <= metric.value <= 1 and metric.n >= 2
    state = torch.load(finished / "best.pt", weights_only=True)
    for key, value in loaded.detector.state_dict().items():
        assert torch.allclose(value.float(), state[key].float(), rtol=1e-3, atol=1e-6), key
    size = loaded.detector.config.model_dump()["size"]
    assert np.isfinite(predict(loaded, np.zeros((1, size, size, 3), np.uint8)).logits).all()


def test_given_metrics_replace_the_runs_own(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('[{"set": "validation", "metric": "auc", "value": 0.5, "n": 9}]')
    assert main([str(finished), "--out", str(tmp_path), "--metrics", str(tmp_path / "metrics.json")]) == 0
    assert [m.n for m in load("mesonet", "compact", tmp_path).card.metrics] == [9]


def test_what_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "is not a run folder with a finished epoch" in capsys.readouterr().err
    (tmp_path / "m.json").write_text('[{"set": "validation"}]')
    assert main([str(finished), "--out", str(tmp_path), "--metrics", str(tmp_path / "m.json")]) == 2
    assert "Field required" in capsys.readouterr().err
