"""Grad-CAM: where the evidence is, as bright as the detector is sure, and no trace left in the network."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detectors import store
from detectors.explain import grad_cam
from detectors.methods.lrnet import LRNet, LRNetConfig
from detectors.methods.mesonet import MesoConfig, MesoNet
from detectors.predict import heatmaps, predict
from detectors.store import LoadedDetector

ORIGIN = {"licence": "Apache-2.0", "data": "none", "command": "pytest", "date": "2026-01-01", "profile": "compact"}


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedDetector:
    torch.manual_seed(0)
    store.save(MesoNet(MesoConfig()), tmp_path, name="one", **ORIGIN)
    return store.load("mesonet", weights=tmp_path)


@pytest.fixture
def spot_finder(tmp_path: Path) -> LoadedDetector:
    """Meso-4 set by hand so that bright red is its only evidence for fake."""
    model = MesoNet(MesoConfig(arch="meso4"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()
        for stage in model.stages:
            convolution = stage[0][0]  # type: ignore[index]
            convolution.bias.zero_()
            convolution.weight[0, 0, convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2] = 1
        rows = torch.arange(1024) % 16 == 0
        model.hidden.weight[0, rows] = 1.0
        model.hidden.bias.zero_()
        model.output.weight[0, 0] = 8.0
        model.output.bias.fill_(-4.0)
    store.save(model, tmp_path, name="spot", **ORIGIN)
    return store.load("mesonet", weights=tmp_path)


def test_the_map_shows_where_the_evidence_is(spot_finder: LoadedDetector) -> None:
    picture = np.zeros((1, 256, 256, 3), np.uint8)
    picture[0, 160:224, 32:96, 0] = 255
    found = heatmaps(spot_finder, picture)
    assert found is not None
    assert found[0, 164:220, 36:92].min() > 0.99
    outside = found[0].copy()
    outside[144:240, 16:112] = 0
    assert outside.max() < 1e-6
    assert heatmaps(spot_finder, picture[..., ::-1])[0].max() < 0.05  # type: ignore[index]


def test_no_map_is_brighter_than_the_score(loaded: LoadedDetector) -> None:
    batch = loaded.detector.prepare(faces(5))
    found = grad_cam(loaded, batch)
    assert found is not None and found.shape == (5, 32, 32) and found.dtype == torch.float32
    scores = loaded.score(predict(loaded, faces(5)).logits)
    peaks = found.amax((1, 2)).numpy()
    assert bool((found >= 0).all())
    assert np.all(np.isclose(peaks, scores, atol=1e-5) | (peaks == 0))
    assert peaks.max() > 0


def test_a_face_that_is_surely_real_has_a_dark_map(spot_finder: LoadedDetector) -> None:
    faint = np.zeros((1, 256, 256, 3), np.uint8)
    faint[0, 64:72, 64:72, 0] = 2
    found = heatmaps(spot_finder, faint)
    assert found is not None
    assert 0 < found.max() < 0.02


@pytest.mark.slow
def test_the_formula_is_the_librarys(loaded: LoadedDetector) -> None:
    cam_library = pytest.importorskip("pytorch_grad_cam", reason="the Grad-CAM library is a development dependency")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")

    class FakeLogit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = loaded.detector

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.detector(batch).logit[:, None]

    batch = loaded.detector.prepare(faces(4))
    ours = grad_cam(loaded, batch)
    assert ours is not None
    with cam_library.GradCAM(model=FakeLogit(), target_layers=[loaded.detector.cam_layer()]) as cam:
        cam(input_tensor=batch, targets=[targets.ClassifierOutputTarget(0)] * 4)
        kept = cam.activations_and_grads
        raw = cam.get_cam_image(batch, None, None, kept.activations[0].numpy(), kept.gradients[0].numpy())
    theirs = np.maximum(raw, 0)
    peaks = theirs.max((1, 2), keepdims=True)
    assert peaks.max() > 0
    expected = theirs / np.where(peaks > 0, peaks, 1) * loaded.score(predict(loaded, faces(4)).logits)[:, None, None]
    assert np.allclose(ours, expected, atol=1e-5)


def test_the_network_is_left_as_it_was(loaded: LoadedDetector) -> None:
    before = {key: value.clone() for key, value in loaded.detector.state_dict().items()}
    heatmaps(loaded, faces(2))
    for key, value in loaded.detector.state_dict().items():
        assert torch.equal(before[key], value), key
    assert all(p.grad is None for p in loaded.detector.parameters())
    assert not any(module._forward_hooks for module in loaded.detector.modules())


def test_maps_do_not_depend_on_the_batch_or_on_other_threads(loaded: LoadedDetector) -> None:
    pictures = faces(10)
    together = heatmaps(loaded, pictures)
    assert together is not None and together.shape == (10, 256, 256) and together.dtype == np.float32
    alone: dict[int, NDArray[np.float32]] = {}

    def one(index: int) -> None:
        found = heatmaps(loaded, pictures[index : index + 1])
        assert found is not None
        alone[index] = found[0]

    threads = [threading.Thread(target=one, args=(i,)) for i in (0, 4, 9)]
    threads.append(threading.Thread(target=predict, args=(loaded, pictures)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, found in alone.items():
        assert np.allclose(found, together[index], atol=1e-4)


def test_a_method_that_sees_no_image_has_no_map(tmp_path: Path) -> None:
    torch.manual_seed(0)
    store.save(LRNet(LRNetConfig()), tmp_path, name="one", **ORIGIN)
    lrnet = store.load("lrnet", weights=tmp_path)
    rows = np.zeros((1, 30, 136), np.float32)
    assert heatmaps(lrnet, rows) is None
    assert grad_cam(lrnet, lrnet.detector.prepare(rows)) is None
