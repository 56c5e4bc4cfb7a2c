"""Another runtime gives the same logits and embeddings, is named in what it gives, and is never taken unchecked."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

from detectors import backends
from detectors.backends import TOLERANCE, on_backend, on_onnx
from detectors.base import Detector, DetectorConfig, DetectorOutput
from detectors.local import LocalStages, analyse_file
from detectors.onnx_export import ExportError, NoPackage
from detectors.predict import predict
from detectors.store import LoadedDetector, WeightCard, load
from preprocessing.inputs import FaceInput

SAMPLE = Path(__file__).resolve().parents[2] / "ui" / "samples" / "astronaut-fake.jpg"


class Tiny(Detector):
    """Small enough to be exported often; `moves` is what its second half of life adds to a logit."""

    name = "tiny"

    def __init__(self) -> None:
        super().__init__()
        self.config, self.input = DetectorConfig(), FaceInput(16)
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.moves = 0.0

    def forward(self, batch: torch.Tensor) -> DetectorOutput:
        seen = self.layer(batch).mean((2, 3))
        return DetectorOutput(seen.sum(1) + self.moves, embedding=seen)


class Undecided(Tiny):
    name = "undecided"

    def forward(self, batch: torch.Tensor) -> DetectorOutput:
        return super().forward(-batch if float(batch.sum()) > 0 else batch)


def loaded(detector: Detector) -> LoadedDetector:
    card = WeightCard(
        detector=detector.name, profile="compact", name=f"{detector.name}-test", file="one.safetensors",
        sha256="a" * 64, bytes=1, licence="none", data="none", command="none", date="2026-01-01", config={},
    )  # fmt: skip
    return LoadedDetector(detector.eval(), card)


def pictures(spec: Any, count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, spec.size, spec.size, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "unmask" / "onnx"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.mark.parametrize("name", ["mesonet", "triplet"])
def test_shipped_weights_keep_their_logits_and_embeddings(name: str) -> None:
    usual = load(name)
    moved = on_onnx(usual)
    assert usual.label == f"{name}-compact@{usual.card.sha256[:12]}"
    assert moved.label == f"{name}-compact+onnx@{usual.card.sha256[:12]}"
    given = pictures(usual.detector.input, 3)
    expected, found = predict(usual, given), predict(moved, given)
    assert np.abs(found.logits - expected.logits).max() < TOLERANCE
    assert expected.embeddings is not None and found.embeddings is not None
    assert np.allclose(found.embeddings, expected.embeddings, atol=1e-4)


def test_a_network_is_exported_once(cache: Path, told: list[str]) -> None:
    one = loaded(Tiny())
    assert on_onnx(one, told.append).backend == "onnx" and on_onnx(one, told.append).backend == "onnx"
    assert told == ["tiny-test is exported for ONNX Runtime, once"]
    assert len(list(cache.glob("*.onnx"))) == 1


def test_a_kept_network_that_is_damaged_or_of_other_code_is_made_again(cache: Path, told: list[str]) -> None:
    tiny = Tiny()
    on_onnx(loaded(tiny), told.append)
    next(cache.glob("*.onnx")).write_bytes(b"half a file")
    on_onnx(loaded(tiny), told.append)
    tiny.moves = 2 * TOLERANCE
    found = on_onnx(loaded(tiny), told.append)
    given = pictures(tiny.input, 1)
    assert len(told) == 3
    assert np.abs(predict(found, given).logits - predict(loaded(tiny), given).logits).max() < 1e-5


def test_a_backend_that_moves_a_logit_is_refused_and_the_detector_stays(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    monkeypatch.setattr(backends, "TOLERANCE", -1.0)
    one = loaded(Tiny())
    with pytest.raises(ExportError, match="moves a logit of tiny-test by"):
        on_onnx(one, told.append)
    assert on_backend({"tiny": one}, "onnx", told.append) == {"tiny": one}
    assert told[-1].startswith("tiny stays on PyTorch: ONNX Runtime moves a logit")


def test_what_cannot_be_exported_stays_on_pytorch_and_is_told(told: list[str]) -> None:
    found = on_backend({"undecided": loaded(Undecided()), "tiny": loaded(Tiny())}, "onnx", told.append)
    assert {name: one.backend for name, one in found.items()} == {"undecided": "torch", "tiny": "onnx"}
    assert any(line.startswith("undecided stays on PyTorch: undecided could not be traced") for line in told)


def test_without_its_packages_nothing_falls_back_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NoPackage, match=r"onnxruntime.*'unmask-forensics\[onnx\]'"):
        on_backend({"tiny": loaded(Tiny())}, "onnx")


def test_a_home_that_cannot_be_written_costs_an_export_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    one = loaded(Tiny())
    assert [on_onnx(one, told.append).backend for _ in range(2)] == ["onnx"] * 2
    assert len(told) == 2


def test_an_analysis_names_the_backend_and_scores_the_same() -> None:
    detectors = {"mesonet": load("mesonet")}
    usual = analyse_file(SAMPLE, LocalStages(detectors)).result.faces[0].detectors["mesonet"]
    found = analyse_file(SAMPLE, LocalStages(detectors, backend="onnx")).result.faces[0].detectors["mesonet"]
    assert found.weights == usual.weights.replace("@", "+onnx@")
    assert found.score == pytest.approx(usual.score, abs=1e-4) and found.logit == pytest.approx(usual.logit, abs=1e-4)
