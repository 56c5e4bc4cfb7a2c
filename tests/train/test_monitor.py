"""Where a run's figures go while it runs."""

import struct
import threading
from pathlib import Path

import pytest

from train.loop import EpochMetrics, Progress
from train.monitor import Monitor
from train.recipe import RecipeError, load_recipe


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves in TensorBoard's files: records of length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_the_curves_are_in_tensorboards_files_once_per_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboardX")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = EpochMetrics(0, 5, 0.7, 0.6, 0.75, 1e-3, 3661.0, 10, 0.25)
    threads = threading.active_count()
    with Monitor(load_recipe("lrnet-compact"), tmp_path) as monitor:
        monitor.progress(Progress(1, 2, 5, 5, 0.7, 100.0, 61.0))
        monitor.epoch(first)
        monitor.epoch(first)
        assert threading.active_count() == threads, "a Ctrl-C between two threads may leave them waiting for each other"
        assert events(tmp_path / "tensorboard")["validation/auc"], "already there for who watches"
    found = events(tmp_path / "tensorboard")
    assert found["validation/auc"] == [(5, 0.75)] and found["train/loss"] == [(5, pytest.approx(0.7))]
    assert found["train/samples_per_s"] == [(5, 100.0)] and found["train/wait"] == [(5, 0.25)]
    assert {name.split("/")[0] for name in found} == {"train", "validation"}, "the groups that TensorBoard opens"
    told = capsys.readouterr().err
    assert "epoch 1/2 step 5/5 loss 0.7000 100 samples/s, 1:01 left" in told
    assert told.count("AUC 0.7500 (1:01:01, training waited 25% for data)") == 1


def test_mlflow_that_is_set_and_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="mlflow is not installed"):
        Monitor(load_recipe("lrnet-compact"), tmp_path)


def test_mlflow_gets_what_the_recipe_says_and_the_curves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no other store of its own
    with Monitor(load_recipe("lrnet-compact"), None) as monitor:
        monitor.epoch(EpochMetrics(0, 5, 0.7, 0.6, 0.75, 1e-3, 2.0, 10))
    (run,) = mlflow.search_runs(experiment_names=["unmask"], output_format="list")
    assert run.info.status == "FINISHED" and run.data.metrics["validation/auc"] == 0.75
    assert run.data.params["optimiser.lr"] == "0.003"
