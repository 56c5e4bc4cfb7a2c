"""An exported detector says what the detector says, for any number of samples, and carries what explains its input."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

import onnx

from detectors import store
from detectors.base import Detector, DetectorConfig, DetectorOutput
from detectors.methods.dual_level import DualLevel, DualLevelConfig
from detectors.methods.lrnet import LRNet, LRNetConfig
from detectors.methods.mesonet import MesoConfig, MesoNet
from detectors.onnx_export import ExportError, run_onnx, to_onnx
from detectors.store import Calibration, LoadedDetector
from preprocessing.inputs import FaceInput


class WithMap(Detector):
    """A face detector with a map of its own."""

    name = "with_map"
    native_map = True

    def __init__(self) -> None:
        super().__init__()
        self.config, self.input = DetectorConfig(), FaceInput(16)
        self.layer = torch.nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, batch: torch.Tensor) -> DetectorOutput:
        seen = self.layer(batch)[:, 0]
        return DetectorOutput(seen.mean((1, 2)), heatmap=seen.sigmoid())


class Undecided(WithMap):
    name = "undecided"

    def forward(self, batch: torch.Tensor) -> DetectorOutput:
        return super().forward(-batch if float(batch.sum()) > 0 else batch)


DETECTORS = {
    "mesonet": lambda: MesoNet(MesoConfig(size=128)),
    "meso4": lambda: MesoNet(MesoConfig(arch="meso4")),
    "lrnet": lambda: LRNet(LRNetConfig()),
    "lrnet keras": lambda: LRNet(LRNetConfig(arch="keras", length=60)),
    "dual_level": lambda: DualLevel(DualLevelConfig(encoder="mobilenetv1", hidden=16, frames=6, chunk=4)),
    "own map": WithMap,
}
ORIGIN = {"licence": "Apache-2.0", "data": "none", "command": "pytest", "date": "2026-01-01", "profile": "compact"}


def as_loaded(detector: Detector, folder: Path) -> LoadedDetector:
    calibration = Calibration(a=2.0, b=-0.5, fitted_on="none", n=3)
    card = store.save(detector, folder, name="one", calibration=calibration, **ORIGIN)
    return LoadedDetector(detector.eval(), card)


def samples(detector: Detector, count: int) -> Any:
    random = np.random.default_rng(count)
    spec: Any = detector.input
    if detector.name == "lrnet":
        return random.normal(0, 0.3, (count, spec.length, 136)).astype(np.float32)
    if detector.name == "dual_level":
        return random.integers(0, 256, (count, spec.length, spec.face.size, spec.face.size, 3), dtype=np.uint8)
    return random.integers(0, 256, (count, spec.size, spec.size, 3), dtype=np.uint8)


@pytest.mark.parametrize("which", DETECTORS)
def test_an_exported_detector_gives_the_same_answers(which: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = as_loaded(DETECTORS[which](), tmp_path)
    path = to_onnx(loaded, tmp_path / "network.onnx")
    assert path == tmp_path / "network.onnx"
    for count in (1, 2, 5):
        batch = loaded.detector.prepare(samples(loaded.detector, count))
        with torch.inference_mode():
            expected = loaded.detector(batch)
        found = run_onnx(path, batch.numpy())
        assert found["logit"].shape == (count,)
        assert np.allclose(found["logit"], expected.logit, atol=1e-3)
        if expected.heatmap is None:
            assert set(found) == {"logit"}
        else:
            assert np.allclose(found["heatmap"], expected.heatmap, atol=1e-3)


def test_the_file_says_whose_weights_they_are_and_what_they_take(tmp_path: Path) -> None:
    loaded = as_loaded(WithMap(), tmp_path)
    model = onnx.load(to_onnx(loaded, tmp_path / "network.onnx"))
    onnx.checker.check_model(model)
    facts = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert facts["detector"] == "with_map" and facts["licence"] == "Apache-2.0"
    assert facts["weights"] == {"name": "one", "sha256": loaded.card.sha256}
    assert facts["input"]["kind"] == "FaceInput" and facts["input"]["size"] == 16
    assert facts["calibration"] == {"a": 2.0, "b": -0.5}
    assert [i.name for i in model.graph.input] == ["batch"]
    assert [o.name for o in model.graph.output] == ["logit", "heatmap"]
    assert next(s.version for s in model.opset_import if s.domain == "") >= 18
    assert sorted(p.name for p in tmp_path.iterdir() if "onnx" in p.name) == ["network.onnx"]


def test_what_cannot_be_traced_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    loaded = as_loaded(Undecided(), tmp_path)
    with pytest.raises(ExportError, match="undecided could not be traced"):
        to_onnx(loaded, tmp_path / "network.onnx")
    assert not [p for p in tmp_path.iterdir() if "onnx" in p.name]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"{package}, which is not .* 'unmask-forensics\[onnx\]'"):
        if package == "onnxruntime":
            run_onnx(tmp_path / "none.onnx", np.zeros((1, 3, 16, 16), np.float32))
        else:
            to_onnx(as_loaded(WithMap(), tmp_path), tmp_path / "network.onnx")


def test_a_wrong_file_and_a_wrong_batch_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.onnx").write_bytes(b"no network")
    with pytest.raises(ExportError, match="cannot be read"):
        run_onnx(tmp_path / "wrong.onnx", np.zeros((1, 3, 16, 16), np.float32))
    path = to_onnx(as_loaded(WithMap(), tmp_path), tmp_path / "network.onnx")
    with pytest.raises(ValueError, match=r"takes \(B, 3, 16, 16\), not \(1, 3, 8, 8\)"):
        run_onnx(path, np.zeros((1, 3, 8, 8), np.float32))
